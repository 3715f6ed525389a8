#pragma once

// finish<W>(epilogue, row, first, second, a, b): a and b are the products of the step's row `row`
// with matrix rows `first` and `second`, a pair that the epilogue needs together; second is -1
// where the matrix ends between them.

#include "device.cuh"
#include "gemv_epilogue.h"

namespace qvl {

// The pair is a rotated one: dimensions i and i + D / 2 of a head.
template <class W>
QVL_DEVICE void finish(const QkvEpilogue& e, int row, int first, int second, float a, float b) {
  const int head = first / e.head_dim, i = first % e.head_dim;
  a += e.bias[first];
  b += e.bias[second];
  const bool is_key = head < e.heads + e.kv_heads;
  if (is_key || head < e.heads) {
    const float cos = e.cos[row * e.table_stride + i], sin = e.sin[row * e.table_stride + i];
    const float lower = a;
    a = fmaf(lower, cos, -(b * sin));
    b = fmaf(b, cos, lower * sin);
  }
  W* out;
  if (head < e.heads) {
    out = static_cast<W*>(e.q) + row * e.q_stride + first;
  } else {
    const SequenceTable& table = e.sequences;
    const int sequence = table.row_sequence[row];
    const int position = table.num_cached[sequence] + row - table.first_row[sequence];
    const int block =
        table.block_table[static_cast<int64_t>(sequence) * table.max_blocks + position / kKvTokens];
    const int kv_head = is_key ? head - e.heads : head - e.heads - e.kv_heads;
    const int64_t part =
        (static_cast<int64_t>(block) * e.kv_heads + kv_head) * 2 + (is_key ? 0 : 1);
    out = static_cast<W*>(e.cache) + (part * kKvTokens + position % kKvTokens) * e.head_dim + i;
  }
  out[0] = Element<W>::from_float(a);
  out[e.head_dim / 2] = Element<W>::from_float(b);
}

template <class W>
QVL_DEVICE void finish(const ResidualEpilogue& e, int row, int first, int second, float a,
                       float b) {
  float* x = e.x + row * e.x_stride;
  x[first] += a;
  if (second >= 0) x[second] += b;
}

// The pair is a gate's row and the row it lets through.
template <class W>
QVL_DEVICE void finish(const SwiGluEpilogue& e, int row, int first, int, float a, float b) {
  constexpr float kLog2E = 1.4426950408889634f;
  static_cast<W*>(e.out)[row * e.out_stride + first] =
      Element<W>::from_float(a / (1.f + exp2_approx(-kLog2E * a)) * b);
}

template <class W>
QVL_DEVICE void finish(const LogitsEpilogue& e, int row, int first, int second, float a, float b) {
  float* out = e.out + row * e.out_stride;
  out[first] = a;
  if (second >= 0) out[second] = b;
}

}  // namespace qvl
