#pragma once

// Attention of the language model over several tokens of a sequence: attention_tile.cuh with keys
// from the paged cache. A block owns a tile of queries of one head; the heads of a group read the
// same keys one after the other, from L2.

#include "attention_prefill.h"
#include "attention_tile.cuh"

namespace qvl {

/// Keys and values of one kv head of a sequence, in blocks of the cache.
template <class W, int kHeadDim>
struct PagedKeys {
  static constexpr int kBlocks = kAttentionKeys / kKvTokens;  // of a tile
  static constexpr int kKindStride = kKvTokens * kHeadDim;    // from keys to values of a block

  const W* head;     // the head's keys in block 0
  int block_stride;  // elements
  const int32_t* blocks;
  int num_keys;

  struct Tile {
    const W* head;
    int block_stride;
    int block[kBlocks];
    // A pass of the block over a tile does not leave the cache's block, so `near` tells which it
    // is.
    static_assert(kKvTokens % (kAttentionThreads / (kHeadDim / 8)) == 0);
    QVL_DEVICE const W* key(int row, int near) const {
      return head + static_cast<int64_t>(block[near / kKvTokens]) * block_stride +
             row % kKvTokens * kHeadDim;
    }
    QVL_DEVICE const W* value(int row, int near) const { return key(row, near) + kKindStride; }
  };

  QVL_DEVICE Tile tile(int first_key) const {
    Tile tile{head, block_stride, {}};
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int key = first_key + i * kKvTokens;
      // The sequence may have no block for the end of its last tile.
      tile.block[i] = blocks[(key < num_keys ? key : first_key) / kKvTokens];
    }
    return tile;
  }
};

template <class Config>
QVL_DEVICE void attention_prefill(const AttentionPrefillParams& p) {
  using W = typename Config::W;
  using Keys = PagedKeys<W, Config::kHeadDim>;
  const PrefillTile tile = p.tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);

  const SequenceTable& table = p.sequences;
  const int left = table.num_tokens[tile.sequence] - tile.first_token;
  const int64_t row = table.first_row[tile.sequence] + tile.first_token;
  AttentionQueries<W> queries;
  queries.q = static_cast<const W*>(p.q) + row * p.q_stride + head * Config::kHeadDim;
  queries.out = static_cast<W*>(p.out) + row * p.out_stride + head * Config::kHeadDim;
  queries.q_stride = p.q_stride;
  queries.out_stride = p.out_stride;
  queries.num_queries = min(left, kAttentionQueries);
  queries.first_position = table.num_cached[tile.sequence] + tile.first_token;

  Keys keys;
  keys.head = static_cast<const W*>(p.cache) + head / p.group * 2 * Keys::kKindStride;
  keys.block_stride = p.kv_heads * 2 * Keys::kKindStride;
  keys.blocks = table.block_table + static_cast<int64_t>(tile.sequence) * table.max_blocks;
  keys.num_keys = queries.first_position + queries.num_queries;
  attend<Config>(queries, keys, p.scale_log2e);
}

}  // namespace qvl
