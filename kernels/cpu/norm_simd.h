#pragma once

// RMSNorm and LayerNorm over rows, in the order of norm.cpp.

#include "kernels/cpu/math_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Calls add(sum, i, lanes) with the partial sums that element i belongs to; returns their total.
template <class Add>
inline float sum_over(int64_t cols, const Add& add_vector) {
  Vector sums[kSumVectors];
  for (Vector& sum : sums) sum = zero();
  int64_t i = 0;
  for (; i + kPartialSums <= cols; i += kPartialSums) {
    unroll<kSumVectors>([&](auto index) QVL_ALWAYS_INLINE {
      constexpr int v = decltype(index)::value;
      add_vector(sums[v], i + v * kLanes, AllLanes{});
    });
  }
  unroll<kSumVectors>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int v = decltype(index)::value;
    const int64_t from = i + v * kLanes;
    if (from < cols) add_vector(sums[v], from, FirstLanes(cols - from));
  });
  return sum_partial_sums(sums);
}

inline float sum_of_squares(const float* x, int64_t cols, float mean) {
  const Vector centre = broadcast(mean);
  return sum_over(cols, [&](Vector& sum, int64_t i, auto lanes) QVL_ALWAYS_INLINE {
    const Vector centred = select(lanes, sub(load(x + i, lanes), centre), zero());
    sum = fmadd(centred, centred, sum);
  });
}

inline float sum(const float* x, int64_t cols) {
  return sum_over(cols, [&](Vector& total, int64_t i, auto lanes)
                            QVL_ALWAYS_INLINE { total = add(total, load(x + i, lanes)); });
}

// 1 / sqrt(mean of squares + eps) in every lane.
inline Vector inverse_deviation(const float* x, int64_t cols, float mean, float eps) {
  const float variance = sum_of_squares(x, cols, mean) / static_cast<float>(cols) + eps;
  return div(broadcast(1.0f), sqrt(broadcast(variance)));
}

void rms_norm(const RowsArgs& args, const float* weight, float eps, int64_t first_row,
              int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const Vector inverse = inverse_deviation(x, args.cols, 0.0f, eps);
    for_vectors(args.cols, [&](int64_t i, auto lanes) {
      store(out + i, mul(mul(load(x + i, lanes), inverse), load(weight + i, lanes)), lanes);
    });
  }
}

void layer_norm(const RowsArgs& args, const float* weight, const float* bias, float eps,
                int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* out = args.out + row * args.out_stride;
    const float mean = sum(x, args.cols) / static_cast<float>(args.cols);
    const Vector inverse = inverse_deviation(x, args.cols, mean, eps);
    for_vectors(args.cols, [&](int64_t i, auto lanes) {
      const Vector normal = mul(sub(load(x + i, lanes), broadcast(mean)), inverse);
      store(out + i, fmadd(normal, load(weight + i, lanes), load(bias + i, lanes)), lanes);
    });
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
