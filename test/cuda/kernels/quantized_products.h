#pragma once

// Products with quantised matrices, on the device and in double precision.

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/gemv_quantized.h"
#include "kernels/gpu.h"
#include "kernels/quantized_weights.h"

namespace qvl::test {

/// Every kernel of a variant: bits of a code, and groups as the layout keeps them.
struct QuantizedCodes {
  int bits;
  int64_t group;
};
inline constexpr QuantizedCodes kQuantizedCodes[] = {{4, 32}, {4, 128}, {8, 32}, {8, 128}};

/// Launches with what the host would choose, or with `staged_units` of x at a time. The kernel
/// before writes params.gemv.rows rows of x; `x` is where it finds them.
template <class T, class Epilogue>
void run_quantized(Gpu& gpu, const QuantizedWeights& weights, const std::string& variant, Half type,
                   const T* x, QuantizedGemvKernelParams<Epilogue> params, int staged_units = 0) {
  // Of shared memory, on the smallest GPU.
  constexpr size_t kMaxShared = size_t{99} << 10;
  QuantizedGemvParams& p = params.gemv;
  p.matrix = weights.matrix();
  const auto launch = weights.layout().gemv_launch(p.rows, p.norm_weight != nullptr, kMaxShared,
                                                   gpu.num_multiprocessors());
  p.staged_units = staged_units == 0 ? launch.staged_units : staged_units;
  const int unit_columns = weights.layout().spec().bits == 4 ? 128 : 64;
  const auto shared =
      static_cast<size_t>(quantized_gemv_shared_bytes(p.staged_units, unit_columns, p.rows));
  const auto produced = gpu.filled<T>(static_cast<size_t>(p.rows * p.matrix.in_features), 0xff);
  p.x = produced.get();
  p.x_stride = p.matrix.in_features;
  gpu.produce(produced, x);
  gpu.launch(kernel_name(weights.kernel("gemv", variant), type), {launch.blocks},
             {kQuantizedGemvThreads}, shared, params);
}

/// Row n of the matrix times x, and what rounding the products' sum to F32 may cost.
struct ExactProduct {
  double value = 0, tolerance = 0;
};
inline ExactProduct exact_product(const QuantizedWeights& weights, int64_t n, const float* x) {
  double sum = 0, size = 0;
  for (int64_t k = 0; k < weights.layout().spec().in_features; ++k) {
    const double product = static_cast<double>(weights.value(n, k)) * static_cast<double>(x[k]);
    sum += product;
    size += std::fabs(product);
  }
  return {sum, size * 0x1p-18};
}

}  // namespace qvl::test
