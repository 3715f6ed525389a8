#pragma once

// out = residual + activation(x * weight^T + bias), for few rows and for many. See LinearArgs for
// the order of sums, which is the same in both.

#include "kernels/cpu/linear_few_simd.h"
#include "kernels/cpu/linear_packed_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  switch (args.format) {
    case Format::kBF16:
      return linear_few<Format::kBF16>(args, first_panel, last_panel);
    case Format::kF16:
      return linear_few<Format::kF16>(args, first_panel, last_panel);
    case Format::kF32:
      return linear_few<Format::kF32>(args, first_panel, last_panel);
  }
}

void linear_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                   int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  const auto run = [&](auto kernel) {
    kernel(args, packed, first_tile, last_tile, first_panel, last_panel, scratch);
  };
  switch (args.format) {
    case Format::kBF16:
      return run(linear_packed_in<Format::kBF16>);
    case Format::kF16:
      return run(linear_packed_in<Format::kF16>);
    case Format::kF32:
      return run(linear_packed_in<Format::kF32>);
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
