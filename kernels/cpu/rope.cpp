// Rotary position embedding in place, half convention. Bound by memory: one version serves all.

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

void rope(float* x, int64_t x_stride, int64_t heads, int64_t head_dim, const float* cos,
          int64_t cos_stride, const float* sin, int64_t sin_stride, int64_t first_row,
          int64_t last_row) {
  const int64_t half = head_dim / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* c = cos + row * cos_stride;
    const float* s = sin + row * sin_stride;
    for (int64_t head = 0; head < heads; ++head) {
      float* lower = x + row * x_stride + head * head_dim;
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

}  // namespace qvl::kernels
