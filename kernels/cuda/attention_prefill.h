#pragma once

#include <cstdint>

#include "attention_tile.h"
#include "sequence_table.h"

namespace qvl {

/// Up to kAttentionQueries tokens of a sequence's part of the step, from `first_token` on.
struct PrefillTile {
  int32_t sequence;
  int32_t first_token;
};

// Causal grouped-query attention over the cache, which already holds this step's keys: query head h
// reads kv head h / group. Grid: (tiles, H); the tiles with most keys first, so that the launch
// ends with its cheapest blocks. Shared memory: attention_tile_bytes(head_dim). Strides: multiples
// of 8.
struct AttentionPrefillParams {
  const void* q;      // W [T, H D]
  void* out;          // W [T, H D]
  const void* cache;  // W [num_blocks][G][2 (K, V)][32 tokens][D], of the layer
  const PrefillTile* tiles;
  SequenceTable sequences;
  int32_t q_stride;  // elements between rows
  int32_t out_stride;
  int32_t kv_heads;   // G
  int32_t group;      // H / G
  float scale_log2e;  // scale of the scores * log2(e)
};

}  // namespace qvl
