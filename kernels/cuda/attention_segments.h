#pragma once

#include <cstdint>

#include "attention_tile.h"

namespace qvl {

/// Up to kAttentionQueries queries of a segment, and the segment's keys.
struct SegmentTile {
  int32_t first_query;  // row of q and out
  int32_t num_queries;
  int32_t first_key;  // row of k and v
  int32_t num_keys;
};

// Full attention inside segments of rows: every query of a tile sees all keys of its segment. Grid:
// (tiles, heads). Shared memory: attention_tile_bytes(head_dim). Strides: multiples of 8.
struct AttentionSegmentsParams {
  const void* q;  // W [queries, heads D]
  const void* k;  // W [P, heads D]
  const void* v;  // W [P, heads D]
  void* out;      // W [queries, heads D]
  const SegmentTile* tiles;
  int64_t q_stride;   // elements between rows
  int64_t kv_stride;  // of k and of v
  int64_t out_stride;
  float scale_log2e;  // scale of the scores * log2(e)
};

}  // namespace qvl
