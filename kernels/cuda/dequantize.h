#pragma once

#include <cstdint>

#include "quantized_matrix.h"

namespace qvl {

constexpr int kDequantizeThreads = 256;
// Units of a quantised matrix that a block dequantises; grid: ceil(units / kDequantizeUnits).
constexpr int kDequantizeUnits = kDequantizeThreads / 32;

// out [out_features, in_features] = the matrix, rounded to W: for products of many rows.
struct DequantizeParams {
  QuantizedMatrix matrix;
  const int32_t*
      input_order;  // as in QuantizedGemvParams: columns of out are inputs in their order
  void* out;        // W, 16-byte aligned
};

constexpr int kEmbedQuantizedThreads = 256;

// out [rows, in_features] F32 = matrix row ids[r]. The matrix's rows are in order, of one segment.
// Grid: rows.
struct EmbedQuantizedParams {
  QuantizedMatrix matrix;
  const int32_t* ids;
  float* out;
  int64_t out_stride;  // elements, a multiple of 4
};

}  // namespace qvl
