#pragma once

// Attention of a few rows, limited by how fast keys and values can be read.
//
// A block owns a split of a row's keys for one kv head and all query heads that read it, so keys
// and values are read once. Its warps take turns at tiles of 16 keys. Nothing is staged: with the
// keys as the 8-column operand and the values, two keys interleaved, as the 16-row operand of the
// tensor cores, 16-byte pieces of the cache are fragments as they come, if a product's k runs
// through the head in another order. Lane l has g = l / 4 and t = l % 4:
//   scores [8 queries, 8 keys]      lane: query g, keys 2t, 2t + 1
//   sums [16 dimensions, 8 queries] lane: queries 2t, 2t + 1, dimensions of its pieces of values
//
// The next tile's keys are asked for when this tile's scores are there, its values when these are
// multiplied. A sequence's old tokens depend on no kernel of the step: the first tile is asked for
// before the kernel waits for its predecessor. The last block of a row's kv head merges the splits,
// in order of position.

#include "attention_decode.h"
#include "device.cuh"

namespace qvl {

/// How the lanes of a warp share a head's dimensions. Pieces are 16 bytes: 8 numbers.
template <int kHeadDim>
struct DecodeHead {
  static constexpr int kKeyPieces = kHeadDim / 32;              // of a lane, 4 apart
  static constexpr int kValuePieces = kHeadDim == 128 ? 2 : 1;  // of a lane, 8 apart
  static constexpr int kRun = kHeadDim / 16;                    // neighbouring sums
  static constexpr int kWords = kRun / 2;

  /// First piece of values that a lane reads.
  QVL_DEVICE static int value_piece(int g) { return kHeadDim == 32 ? g % 4 : g; }
  /// First of the kRun dimensions of operand rows g (half 0) and g + 8 (half 1).
  QVL_DEVICE static int dimension(int g, int half) {
    if constexpr (kHeadDim == 128) return 8 * g + 64 * half;
    if constexpr (kHeadDim == 64) return 8 * g + 4 * half;
    return g % 4 * 8 + g / 4 * 2 + 4 * half;
  }
  /// The words of a key's values that belong to operand rows g and g + 8.
  QVL_DEVICE static void split_words(uint32_t (&lower)[kWords], uint32_t (&upper)[kWords],
                                     const uint4 (&pieces)[kValuePieces], int g) {
    if constexpr (kHeadDim == 128) {
      const uint4 a = pieces[0], b = pieces[1];
      lower[0] = a.x, lower[1] = a.y, lower[2] = a.z, lower[3] = a.w;
      upper[0] = b.x, upper[1] = b.y, upper[2] = b.z, upper[3] = b.w;
    } else if constexpr (kHeadDim == 64) {
      lower[0] = pieces[0].x, lower[1] = pieces[0].y;
      upper[0] = pieces[0].z, upper[1] = pieces[0].w;
    } else {
      lower[0] = g < 4 ? pieces[0].x : pieces[0].y;
      upper[0] = g < 4 ? pieces[0].z : pieces[0].w;
    }
  }
};

template <int kHeadDim>
struct AttentionDecodeShared {
  static constexpr int kWarps = kAttentionDecodeThreads / kWarpSize;
  // Of the warps, then of the splits. Pieces of 4 dimensions are permuted (see sum_place).
  float sums[kWarps][kAttentionDecodeMaxGroup][kHeadDim];
  float largest[kAttentionDecodeMaxSplits][kAttentionDecodeMaxGroup];
  float weights[kAttentionDecodeMaxSplits][kAttentionDecodeMaxGroup];
  uint32_t arrived;

  /// Where dimension d of a query's sum lies: so that the 8 lanes whose 16-byte stores go together
  /// (4 queries, 2 pieces) meet in no bank.
  QVL_DEVICE static int sum_place(int query, int d) {
    const int mix = (query >> 1 & 1) | (query >> 2 & 1) << 2;
    return d ^ mix * 4;
  }
};

/// The keys and values of a tile that a lane has asked for.
template <int kHeadDim>
struct DecodeTile {
  using Head = DecodeHead<kHeadDim>;
  uint4 keys[2][Head::kKeyPieces];         // of tokens g, 8 + g
  uint4 values[2][2][Head::kValuePieces];  // of tokens 2t, 2t + 1; 8 + 2t, 9 + 2t
};

/// The part of a row's keys that a warp walks.
template <class W, int kHeadDim>
struct DecodeWalk {
  using Head = DecodeHead<kHeadDim>;
  static constexpr int kTileKeys = 16;

  const W* cache;         // the kv head's keys in block 0
  int64_t block_stride;   // elements
  const int32_t* blocks;  // the sequence's
  int num_keys;           // that the row sees

  QVL_DEVICE int block_of(int first_key) const {
    return first_key < num_keys ? blocks[first_key / kKvTokens] : 0;
  }
  QVL_DEVICE const W* tokens(int first_key, int block) const {
    return cache + block * block_stride + first_key % kKvTokens * kHeadDim;
  }
  /// Tokens that the row does not see are zeros: memory behind them may hold anything.
  QVL_DEVICE void load_keys(DecodeTile<kHeadDim>& tile, int first_key, int block) const {
    const int g = lane_id() / 4, t = lane_id() % 4;
    const W* src = tokens(first_key, block) + g * kHeadDim + t * 8;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const bool seen = first_key + 8 * h + g < num_keys;
#pragma unroll
      for (int i = 0; i < Head::kKeyPieces; ++i) {
        tile.keys[h][i] = load_streaming_if(src + 8 * h * kHeadDim + 32 * i, seen);
      }
    }
  }
  QVL_DEVICE void load_values(DecodeTile<kHeadDim>& tile, int first_key, int block) const {
    const int g = lane_id() / 4, t = lane_id() % 4;
    const W* src =
        tokens(first_key, block) + (kKvTokens + 2 * t) * kHeadDim + Head::value_piece(g) * 8;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const bool seen = first_key + 8 * h + 2 * t + c < num_keys;
#pragma unroll
        for (int i = 0; i < Head::kValuePieces; ++i) {
          tile.values[h][c][i] = load_streaming_if(src + (8 * h + c) * kHeadDim + 64 * i, seen);
        }
      }
    }
  }
};

/// What a warp has found out about its tiles.
template <class W, int kHeadDim>
struct DecodeState {
  using Head = DecodeHead<kHeadDim>;

  uint4 q[Head::kKeyPieces];       // of query g
  float largest = -INFINITY;       // score of query g
  float weights = 0.f;             // sum for query g, this lane's keys only
  float sums[Head::kRun][4] = {};  // operand rows g (0, 1) and g + 8 (2, 3), queries 2t, 2t + 1

  QVL_DEVICE void score(float (&scores)[2][4], const DecodeTile<kHeadDim>& tile) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[h][i] = 0.f;
#pragma unroll
      for (int i = 0; i < Head::kKeyPieces; ++i) {
        const uint4 key = tile.keys[h][i];
        Element<W>::mma(scores[h], {q[i].x, 0u, q[i].y, 0u}, key.x, key.y);
        Element<W>::mma(scores[h], {q[i].z, 0u, q[i].w, 0u}, key.z, key.w);
      }
    }
  }

  /// Turns scores into weights; `keys` are left, at least one. Rescales what there is.
  QVL_DEVICE void weigh(uint32_t (&packed)[2], float (&scores)[2][4], int keys, float scale) {
    const int t = lane_id() % 4;
    float best = largest;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        scores[h][c] = 8 * h + 2 * t + c < keys ? scores[h][c] * scale : -INFINITY;
        best = fmaxf(best, scores[h][c]);
      }
    }
    best = lanes_max<4>(best);
    const float rescale = exp2_approx(largest - best);
    largest = best;
    weights *= rescale;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float lower = exp2_approx(scores[h][0] - best),
                  upper = exp2_approx(scores[h][1] - best);
      weights += lower + upper;
      packed[h] = Element<W>::pack(lower, upper);
    }
    const float even = __shfl_sync(kFullWarp, rescale, t * 8);
    const float odd = __shfl_sync(kFullWarp, rescale, t * 8 + 4);
#pragma unroll
    for (int j = 0; j < Head::kRun; ++j) {
      sums[j][0] *= even, sums[j][1] *= odd;
      sums[j][2] *= even, sums[j][3] *= odd;
    }
  }

  QVL_DEVICE void add_values(const DecodeTile<kHeadDim>& tile, const uint32_t (&packed)[2]) {
    constexpr int kWords = Head::kWords;
    const int g = lane_id() / 4;
    uint32_t lower[2][2][kWords], upper[2][2][kWords];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int c = 0; c < 2; ++c) Head::split_words(lower[h][c], upper[h][c], tile.values[h][c], g);
    }
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      Element<W>::mma(sums[2 * w],
                      {lower_halves(lower[0][0][w], lower[0][1][w]),
                       lower_halves(upper[0][0][w], upper[0][1][w]),
                       lower_halves(lower[1][0][w], lower[1][1][w]),
                       lower_halves(upper[1][0][w], upper[1][1][w])},
                      packed[0], packed[1]);
      Element<W>::mma(sums[2 * w + 1],
                      {upper_halves(lower[0][0][w], lower[0][1][w]),
                       upper_halves(upper[0][0][w], upper[0][1][w]),
                       upper_halves(lower[1][0][w], lower[1][1][w]),
                       upper_halves(upper[1][0][w], upper[1][1][w])},
                      packed[0], packed[1]);
    }
  }

  QVL_DEVICE static uint32_t lower_halves(uint32_t a, uint32_t b) {
    return (a & 0xffffu) | b << 16;
  }
  QVL_DEVICE static uint32_t upper_halves(uint32_t a, uint32_t b) {
    return a >> 16 | (b & 0xffff0000u);
  }

  QVL_DEVICE void store(AttentionDecodeShared<kHeadDim>& shared, int group) const {
    const int g = lane_id() / 4, t = lane_id() % 4, warp = warp_id();
    const float sum = lanes_sum<4>(weights);
    if (t == 0) {
      shared.largest[warp][g] = largest;
      shared.weights[warp][g] = sum;
    }
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int query = 2 * t + c;
      if (query >= group) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int d = Head::dimension(g, half);
        float run[Head::kRun];
#pragma unroll
        for (int j = 0; j < Head::kRun; ++j) run[j] = sums[j][2 * half + c];
        if constexpr (Head::kRun == 2) {
          float* dst = &shared.sums[warp][query][shared.sum_place(query, d)];
          dst[0] = run[0];
          dst[1] = run[1];
        } else {
#pragma unroll
          for (int j = 0; j < Head::kRun; j += 4) {
            store_shared_16(&shared.sums[warp][query][shared.sum_place(query, d + j)],
                            float_bits(run[j], run[j + 1], run[j + 2], run[j + 3]));
          }
        }
      }
    }
  }

  QVL_DEVICE static uint4 float_bits(float a, float b, float c, float d) {
    return make_uint4(__float_as_uint(a), __float_as_uint(b), __float_as_uint(c),
                      __float_as_uint(d));
  }
};

/// Four dimensions of a query: the sum over parts of weight * sum, and the sum of their weights.
struct DecodeMerge {
  float sums[4] = {};
  float weights = 0.f;

  /// The factor of a part whose largest score is `part`; parts without keys have none.
  QVL_DEVICE static float factor(float part, float best) { return exp2_approx(part - best); }
  QVL_DEVICE void add(uint4 bits, float part_weights, float factor) {
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] = fmaf(factor, __uint_as_float(words[i]), sums[i]);
    weights = fmaf(factor, part_weights, weights);
  }
  template <class W>
  QVL_DEVICE void store(W* dst) const {
    const float scale = 1.f / weights;
    store_8(dst, make_uint2(Element<W>::pack(sums[0] * scale, sums[1] * scale),
                            Element<W>::pack(sums[2] * scale, sums[3] * scale)));
  }
};

/// Where a block's results go.
template <class W, int kHeadDim>
struct DecodeOutput {
  static constexpr int kQuads = kHeadDim / 4;
  static constexpr int kWarps = AttentionDecodeShared<kHeadDim>::kWarps;
  AttentionDecodeShared<kHeadDim>& shared;
  W* out;           // of the first query head
  float* partials;  // of the first split
  float* statistics;
  int group;

  /// Of the warps: to `out` if there is one split only.
  QVL_DEVICE void merge_warps(int split, bool only) const {
    for (int i = static_cast<int>(threadIdx.x); i < group * kQuads; i += kAttentionDecodeThreads) {
      const int query = i / kQuads, d = i % kQuads * 4;
      float best = -INFINITY;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) best = fmaxf(best, shared.largest[w][query]);
      DecodeMerge merge;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const uint4 bits = load_shared_16(&shared.sums[w][query][shared.sum_place(query, d)]);
        merge.add(bits, shared.weights[w][query],
                  DecodeMerge::factor(shared.largest[w][query], best));
      }
      if (only) {
        merge.store(out + query * kHeadDim + d);
        continue;
      }
      const int64_t row = static_cast<int64_t>(split) * group + query;
      store_16(partials + row * kHeadDim + d,
               DecodeState<W, kHeadDim>::float_bits(merge.sums[0], merge.sums[1], merge.sums[2],
                                                    merge.sums[3]));
      if (d == 0) {
        statistics[2 * row] = best;
        statistics[2 * row + 1] = merge.weights;
      }
    }
  }

  QVL_DEVICE void merge_splits(int splits) const {
    for (int i = static_cast<int>(threadIdx.x); i < splits * group; i += kAttentionDecodeThreads) {
      shared.largest[i / group][i % group] = load_volatile(statistics + 2 * i);
      shared.weights[i / group][i % group] = load_volatile(statistics + 2 * i + 1);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < group * kQuads; i += kAttentionDecodeThreads) {
      const int query = i / kQuads, d = i % kQuads * 4;
      float best = -INFINITY;
      for (int s = 0; s < splits; ++s) best = fmaxf(best, shared.largest[s][query]);
      DecodeMerge merge;
#pragma unroll 8
      for (int s = 0; s < splits; ++s) {
        const int64_t row = static_cast<int64_t>(s) * group + query;
        merge.add(load_volatile_16(partials + row * kHeadDim + d), shared.weights[s][query],
                  DecodeMerge::factor(shared.largest[s][query], best));
      }
      merge.store(out + query * kHeadDim + d);
    }
  }
};

template <class W, int kHeadDim>
QVL_DEVICE void attention_decode(const AttentionDecodeParams& p) {
  using Shared = AttentionDecodeShared<kHeadDim>;
  using Walk = DecodeWalk<W, kHeadDim>;
  constexpr int kRound = Shared::kWarps * Walk::kTileKeys;
  auto& shared = shared_storage<Shared>();
  const int row = static_cast<int>(blockIdx.z), kv_head = static_cast<int>(blockIdx.y);
  const int split = static_cast<int>(blockIdx.x), group = p.heads / p.kv_heads;

  const SequenceTable& table = p.sequences;
  const int sequence = table.row_sequence[row];
  const int num_cached = table.num_cached[sequence];
  const int num_keys = num_cached + row - table.first_row[sequence] + 1;
  int split_keys = kAttentionDecodeLeastSplit;
  while (split_keys * kAttentionDecodeMaxSplits < num_keys) split_keys *= 2;
  const int splits = ceil_div(num_keys, split_keys);
  if (split >= splits) return;

  constexpr int64_t kKindStride = static_cast<int64_t>(kKvTokens) * kHeadDim;
  const Walk walk{static_cast<const W*>(p.cache) + 2 * kv_head * kKindStride,
                  2 * p.kv_heads * kKindStride,
                  table.block_table + static_cast<int64_t>(sequence) * table.max_blocks, num_keys};
  const int end = min(num_keys, (split + 1) * split_keys);
  int first_key = split * split_keys + warp_id() * Walk::kTileKeys;
  int block = walk.block_of(first_key);
  int next_block = walk.block_of(first_key + kRound);
  DecodeTile<kHeadDim> tile;
  // Only this step's tokens are the predecessor's work.
  const bool is_old = first_key + Walk::kTileKeys <= num_cached;
  if (is_old) {
    walk.load_keys(tile, first_key, block);
    walk.load_values(tile, first_key, block);
  }
  wait_for_predecessor();
  release_successor();
  if (!is_old) {
    walk.load_keys(tile, first_key, block);
    walk.load_values(tile, first_key, block);
  }

  DecodeState<W, kHeadDim> state;
  const W* q = static_cast<const W*>(p.q) + row * p.q_stride +
               (kv_head * group + min(lane_id() / 4, group - 1)) * kHeadDim + lane_id() % 4 * 8;
#pragma unroll
  for (int i = 0; i < DecodeHead<kHeadDim>::kKeyPieces; ++i) state.q[i] = load_16(q + 32 * i);

  for (; first_key < end; first_key += kRound) {
    const int next = first_key + kRound;
    block = next_block;
    next_block = walk.block_of(next + kRound);
    float scores[2][4];
    uint32_t weights[2];
    state.score(scores, tile);
    if (next < end) walk.load_keys(tile, next, block);
    state.weigh(weights, scores, num_keys - first_key, p.scale);
    state.add_values(tile, weights);
    if (next < end) walk.load_values(tile, next, block);
  }
  state.store(shared, group);
  __syncthreads();

  const int64_t owner = static_cast<int64_t>(row) * p.kv_heads + kv_head;
  const int64_t first_partial = owner * kAttentionDecodeMaxSplits * group;
  const DecodeOutput<W, kHeadDim> output{
      shared, static_cast<W*>(p.out) + row * p.out_stride + kv_head * group * kHeadDim,
      p.partials + first_partial * kHeadDim, p.statistics + first_partial * 2, group};
  output.merge_warps(split, splits == 1);
  if (splits == 1) return;

  // Release and acquire are cumulative: across the barriers the one atomic orders the writes of all
  // of this block's threads before it, and the reads of all after it.
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.arrived = atomic_add_acq_rel(p.arrivals + owner, 1u) + 1;
    if (shared.arrived == static_cast<uint32_t>(splits)) p.arrivals[owner] = 0;
  }
  __syncthreads();
  if (shared.arrived != static_cast<uint32_t>(splits)) return;
  output.merge_splits(splits);
}

}  // namespace qvl
