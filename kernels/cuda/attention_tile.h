#pragma once

#include <cstdint>

namespace qvl {

// A block of the prefill and segment attentions: so many queries of one head, against so many keys
// at a time.
constexpr int kAttentionQueries = 64;
constexpr int kAttentionWideQueries = 128;  // of the kernels named `wide`
constexpr int kAttentionKeys = 64;
constexpr int kAttentionThreads = 128;

/// Shared memory of a block: its queries, and a tile of keys and one of values.
constexpr int attention_tile_bytes(int head_dim, int queries = kAttentionQueries) {
  return (queries + 2 * kAttentionKeys) * head_dim * 2;
}

}  // namespace qvl
