#pragma once

#include <cstdint>

#include "sequence_table.h"

namespace qvl {

constexpr int kRopeThreads = 128;

// Both rotate heads in place, half convention, with i < head_dim / 2:
//   x[i], x[i + head_dim / 2] = x[i] cos[i] - x[i + head_dim / 2] sin[i],
//                               x[i + head_dim / 2] cos[i] + x[i] sin[i]
// Grid: rows. head_dim: a multiple of 16; strides: multiples of 8 elements.
struct RopeParams {
  void* x;           // W [rows, >= heads * head_dim]: columns past the heads stay as they are
  const float* cos;  // [rows, head_dim / 2]
  const float* sin;
  int64_t x_stride;      // elements between rows
  int64_t table_stride;  // of cos and sin
  int32_t heads;
  int32_t head_dim;
};

// Rotates the query and key heads of a step, then stores its keys and values in the cache.
struct RopeAppendParams {
  void* qkv;         // W [T, (H + 2G) D]: query, key, value heads
  const float* cos;  // [T, D / 2]
  const float* sin;
  void* cache;  // W [num_blocks][G][2 (K, V)][32 tokens][D], of the layer
  SequenceTable sequences;
  int64_t qkv_stride;
  int64_t table_stride;
  int32_t heads;     // H
  int32_t kv_heads;  // G
  int32_t head_dim;  // D
};

}  // namespace qvl
