#pragma once

#include <cstdint>

#include "sequence_table.h"

namespace qvl {

// What becomes of the products of a step's rows with a matrix. Every matrix-vector kernel ends in
// one of these, whatever its weights are. Strides are in elements.

// Matrix rows are the heads of q, k and v, D rows each. The bias is added, q and k are rotated, q
// is written, k and v go into the cache.
struct QkvEpilogue {
  const float* bias;  // [(H + 2 G) D]
  const float* cos;   // [rows, D / 2]
  const float* sin;
  void* q;      // W [rows, H D]
  void* cache;  // of the layer; see sequence_table.h
  SequenceTable sequences;
  int64_t q_stride;
  int64_t table_stride;  // of cos and sin
  int32_t heads;         // H
  int32_t kv_heads;      // G
  int32_t head_dim;      // D
};

// x += W y
struct ResidualEpilogue {
  float* x;  // [rows, out_features]
  int64_t x_stride;
};

// Matrix rows are a gate's, then as many of what it lets through: out = silu(gate) * up.
struct SwiGluEpilogue {
  void* out;  // W [rows, out_features / 2]
  int64_t out_stride;
};

struct LogitsEpilogue {
  float* out;  // [rows, out_features]
  int64_t out_stride;
};

}  // namespace qvl
