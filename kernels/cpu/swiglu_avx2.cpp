// out [rows, F] = silu(x[:, 0 .. F)) * x[:, F .. 2F), AVX2.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/avx2.h"
#include "kernels/cpu/swiglu.h"

namespace qvl::kernels::avx2 {

void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* gate = args.x + row * args.x_stride;
    const float* up = gate + args.cols;
    float* out = args.out + row * args.out_stride;
    for (int64_t i = 0; i < args.cols; i += kLanes) {
      const __m256i mask = lane_mask(args.cols - i);
      const __m256 activated = swish(_mm256_maskload_ps(gate + i, mask), -1.0f);
      _mm256_maskstore_ps(out + i, mask,
                          _mm256_mul_ps(activated, _mm256_maskload_ps(up + i, mask)));
    }
  }
}

}  // namespace qvl::kernels::avx2

#endif  // x86-64
