#pragma once

// The core of the prefill and segment attentions: softmax(scale Q K^T) V for 64 queries of one
// head, without ever having the matrix of scores.
//
// A block streams keys and values through shared memory, 64 at a time. Each of its four warps owns
// 16 queries: their scores, the running maximum and sum, and the output stay in its registers.
// Copies overlap arithmetic: the values of this step arrive while Q K^T is computed, the keys of
// the next while the probabilities are multiplied with the values.
//
// Where keys come from is the type `Keys`:
//   int num_keys;              // those the queries may see end here
//   Tile tile(int first_key);  // 64 keys, first_key a multiple of 64
//   const W* Tile::key(int row, int near), Tile::value(...);  // [head_dim] of one of them
// where `near` is a row before it, at most as far as the block copies in one pass, and known at
// compile time; the row may also be 0.
//
// Rows do not depend on each other: a query meets the keys in steps that are aligned to the first
// key, and a step that hides all its keys from a query leaves its sums as they are, bit for bit. So
// it makes no difference which other queries share its block.

#include "attention_tile.h"
#include "device.cuh"
#include "swizzled_tile.cuh"

namespace qvl {

template <class W_, int kHeadDim_, bool kCausal_>
struct AttentionConfig {
  using W = W_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kCausal = kCausal_;
  static constexpr int kChunks = kHeadDim / 8;            // of 16 bytes in a head's row
  static constexpr int kDepthSteps = kHeadDim / 16;       // mma steps of Q K^T
  static constexpr int kScoreTiles = kAttentionKeys / 8;  // 16x8 accumulators of a warp's scores
  static constexpr int kOutTiles = kHeadDim / 8;          // and of its output
  static_assert(kHeadDim % 16 == 0 && kAttentionThreads / kWarpSize * 16 == kAttentionQueries);

  struct Shared {
    SwizzledTile<W, kAttentionQueries, kHeadDim> q;
    SwizzledTile<W, kAttentionKeys, kHeadDim> k;
    SwizzledTile<W, kAttentionKeys, kHeadDim> v;
  };
  static_assert(sizeof(Shared) == attention_tile_bytes(kHeadDim));
};

/// The queries of a block, all of one head.
template <class W>
struct AttentionQueries {
  const W* q;  // of the first query
  W* out;
  int64_t q_stride;  // elements between queries
  int64_t out_stride;
  int num_queries;     // the rows after it are no queries: computed as zeros, not stored
  int first_position;  // of the first query among the keys; causal only
};

/// Starts the copy of `rows` rows into a tile; the rows after them become zero. row_of(row, near)
/// gives a row, `near` the one with which the block's pass over it begins: a constant.
template <class W, int kRows, int kHeadDim, class RowOf>
QVL_DEVICE void copy_tile_async(SwizzledTile<W, kRows, kHeadDim>& tile, int rows, RowOf row_of) {
  constexpr int kChunks = kHeadDim / 8;
  static_assert(kRows * kChunks % kAttentionThreads == 0);
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kAttentionThreads; ++i) {
    const int index = i * kAttentionThreads + static_cast<int>(threadIdx.x);
    const int row = index / kChunks, chunk = index % kChunks;
    const int near = i * kAttentionThreads / kChunks;
    const bool valid = row < rows;
    // Where there is no row, the address is one that could be read, though it is not.
    cp_async_16(tile.chunk(row, chunk), row_of(valid ? row : 0, near) + chunk * 8, valid);
  }
}

/// The 16 queries of a warp. In accumulators, a lane has columns 2 (lane % 4) and the next of each
/// 16x8 tile, of rows lane / 4 (elements 0, 1: half 0) and lane / 4 + 8 (elements 2, 3: half 1).
template <class Config>
struct WarpQueries {
  using W = typename Config::W;
  using Scores = float[Config::kScoreTiles][4];

  uint32_t q[Config::kDepthSteps][4];
  float out[Config::kOutTiles][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.f, 0.f};  // of this lane's columns only, until the end

  // ldmatrix takes from lane l the address of row l % 16, chunk l / 16 of a 16x16 tile.
  QVL_DEVICE static int tile_row() { return lane_id() % 16; }
  QVL_DEVICE static int tile_chunk() { return lane_id() / 16; }
  /// Row of the block's queries.
  QVL_DEVICE static int row(int half) { return warp_id() * 16 + lane_id() / 4 + half * 8; }

  QVL_DEVICE void load(typename Config::Shared& shared) {
#pragma unroll
    for (int s = 0; s < Config::kDepthSteps; ++s) {
      ldmatrix_x4(q[s], shared.q.chunk(warp_id() * 16 + tile_row(), s * 2 + tile_chunk()));
    }
  }

  /// scores = Q K^T, not scaled.
  QVL_DEVICE void multiply_keys(Scores& scores, typename Config::Shared& shared) const {
#pragma unroll
    for (int s = 0; s < Config::kDepthSteps; ++s) {
#pragma unroll
      for (int n = 0; n < Config::kScoreTiles; n += 2) {
        uint32_t k[4];  // 8 keys of tile n, of tile n + 1; then the same of the next chunk
        ldmatrix_x4(k, shared.k.chunk(n * 8 + tile_row(), s * 2 + tile_chunk()));
        Element<W>::mma(scores[n], q[s], k[0], k[2]);
        Element<W>::mma(scores[n + 1], q[s], k[1], k[3]);
      }
    }
  }

  /// Hides the keys of a step from `visible[half]` on.
  QVL_DEVICE static void mask(Scores& scores, const int (&visible)[2]) {
#pragma unroll
    for (int n = 0; n < Config::kScoreTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (n * 8 + lane_id() % 4 * 2 + i % 2 >= visible[i / 2]) scores[n][i] = -INFINITY;
      }
    }
  }

  /// Turns scores into 2^(scale (score - max)) and brings what was summed so far to the new
  /// maximum. Every query sees a key in its first step, so max is finite from then on.
  QVL_DEVICE void softmax(Scores& scores, float scale_log2e) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float step_max = -INFINITY;
#pragma unroll
      for (int n = 0; n < Config::kScoreTiles; ++n) {
        step_max = fmaxf(step_max, fmaxf(scores[n][half * 2], scores[n][half * 2 + 1]));
      }
      const float new_max = fmaxf(max[half], lanes_max<4>(step_max));
      // Exactly 1 where the maximum stays.
      const float rescale = exp2_approx((max[half] - new_max) * scale_log2e);
      const float offset = new_max * scale_log2e;
      max[half] = new_max;

      float step_sum = 0.f;
#pragma unroll
      for (int n = 0; n < Config::kScoreTiles; ++n) {
#pragma unroll
        for (int i = half * 2; i < half * 2 + 2; ++i) {
          scores[n][i] = exp2_approx(fmaf(scores[n][i], scale_log2e, -offset));
          step_sum += scores[n][i];
        }
      }
      sum[half] = fmaf(sum[half], rescale, step_sum);
#pragma unroll
      for (int n = 0; n < Config::kOutTiles; ++n) {
        out[n][half * 2] *= rescale;
        out[n][half * 2 + 1] *= rescale;
      }
    }
  }

  /// out += probabilities V. The accumulators of two score tiles are the A operand of 16
  /// probabilities.
  QVL_DEVICE void multiply_values(const Scores& scores, typename Config::Shared& shared) {
#pragma unroll
    for (int s = 0; s < kAttentionKeys / 16; ++s) {
      const float(&a)[4] = scores[2 * s], (&b)[4] = scores[2 * s + 1];
      const uint32_t probabilities[4] = {Element<W>::pack(a[0], a[1]), Element<W>::pack(a[2], a[3]),
                                         Element<W>::pack(b[0], b[1]),
                                         Element<W>::pack(b[2], b[3])};
#pragma unroll
      for (int n = 0; n < Config::kOutTiles; n += 2) {
        uint32_t v[4];  // both halves of 16 keys of tile n, then of tile n + 1
        ldmatrix_x4_trans(v, shared.v.chunk(s * 16 + tile_row(), n + tile_chunk()));
        Element<W>::mma(out[n], probabilities, v[0], v[1]);
        Element<W>::mma(out[n + 1], probabilities, v[2], v[3]);
      }
    }
  }

  /// Gathers the warp's output in the rows of the query tile that only it has read, and writes it
  /// 16 bytes a lane.
  QVL_DEVICE void store(typename Config::Shared& shared, const AttentionQueries<W>& queries) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float inverse = 1.f / lanes_sum<4>(sum[half]);
#pragma unroll
      for (int n = 0; n < Config::kOutTiles; ++n) {
        W* pair = shared.q.chunk(row(half), n) + lane_id() % 4 * 2;
        *reinterpret_cast<uint32_t*>(pair) =
            Element<W>::pack(out[n][half * 2] * inverse, out[n][half * 2 + 1] * inverse);
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = lane_id(); i < 16 * Config::kChunks; i += kWarpSize) {
      const int query = warp_id() * 16 + i / Config::kChunks, chunk = i % Config::kChunks;
      if (query < queries.num_queries) {
        store_16(queries.out + query * queries.out_stride + chunk * 8,
                 load_shared_16(shared.q.chunk(query, chunk)));
      }
    }
  }
};

template <class Config, class Keys>
QVL_DEVICE void attend(const AttentionQueries<typename Config::W>& queries, const Keys& keys,
                       float scale_log2e) {
  auto& shared = shared_storage<typename Config::Shared>();
  const auto copy_keys = [&](const typename Keys::Tile& tile, int first_key) {
    copy_tile_async(shared.k, keys.num_keys - first_key,
                    [&](int row, int near) { return tile.key(row, near); });
    cp_async_commit();
  };
  const auto copy_values = [&](const typename Keys::Tile& tile, int first_key) {
    copy_tile_async(shared.v, keys.num_keys - first_key,
                    [&](int row, int near) { return tile.value(row, near); });
    cp_async_commit();
  };

  // The keys that end each of this lane's rows, and the first key that any of the warp's may not
  // see.
  int end[2] = {keys.num_keys, keys.num_keys};
  int first_hidden = keys.num_keys;
  if constexpr (Config::kCausal) {
    end[0] = queries.first_position + WarpQueries<Config>::row(0) + 1;
    end[1] = end[0] + 8;
    first_hidden = queries.first_position + warp_id() * 16 + 1;
  }

  copy_tile_async(shared.q, queries.num_queries,
                  [&](int row, int) { return queries.q + row * queries.q_stride; });
  typename Keys::Tile tile = keys.tile(0);
  copy_keys(tile, 0);

  WarpQueries<Config> warp;
  for (int first_key = 0; first_key < keys.num_keys; first_key += kAttentionKeys) {
    cp_async_wait<0>();
    __syncthreads();  // the keys are here for all; everyone is done with the values of the last
                      // step
    copy_values(tile, first_key);
    if (first_key == 0) warp.load(shared);

    typename WarpQueries<Config>::Scores scores = {};
    warp.multiply_keys(scores, shared);

    cp_async_wait<0>();
    __syncthreads();  // the values are here for all; everyone is done with the keys
    if (first_key + kAttentionKeys < keys.num_keys) {
      tile = keys.tile(first_key + kAttentionKeys);
      copy_keys(tile, first_key + kAttentionKeys);
    }

    if (first_key + kAttentionKeys > first_hidden) {
      const int column = first_key;
      warp.mask(scores, {end[0] - column, end[1] - column});
    }
    warp.softmax(scores, scale_log2e);
    warp.multiply_values(scores, shared);
  }
  warp.store(shared, queries);
}

}  // namespace qvl
