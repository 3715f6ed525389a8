// Rotary position embedding in place, half convention.

#include "kernels/cpu/rope.h"

namespace qvl::kernels::scalar {

void rope(const RopeArgs& args, int64_t first_row, int64_t last_row) {
  const int64_t half = args.head_dim / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* c = args.cos + row * args.cos_stride;
    const float* s = args.sin + row * args.sin_stride;
    for (int64_t head = 0; head < args.heads; ++head) {
      float* lower = args.x + row * args.x_stride + head * args.head_dim;
      float* upper = lower + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = lower[i];
        const float b = upper[i];
        lower[i] = a * c[i] - b * s[i];
        upper[i] = b * c[i] + a * s[i];
      }
    }
  }
}

}  // namespace qvl::kernels::scalar
