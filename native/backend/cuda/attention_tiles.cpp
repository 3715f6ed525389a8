#include "backend/cuda/attention_tiles.h"

#include <algorithm>

namespace qvl::cuda {

std::vector<PrefillTile> prefill_tiles(std::span<const SequenceSpan> sequences) {
  std::vector<PrefillTile> tiles;
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (int64_t token = 0; token < sequences[i].num_tokens; token += kAttentionQueries) {
      tiles.push_back({static_cast<int32_t>(i), static_cast<int32_t>(token)});
    }
  }
  const auto position = [&](const PrefillTile& tile) {
    return sequences[static_cast<size_t>(tile.sequence)].num_cached + tile.first_token;
  };
  std::stable_sort(tiles.begin(), tiles.end(), [&](const PrefillTile& a, const PrefillTile& b) {
    return position(a) > position(b);
  });
  return tiles;
}

std::vector<SegmentTile> segment_tiles(std::span<const int32_t> cu_seqlens, int64_t first_query,
                                       int64_t num_queries, int tile_queries) {
  std::vector<SegmentTile> tiles;
  for (size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const int32_t first_key = cu_seqlens[i];
    const int32_t num_keys = cu_seqlens[i + 1] - first_key;
    const int64_t begin = std::max<int64_t>(first_key, first_query);
    const int64_t end = std::min<int64_t>(cu_seqlens[i + 1], first_query + num_queries);
    for (int64_t row = begin; row < end; row += tile_queries) {
      const int64_t count = std::min<int64_t>(end - row, tile_queries);
      tiles.push_back({static_cast<int32_t>(row - first_query), static_cast<int32_t>(count),
                       first_key, num_keys});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(), [](const SegmentTile& a, const SegmentTile& b) {
    return a.num_keys > b.num_keys;
  });
  return tiles;
}

}  // namespace qvl::cuda
