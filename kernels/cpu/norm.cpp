// RMSNorm and LayerNorm over rows, scalar. Sums are made in kPartialSums partial sums, which are
// then added by sum_partial_sums(): the order of the vector code.

#include "kernels/cpu/norm.h"

#include <cmath>

#include "kernels/cpu/math.h"

namespace qvl::kernels::scalar {
namespace {

// Sum of (x[i] - mean)^2.
float sum_of_squares(const float* x, int64_t cols, float mean) {
  float sums[kPartialSums] = {};
  for (int64_t i = 0; i < cols; ++i) {
    const float centred = x[i] - mean;
    sums[i % kPartialSums] = std::fma(centred, centred, sums[i % kPartialSums]);
  }
  return sum_partial_sums(sums);
}

float sum(const float* x, int64_t cols) {
  float sums[kPartialSums] = {};
  for (int64_t i = 0; i < cols; ++i) sums[i % kPartialSums] += x[i];
  return sum_partial_sums(sums);
}

}  // namespace

void rms_norm(const RowsArgs& args, const float* weight, float eps, int64_t first_row,
              int64_t last_row) {
  const float cols = static_cast<float>(args.cols);
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const float inverse = 1.0f / std::sqrt(sum_of_squares(x, args.cols, 0.0f) / cols + eps);
    for (int64_t i = 0; i < args.cols; ++i) out[i] = x[i] * inverse * weight[i];
  }
}

void layer_norm(const RowsArgs& args, const float* weight, const float* bias, float eps,
                int64_t first_row, int64_t last_row) {
  const float cols = static_cast<float>(args.cols);
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const float mean = sum(x, args.cols) / cols;
    const float inverse = 1.0f / std::sqrt(sum_of_squares(x, args.cols, mean) / cols + eps);
    for (int64_t i = 0; i < args.cols; ++i) {
      out[i] = std::fma((x[i] - mean) * inverse, weight[i], bias[i]);
    }
  }
}

}  // namespace qvl::kernels::scalar
