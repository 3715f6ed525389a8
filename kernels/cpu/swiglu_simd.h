#pragma once

// out [rows, F] = silu(x[:, 0 .. F)) * x[:, F .. 2F).

#include "kernels/cpu/math_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const float* gate = args.x + row * args.x_stride;
    const float* up = gate + args.cols;
    float* out = args.out + row * args.out_stride;
    for_vectors(args.cols, [&](int64_t i, auto lanes) {
      store(out + i, mul(swish(load(gate + i, lanes), -1.0f), load(up + i, lanes)), lanes);
    });
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
