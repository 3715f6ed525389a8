#pragma once

// Rotary position embedding in vectors, operation by operation as in rope.cpp.

#include "kernels/cpu/math_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

void rope(const RopeArgs& args, int64_t first_row, int64_t last_row) {
  const int64_t half = args.head_dim / 2;
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* cos = args.cos + row * args.cos_stride;
    const float* sin = args.sin + row * args.sin_stride;
    for (int64_t head = 0; head < args.heads; ++head) {
      float* lower = args.x + row * args.x_stride + head * args.head_dim;
      float* upper = lower + half;
      for_vectors(half, [&](int64_t i, auto lanes) {
        const Vector a = load(lower + i, lanes);
        const Vector b = load(upper + i, lanes);
        const Vector c = load(cos + i, lanes);
        const Vector s = load(sin + i, lanes);
        store(lower + i, sub(mul(a, c), mul(b, s)), lanes);
        store(upper + i, add(mul(b, c), mul(a, s)), lanes);
      });
    }
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
