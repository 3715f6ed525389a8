#pragma once

// Which queries the blocks of an attention launch take. A tile is a block of every head; lists of
// them go to the device beside the tensors.

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/attention_segments.h"

namespace qvl::cuda {

/// All tokens of the step, tiles with most keys first.
std::vector<PrefillTile> prefill_tiles(std::span<const SequenceSpan> sequences);

/// The queries [first_query, first_query + num_queries) of the rows that cu_seqlens cuts into
/// segments; query 0 of q and out is row first_query. Tiles of tile_queries, with most keys first.
std::vector<SegmentTile> segment_tiles(std::span<const int32_t> cu_seqlens, int64_t first_query,
                                       int64_t num_queries, int tile_queries = kAttentionQueries);

}  // namespace qvl::cuda
