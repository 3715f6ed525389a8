#pragma once

// Rotary position embedding of rows. A block owns a row. A thread owns 8 neighbouring frequencies,
// whose cosines and sines it keeps, and walks the heads with them: it turns 16 bytes of a head's
// lower half with the 16 bytes that belong to them in the upper half. The heads' loads overlap.

#include "device.cuh"
#include "rope.h"

namespace qvl {

/// Cosines or sines of 8 neighbouring frequencies.
QVL_DEVICE void load_angles(float (&out)[8], const float* src) {
  const uint4 lower = load_16(src), upper = load_16(src + 4);
  const uint32_t bits[8] = {lower.x, lower.y, lower.z, lower.w, upper.x, upper.y, upper.z, upper.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = __uint_as_float(bits[i]);
}

/// The part of the row's heads that a thread turns.
struct RopeShare {
  int first_head;  // and every head_step-th after it
  int head_step;
  int column;  // of the lower half of a head
  float cos[8], sin[8];

  QVL_DEVICE RopeShare(const float* row_cos, const float* row_sin, int head_dim) {
    const int threads_per_head = head_dim / 16;
    const int thread = static_cast<int>(threadIdx.x);
    head_step = kRopeThreads / threads_per_head;
    first_head = thread / threads_per_head;
    column = thread % threads_per_head * 8;
    load_angles(cos, row_cos + column);
    load_angles(sin, row_sin + column);
    // What is left of the block has no head.
    if (first_head >= head_step) first_head = 1 << 30;
  }

  /// Turns 8 pairs of a head.
  template <class W>
  QVL_DEVICE void turn(uint4& lower_bits, uint4& upper_bits) const {
    float lower[8], upper[8];
    unpack_8<W>(lower, lower_bits);
    unpack_8<W>(upper, upper_bits);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float a = lower[i], b = upper[i];
      lower[i] = fmaf(a, cos[i], -(b * sin[i]));
      upper[i] = fmaf(b, cos[i], a * sin[i]);
    }
    lower_bits = pack_8<W>(lower);
    upper_bits = pack_8<W>(upper);
  }
};

template <class W>
QVL_DEVICE void rope(const RopeParams& p) {
  const int64_t row = blockIdx.x;
  const RopeShare share(p.cos + row * p.table_stride, p.sin + row * p.table_stride, p.head_dim);
  W* x = static_cast<W*>(p.x) + row * p.x_stride + share.column;
  for (int head = share.first_head; head < p.heads; head += share.head_step) {
    W* lower = x + head * p.head_dim;
    W* upper = lower + p.head_dim / 2;
    uint4 a = load_16(lower), b = load_16(upper);
    share.turn<W>(a, b);
    store_16(lower, a);
    store_16(upper, b);
  }
}

template <class W>
QVL_DEVICE void rope_append(const RopeAppendParams& p) {
  const int64_t row = blockIdx.x;
  const RopeShare share(p.cos + row * p.table_stride, p.sin + row * p.table_stride, p.head_dim);

  const SequenceTable& table = p.sequences;
  const int sequence = table.row_sequence[row];
  const int position =
      table.num_cached[sequence] + static_cast<int>(row) - table.first_row[sequence];
  const int64_t block =
      table.block_table[static_cast<int64_t>(sequence) * table.max_blocks + position / kKvTokens];
  // The token's key of the first kv head; its value is `kind_stride` further.
  const int64_t kind_stride = static_cast<int64_t>(kKvTokens) * p.head_dim;
  W* cached = static_cast<W*>(p.cache) + block * p.kv_heads * 2 * kind_stride +
              position % kKvTokens * p.head_dim + share.column;

  W* qkv = static_cast<W*>(p.qkv) + row * p.qkv_stride + share.column;
  const int half = p.head_dim / 2;
  const int rotated = p.heads + p.kv_heads;
  for (int head = share.first_head; head < rotated + p.kv_heads; head += share.head_step) {
    W* lower = qkv + head * p.head_dim;
    uint4 a = load_16(lower), b = load_16(lower + half);
    if (head < rotated) {
      share.turn<W>(a, b);
      store_16(lower, a);
      store_16(lower + half, b);
      if (head < p.heads) continue;
    }
    const int kind = head < rotated ? 0 : 1;
    const int kv_head = head - p.heads - kind * p.kv_heads;
    W* dst = cached + (2 * kv_head + kind) * kind_stride;
    store_16(dst, a);
    store_16(dst + half, b);
  }
}

}  // namespace qvl
