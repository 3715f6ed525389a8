// out [rows, F] = silu(x[:, 0 .. F)) * x[:, F .. 2F), scalar.

#include "kernels/cpu/swiglu.h"

#include "kernels/cpu/math.h"

namespace qvl::kernels::scalar {

void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* gate = args.x + row * args.x_stride;
    const float* up = gate + args.cols;
    float* out = args.out + row * args.out_stride;
    for (int64_t i = 0; i < args.cols; ++i) out[i] = silu(gate[i]) * up[i];
  }
}

}  // namespace qvl::kernels::scalar
