// RMSNorm and LayerNorm over rows, AVX2, in the order of norm.cpp.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/avx2.h"
#include "kernels/cpu/norm.h"

namespace qvl::kernels::avx2 {
namespace {

// Calls body(i, mask) for every vector of a row; `mask` has the lanes that exist.
template <class Body>
inline void for_vectors(int64_t cols, const Body& body) {
  const __m256i all = _mm256_set1_epi32(-1);
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) body(i, all);
  if (i < cols) body(i, lane_mask(cols - i));
}

float sum_of_squares(const float* x, int64_t cols, float mean) {
  const __m256 centre = _mm256_set1_ps(mean);
  __m256 sums[kVectors] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                           _mm256_setzero_ps()};
  const auto add = [&](int64_t i, __m256i mask) {
    __m256 value = _mm256_sub_ps(_mm256_maskload_ps(x + i, mask), centre);
    value = _mm256_and_ps(value, _mm256_castsi256_ps(mask));
    __m256& sum = sums[i / kLanes % kVectors];
    sum = _mm256_fmadd_ps(value, value, sum);
  };
  for_vectors(cols, add);
  return sum_lanes(sums[0], sums[1], sums[2], sums[3]);
}

float sum(const float* x, int64_t cols) {
  __m256 sums[kVectors] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                           _mm256_setzero_ps()};
  for_vectors(cols, [&](int64_t i, __m256i mask) {
    __m256& total = sums[i / kLanes % kVectors];
    total = _mm256_add_ps(total, _mm256_maskload_ps(x + i, mask));
  });
  return sum_lanes(sums[0], sums[1], sums[2], sums[3]);
}

// 1 / sqrt(mean of squares + eps)
__m256 inverse_deviation(const float* x, int64_t cols, float mean, float eps) {
  const float variance = sum_of_squares(x, cols, mean) / static_cast<float>(cols) + eps;
  const __m128 root = _mm_sqrt_ss(_mm_set_ss(variance));
  return _mm256_broadcastss_ps(_mm_div_ss(_mm_set_ss(1.0f), root));
}

}  // namespace

void rms_norm(const RowsArgs& args, const float* weight, float eps, int64_t first_row,
              int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const __m256 inverse = inverse_deviation(x, args.cols, 0.0f, eps);
    for_vectors(args.cols, [&](int64_t i, __m256i mask) {
      const __m256 value = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), inverse);
      _mm256_maskstore_ps(out + i, mask,
                          _mm256_mul_ps(value, _mm256_maskload_ps(weight + i, mask)));
    });
  }
}

void layer_norm(const RowsArgs& args, const float* weight, const float* bias, float eps,
                int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const float mean = sum(x, args.cols) / static_cast<float>(args.cols);
    const __m256 inverse = inverse_deviation(x, args.cols, mean, eps);
    for_vectors(args.cols, [&](int64_t i, __m256i mask) {
      const __m256 centred = _mm256_sub_ps(_mm256_maskload_ps(x + i, mask), _mm256_set1_ps(mean));
      _mm256_maskstore_ps(
          out + i, mask,
          _mm256_fmadd_ps(_mm256_mul_ps(centred, inverse), _mm256_maskload_ps(weight + i, mask),
                          _mm256_maskload_ps(bias + i, mask)));
    });
  }
}

}  // namespace qvl::kernels::avx2

#endif  // x86-64
