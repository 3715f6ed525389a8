#pragma once

// Attention of the vision tower: attention_tile.cuh with keys and values from rows of the
// projection. A block owns a tile of queries of one head and walks the keys of their segment (an
// image, a frame or a window). Blocks of the same head run side by side and share its keys in L2.

#include "attention_segments.h"
#include "attention_tile.cuh"

namespace qvl {

/// Keys and values of one head of a segment.
template <class W>
struct DenseKeys {
  const W* k;  // of the segment's first row
  const W* v;
  int stride;
  int num_keys;

  struct Tile {
    const W* k;
    const W* v;
    int stride;
    int first_key;
    QVL_DEVICE const W* key(int row, int) const {
      return k + static_cast<int64_t>(first_key + row) * stride;
    }
    QVL_DEVICE const W* value(int row, int) const {
      return v + static_cast<int64_t>(first_key + row) * stride;
    }
  };

  QVL_DEVICE Tile tile(int first_key) const { return {k, v, stride, first_key}; }
};

template <class Config>
QVL_DEVICE void attention_segments(const AttentionSegmentsParams& p) {
  using W = typename Config::W;
  const SegmentTile tile = p.tiles[blockIdx.x];
  const int column = static_cast<int>(blockIdx.y) * Config::kHeadDim;

  AttentionQueries<W> queries;
  queries.q =
      static_cast<const W*>(p.q) + static_cast<int64_t>(tile.first_query) * p.q_stride + column;
  queries.out =
      static_cast<W*>(p.out) + static_cast<int64_t>(tile.first_query) * p.out_stride + column;
  queries.q_stride = p.q_stride;
  queries.out_stride = p.out_stride;
  queries.num_queries = tile.num_queries;
  queries.first_position = 0;

  const int64_t first = static_cast<int64_t>(tile.first_key) * p.kv_stride + column;
  const DenseKeys<W> keys{static_cast<const W*>(p.k) + first, static_cast<const W*>(p.v) + first,
                          p.kv_stride, tile.num_keys};
  attend<Config>(queries, keys, p.scale_log2e);
}

}  // namespace qvl
