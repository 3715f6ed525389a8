#pragma once

// The core of the prefill and segment attentions: softmax(scale Q K^T) V for 64 or 128 queries of
// one head, without ever having the matrix of scores.
//
// A block streams keys and values through shared memory, 64 at a time. Each of its four warps owns
// 16 queries or twice 16: their scores, the running maximum and sum, and the output stay in its
// registers. Copies overlap arithmetic: the values of this step arrive while Q K^T is computed, the
// keys of the next while the probabilities are multiplied with the values.
//
// With 16 queries a warp, reading keys and values from shared memory takes as long as the tensor
// cores of sm_80 need to multiply them, and longer than those of sm_90 need. With 32 it takes 0.6
// of that, queries included, which are then read in every step: to keep them takes 254 registers
// instead of 218 to 233 for head_dim 80. It pays where there are many more tiles than
// multiprocessors.
//
// Where keys come from is the type `Keys`:
//   int num_keys;              // those the queries may see end here
//   Tile tile(int first_key);  // 64 keys, first_key a multiple of 64
//   const W* Tile::key(int row, int near), Tile::value(...);  // [head_dim] of one of them
// where `near` is a row before it, known at compile time, not further than a pass of the block over
// the tile. A row past the end gets an address that nobody reads.
//
// Rows do not depend on each other: a query meets the keys in steps that are aligned to the first
// key, and a step that hides all its keys from a query leaves its sums as they are, bit for bit. So
// it makes no difference which other queries share its block.

#include "attention_tile.h"
#include "device.cuh"
#include "swizzled_tile.cuh"

namespace qvl {

template <class W_, int kHeadDim_, bool kCausal_, int kQueries_ = kAttentionQueries>
struct AttentionConfig {
  using W = W_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kCausal = kCausal_;
  static constexpr int kQueries = kQueries_;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes in a head's row
  static constexpr int kWarpQueries = kQueries / (kAttentionThreads / kWarpSize);
  static constexpr int kRowTiles = kWarpQueries / 16;     // mma tiles of a warp's queries
  static constexpr int kDepthSteps = kHeadDim / 16;       // mma steps of Q K^T
  static constexpr int kScoreTiles = kAttentionKeys / 8;  // 16x8 accumulators of 16 queries' scores
  static constexpr int kOutTiles = kHeadDim / 8;          // and of their output
  static_assert(kHeadDim % 16 == 0 && kWarpQueries % 16 == 0);

  struct Shared {
    SwizzledTile<W, kQueries, kHeadDim> q;
    SwizzledTile<W, kAttentionKeys, kHeadDim> k;
    SwizzledTile<W, kAttentionKeys, kHeadDim> v;
  };
  static_assert(sizeof(Shared) == attention_tile_bytes(kHeadDim, kQueries));
};

/// The queries of a block, all of one head.
template <class W>
struct AttentionQueries {
  const W* q;  // of the first query
  W* out;
  int q_stride;  // elements between queries
  int out_stride;
  int num_queries;     // the rows after it are no queries: computed as zeros, not stored
  int first_position;  // of the first query among the keys; causal only
};

/// Starts the copy of a tile's chunks [kFirstChunk, kFirstChunk + kWidth): see copy_tile_async.
template <int kFirstChunk, int kWidth, class W, int kRows, int kHeadDim, class RowOf>
QVL_DEVICE void copy_chunks_async(SwizzledTile<W, kRows, kHeadDim>& tile, int rows, RowOf row_of) {
  constexpr int kPassRows = kAttentionThreads / kWidth;
  static_assert(kAttentionThreads % kWidth == 0 && kRows % kPassRows == 0);
  const int first = static_cast<int>(threadIdx.x) / kWidth;
  const int chunk = kFirstChunk + static_cast<int>(threadIdx.x) % kWidth;
#pragma unroll
  for (int near = 0; near < kRows; near += kPassRows) {
    const int row = near + first;
    cp_async_16(tile.chunk(row, chunk), row_of(row, near) + chunk * 8, row < rows);
  }
}

/// Starts the copy of `rows` rows into a tile; the rows after them become zero. row_of(row, near)
/// gives a row, `near` the one with which the block's pass over it begins: a constant. Passes are
/// whole rows or halves of sectors' multiples, in which every thread keeps its chunk of the row.
template <class W, int kRows, int kHeadDim, class RowOf>
QVL_DEVICE void copy_tile_async(SwizzledTile<W, kRows, kHeadDim>& tile, int rows, RowOf row_of) {
  constexpr int kChunks = kHeadDim / 8;
  constexpr int kOdd = kAttentionThreads % kChunks == 0 ? 0 : kChunks % 8;
  copy_chunks_async<0, kChunks - kOdd>(tile, rows, row_of);
  if constexpr (kOdd != 0) copy_chunks_async<kChunks - kOdd, kOdd>(tile, rows, row_of);
}

/// The queries of a warp, in tiles of 16. In accumulators, a lane has columns 2 (lane % 4) and the
/// next of each 16x8 tile, of rows lane / 4 (elements 0, 1: half 0) and lane / 4 + 8 (elements 2,
/// 3: half 1).
template <class Config>
struct WarpQueries {
  using W = typename Config::W;
  using Shared = typename Config::Shared;
  using Scores = float[Config::kRowTiles][Config::kScoreTiles][4];

  // With twice as many queries there are no registers for them: they are read in every step.
  static constexpr bool kKeepQueries = Config::kRowTiles == 1;

  // Probabilities are up to 2^kLag, which a sum of 2^31 of them in F32 and either 16-bit type can
  // hold.
  static constexpr float kLag = 8.f;

  uint32_t q[kKeepQueries ? Config::kDepthSteps : 1][4];
  float out[Config::kRowTiles][Config::kOutTiles][4];
  float max[Config::kRowTiles][2];
  float sum[Config::kRowTiles][2];  // of this lane's columns only, until the end

  QVL_DEVICE WarpQueries() {
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < Config::kOutTiles; ++n) {
        out[r][n][0] = out[r][n][1] = out[r][n][2] = out[r][n][3] = 0.f;
      }
      max[r][0] = max[r][1] = -INFINITY;
      sum[r][0] = sum[r][1] = 0.f;
    }
  }

  // ldmatrix takes from lane l the address of row l % 16, chunk l / 16 of a 16x16 tile.
  QVL_DEVICE static int tile_row() { return lane_id() % 16; }
  QVL_DEVICE static int tile_chunk() { return lane_id() / 16; }
  /// First query of one of the warp's tiles, among the block's.
  QVL_DEVICE static int first_row(int row_tile) {
    return warp_id() * Config::kWarpQueries + row_tile * 16;
  }
  /// The query that a lane has a half of.
  QVL_DEVICE static int row(int row_tile, int half) {
    return first_row(row_tile) + lane_id() / 4 + half * 8;
  }

  QVL_DEVICE static void load_query(uint32_t (&q)[4], Shared& shared, int row_tile, int step) {
    ldmatrix_x4(q, shared.q.chunk(first_row(row_tile) + tile_row(), step * 2 + tile_chunk()));
  }
  QVL_DEVICE void load(Shared& shared) {
    if constexpr (kKeepQueries) {
#pragma unroll
      for (int s = 0; s < Config::kDepthSteps; ++s) load_query(q[s], shared, 0, s);
    }
  }

  /// scores = Q K^T, not scaled.
  QVL_DEVICE void multiply_keys(Scores& scores, Shared& shared) const {
#pragma unroll
    for (int s = 0; s < Config::kDepthSteps; ++s) {
      uint32_t a[Config::kRowTiles][4];
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
        if constexpr (kKeepQueries) {
          memcpy(a[r], q[s], sizeof a[r]);
        } else {
          load_query(a[r], shared, r, s);
        }
      }
#pragma unroll
      for (int n = 0; n < Config::kScoreTiles; n += 2) {
        uint32_t k[4];  // 8 keys of tile n, of tile n + 1; then the same of the next chunk
        ldmatrix_x4(k, shared.k.chunk(n * 8 + tile_row(), s * 2 + tile_chunk()));
#pragma unroll
        for (int r = 0; r < Config::kRowTiles; ++r) {
          Element<W>::mma(scores[r][n], a[r], k[0], k[2]);
          Element<W>::mma(scores[r][n + 1], a[r], k[1], k[3]);
        }
      }
    }
  }

  /// Hides keys of a step from the queries. Full attention: those from `end` on, `end` counted from
  /// the step's first key. Causal: from the first query those from `end` on, one less from the
  /// next.
  QVL_DEVICE static void mask(Scores& scores, int end) {
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int visible = (Config::kCausal ? end + row(r, half) : end) - lane_id() % 4 * 2;
#pragma unroll
        for (int n = 0; n < Config::kScoreTiles; ++n) {
          if (n * 8 >= visible) scores[r][n][half * 2] = -INFINITY;
          if (n * 8 + 1 >= visible) scores[r][n][half * 2 + 1] = -INFINITY;
        }
      }
    }
  }

  /// Turns scores into 2^(scale (score - max)), where max is the largest score so far or less by at
  /// most kLag / scale: only when a query's maximum has grown by more is what was summed so far
  /// brought to it, which after the first steps is rare. The result is the same quotient either
  /// way. Every query sees a key in its first step, so max is finite from then on.
  QVL_DEVICE void softmax(Scores& scores, float scale_log2e) {
    float rescale[Config::kRowTiles][2];
    bool grown = false;
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float step_max = scores[r][0][half * 2];
#pragma unroll
        for (int n = 0; n < Config::kScoreTiles; ++n) {
          step_max = fmaxf(step_max, fmaxf(scores[r][n][half * 2], scores[r][n][half * 2 + 1]));
        }
        step_max = lanes_max<4>(step_max);
        const float growth = (step_max - max[r][half]) * scale_log2e;
        const bool grows = growth > kLag;
        rescale[r][half] = grows ? exp2_approx(-growth) : 1.f;
        if (grows) max[r][half] = step_max;
        grown = grown || grows;
      }
    }
    if (__any_sync(kFullWarp, grown)) {
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          sum[r][half] *= rescale[r][half];
#pragma unroll
          for (int n = 0; n < Config::kOutTiles; ++n) {
            out[r][n][half * 2] *= rescale[r][half];
            out[r][n][half * 2 + 1] *= rescale[r][half];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float offset = max[r][half] * scale_log2e;
#pragma unroll
        for (int n = 0; n < Config::kScoreTiles; ++n) {
#pragma unroll
          for (int i = half * 2; i < half * 2 + 2; ++i) {
            scores[r][n][i] = exp2_approx(fmaf(scores[r][n][i], scale_log2e, -offset));
            sum[r][half] += scores[r][n][i];
          }
        }
      }
    }
  }

  /// out += probabilities V. The accumulators of two score tiles are the A operand of 16
  /// probabilities.
  QVL_DEVICE void multiply_values(const Scores& scores, Shared& shared) {
#pragma unroll
    for (int s = 0; s < kAttentionKeys / 16; ++s) {
      uint32_t probabilities[Config::kRowTiles][4];
#pragma unroll
      for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&tile)[4] = scores[r][2 * s + i / 2];
          probabilities[r][i] = Element<W>::pack(tile[i % 2 * 2], tile[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < Config::kOutTiles; n += 2) {
        uint32_t v[4];  // both halves of 16 keys of tile n, then of tile n + 1
        ldmatrix_x4_trans(v, shared.v.chunk(s * 16 + tile_row(), n + tile_chunk()));
#pragma unroll
        for (int r = 0; r < Config::kRowTiles; ++r) {
          Element<W>::mma(out[r][n], probabilities[r], v[0], v[1]);
          Element<W>::mma(out[r][n + 1], probabilities[r], v[2], v[3]);
        }
      }
    }
  }

  /// Gathers the warp's output in the rows of the query tile that only it has read, and writes it
  /// 16 bytes a lane.
  QVL_DEVICE void store(Shared& shared, const AttentionQueries<W>& queries) {
#pragma unroll
    for (int r = 0; r < Config::kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float inverse = 1.f / lanes_sum<4>(sum[r][half]);
#pragma unroll
        for (int n = 0; n < Config::kOutTiles; ++n) {
          W* pair = shared.q.chunk(row(r, half), n) + lane_id() % 4 * 2;
          *reinterpret_cast<uint32_t*>(pair) =
              Element<W>::pack(out[r][n][half * 2] * inverse, out[r][n][half * 2 + 1] * inverse);
        }
      }
    }
    __syncwarp();
#pragma unroll 2
    for (int i = lane_id(); i < Config::kWarpQueries * Config::kChunks; i += kWarpSize) {
      const int query = first_row(0) + i / Config::kChunks, chunk = i % Config::kChunks;
      if (query < queries.num_queries) {
        store_16(queries.out + static_cast<int64_t>(query) * queries.out_stride + chunk * 8,
                 load_shared_16(shared.q.chunk(query, chunk)));
      }
    }
  }
};

template <class Config, class Keys>
QVL_DEVICE void attend(const AttentionQueries<typename Config::W>& queries, const Keys& keys,
                       float scale_log2e) {
  using Warp = WarpQueries<Config>;
  auto& shared = shared_storage<typename Config::Shared>();
  const auto copy_keys = [&](const typename Keys::Tile& tile, int rows) {
    copy_tile_async(shared.k, rows, [&](int row, int near) { return tile.key(row, near); });
    cp_async_commit();
  };
  const auto copy_values = [&](const typename Keys::Tile& tile, int rows) {
    copy_tile_async(shared.v, rows, [&](int row, int near) { return tile.value(row, near); });
    cp_async_commit();
  };

  // The end of the keys that the block's first query sees, and of those that all of the warp's see.
  const int end = Config::kCausal ? queries.first_position + 1 : keys.num_keys;
  const int warp_end = Config::kCausal ? end + Warp::first_row(0) : end;

  copy_tile_async(shared.q, queries.num_queries, [&](int row, int) {
    return queries.q + static_cast<int64_t>(row) * queries.q_stride;
  });
  typename Keys::Tile tile = keys.tile(0);
  copy_keys(tile, keys.num_keys);

  Warp warp;
  for (int first_key = 0; first_key < keys.num_keys; first_key += kAttentionKeys) {
    cp_async_wait<0>();
    __syncthreads();  // the keys are here for all; everyone is done with the values of the last
                      // step
    copy_values(tile, keys.num_keys - first_key);
    if (first_key == 0) warp.load(shared);

    typename Warp::Scores scores = {};
    warp.multiply_keys(scores, shared);

    cp_async_wait<0>();
    __syncthreads();  // the values are here for all; everyone is done with the keys
    const int next_key = first_key + kAttentionKeys;
    if (next_key < keys.num_keys) {
      tile = keys.tile(next_key);
      copy_keys(tile, keys.num_keys - next_key);
    }

    if (next_key > warp_end) warp.mask(scores, end - first_key);
    warp.softmax(scores, scale_log2e);
    warp.multiply_values(scores, shared);
  }
  warp.store(shared, queries);
}

}  // namespace qvl
