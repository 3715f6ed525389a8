#pragma once

#include <cstdint>

namespace qvl {

constexpr int kRowsThreads = 128;

// Of embed_<W>: out row i = row ids[i] of the matrix, widened. Grid: rows.
struct EmbedParams {
  const void* weight;  // W [V, cols]
  const int32_t* ids;
  float* out;
  int64_t out_stride;  // elements, a multiple of 4
  int32_t cols;        // a multiple of 8
};

// Of copy_rows: dst row dst_rows[i] = src row src_rows[i]. Where a list of rows is null, row i.
// Grid: rows.
struct CopyRowsParams {
  void* dst;
  const void* src;
  const int32_t* dst_rows;
  const int32_t* src_rows;
  int64_t dst_stride;  // bytes, multiples of 16
  int64_t src_stride;
  int64_t row_bytes;
};

}  // namespace qvl
