#pragma once

#include <cstdint>

#include "attention_tile.h"

namespace qvl {

/// Queries of a segment, as many as a block takes or fewer, and the segment's keys.
struct SegmentTile {
  int32_t first_query;  // row of q and out
  int32_t num_queries;
  int32_t first_key;  // row of k and v
  int32_t num_keys;
};

// Full attention inside segments of rows: every query of a tile sees all keys of its segment. Grid:
// (tiles, heads). Strides: multiples of 8. Tiles are of kAttentionQueries, shared memory is
// attention_tile_bytes(head_dim); of kAttentionWideQueries for the kernels named `wide`, with the
// same bits: faster where there are enough tiles to fill the device.
struct AttentionSegmentsParams {
  const void* q;  // W [queries, heads D]
  const void* k;  // W [P, heads D]
  const void* v;  // W [P, heads D]
  void* out;      // W [queries, heads D]
  const SegmentTile* tiles;
  int32_t q_stride;   // elements between rows
  int32_t kv_stride;  // of k and of v
  int32_t out_stride;
  float scale_log2e;  // scale of the scores * log2(e)
};

}  // namespace qvl
