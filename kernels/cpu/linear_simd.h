#pragma once

// out = residual + activation(x * weight^T + bias), for few rows and for many. See LinearArgs for
// the order of sums, which is the same in both.

#include "kernels/cpu/convert.h"
#include "kernels/cpu/linear_few_simd.h"
#include "kernels/cpu/linear_packed_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  with_format(args.format, [&](auto format) {
    linear_few<decltype(format)::value>(args, first_panel, last_panel);
  });
}

void linear_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                   int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  with_format(args.format, [&](auto format) {
    linear_packed_in<FormatWeights<decltype(format)::value>>(args, packed, first_tile, last_tile,
                                                             first_panel, last_panel, scratch);
  });
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
