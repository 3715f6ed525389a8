#pragma once

#include <cstdint>

#include "gemv_epilogue.h"
#include "quantized_matrix.h"

namespace qvl {

// A quantised matrix times 1 ... 8 rows of activations on the tensor cores.
constexpr int kQuantizedGemvThreads = 256;
constexpr int kQuantizedGemvWarps = kQuantizedGemvThreads / 32;
constexpr int kQuantizedGemvMaxRows = 8;
// Blocks of a multiprocessor that registers leave room for.
constexpr int kQuantizedGemvBlocks = 3;
// Units that a warp has on their way.
constexpr int kQuantizedGemvAhead = 2;

struct QuantizedGemvParams {
  QuantizedMatrix matrix;
  // W [rows, in_features]; with norm_weight F32, which is normalised first.
  const void* x;
  const float* norm_weight;    // [in_features], or null
  const int32_t* input_order;  // column k of the matrix takes input input_order[k]; null: k
  int64_t x_stride;            // elements between rows, a multiple of 8
  int32_t rows;                // 1 ... kQuantizedGemvMaxRows
  // Units whose part of x a warp keeps in shared memory at a time: all of its units, or else a
  // multiple of kQuantizedGemvAhead. Has no influence on results.
  int32_t staged_units;
  float eps;
};

// Of gemv_int<4|8>_<epilogue>_g<32|128>_<W>. Grid: at most matrix.num_tiles blocks.
template <class Epilogue>
struct QuantizedGemvKernelParams {
  QuantizedGemvParams gemv;
  Epilogue epilogue;
};

/// Units of a warp, at most.
constexpr int quantized_gemv_warp_units(const QuantizedMatrix& matrix) {
  const int warps = kQuantizedGemvWarps / matrix.segments;
  return (matrix.segment_units + warps - 1) / warps;
}
// Elements that a row of what a warp stages is longer than its units: 64 bytes more than whole bank
// cycles, so that the eight rows' loads of a product meet in no bank.
constexpr int kQuantizedGemvStagedPadding = 32;

constexpr int64_t quantized_gemv_shared_bytes(int staged_units, int unit_columns, int rows) {
  const int64_t partial_bytes = 2 * kQuantizedGemvWarps * 16 * kQuantizedGemvMaxRows * 4;
  const int64_t sum_bytes = kQuantizedGemvMaxRows * kQuantizedGemvWarps * 4;
  return partial_bytes + sum_bytes +
         int64_t{kQuantizedGemvWarps} * rows *
             (staged_units * unit_columns + kQuantizedGemvStagedPadding) * 2;
}

}  // namespace qvl
