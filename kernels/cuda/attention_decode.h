#pragma once

#include <cstddef>
#include <cstdint>

#include "sequence_table.h"

namespace qvl {

// Causal grouped-query attention of a few rows over the paged cache, which holds their own keys
// too: a row at position p sees the keys 0 ... p. Rows may be of any sequences; several of one are
// a draft.
constexpr int kAttentionDecodeThreads = 256;
constexpr int kAttentionDecodeMaxGroup = 8;  // query heads of a kv head

// The keys of a row are split between blocks at places that follow from their number alone, so that
// its result does too: splits of 128 keys, or of so many times 2 that there are 32 at most.
constexpr int kAttentionDecodeLeastSplit = 128;
constexpr int kAttentionDecodeMaxSplits = 32;

/// Splits of a row that sees so many keys.
constexpr int attention_decode_splits(int num_keys) {
  int64_t split = kAttentionDecodeLeastSplit;
  while (split * kAttentionDecodeMaxSplits < num_keys) split *= 2;
  return static_cast<int>((num_keys + split - 1) / split);
}

// Of attention_decode_<head_dim>_<W>. Grid: {at least the splits of every row, G, T}; the rows' and
// sequences' numbers may change between launches of a graph, as far as the grid suffices.
struct AttentionDecodeParams {
  const void* q;       // W [T, H D]
  const void* cache;   // W [num_blocks][G][2][kKvTokens][D], of the layer
  void* out;           // W [T, H D]
  float* partials;     // [T, G, kAttentionDecodeMaxSplits, H / G, D]: weighted sums of values
  float* statistics;   // [T, G, kAttentionDecodeMaxSplits, H / G, 2]: largest score, sum of weights
  uint32_t* arrivals;  // [T, G]: zero before and after
  SequenceTable sequences;
  int64_t q_stride;  // elements between rows
  int64_t out_stride;
  float scale;  // of the scores, times log2(e)
  int32_t heads;
  int32_t kv_heads;
};

constexpr int64_t attention_decode_partials(int64_t rows, int64_t heads, int64_t head_dim) {
  return rows * heads * kAttentionDecodeMaxSplits * head_dim;
}
constexpr int64_t attention_decode_statistics(int64_t rows, int64_t heads) {
  return rows * heads * kAttentionDecodeMaxSplits * 2;
}

constexpr size_t attention_decode_shared_bytes(int64_t head_dim) {
  const int64_t sums = int64_t{kAttentionDecodeThreads} / 32 * kAttentionDecodeMaxGroup * head_dim;
  const int64_t statistics = int64_t{2} * kAttentionDecodeMaxSplits * kAttentionDecodeMaxGroup;
  return static_cast<size_t>((sums + statistics) * 4 + 16);
}

}  // namespace qvl
