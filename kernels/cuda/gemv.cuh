#pragma once

// Products of up to 8 rows x with a matrix, out = x W^T, limited by how fast W can be read.
//
// A block owns a tile of 8 rows of W, or a pair of such sets whose results are needed together (the
// two halves of a rotated head; gate and up), and strides over the matrix by the grid. Its 8 warps
// share in_features, a segment each. Both operands of the tensor cores come straight from where
// they are: lane l reads 16 bytes of row l / 4, and since any order of k will do as long as both
// operands have it, those are the fragments of two steps. x is the 16-row operand, of which 8 rows
// are used; its rows past T repeat the last one and their results are dropped, so 1 to 8 rows cost
// the same and give the same bits.
//
// What overlaps: a warp asks for its next weights before it multiplies the ones that came, across
// tiles too, so the reduction and the epilogue of a tile run under the next tile's loads. The first
// weights are asked for before the kernel waits for its predecessor and before it normalises x.

#include "device.cuh"
#include "gemv.h"
#include "gemv_epilogue.cuh"

namespace qvl {

/// Segments' sums of a tile, two of them so that one barrier a tile suffices; what is normalised;
/// x.
template <class W, int kSets>
struct GemvShared {
  float sums[2][kSets][kGemvSegments][kGemvMaxRows * kGemvTileRows];
  float squares[kGemvMaxRows][kGemvSegments];

  // The normalised rows, gemv_staged_stride() apart.
  QVL_DEVICE W* staged() { return reinterpret_cast<W*>(this + 1); }
};

/// Which rows of the matrix a tile has: 8 from first_row(tile) on, and with a second set those
/// `distance` further.
template <class Epilogue>
struct GemvTiles {
  int out_features, distance = 0, count;
  QVL_DEVICE GemvTiles(const GemvParams& p, const Epilogue&)
      : out_features(p.out_features), count(ceil_div(p.out_features, kGemvTileRows)) {}
  QVL_DEVICE int first_row(int tile) const { return tile * kGemvTileRows; }
};
template <>
struct GemvTiles<SwiGluEpilogue> {
  int out_features, distance, count;
  QVL_DEVICE GemvTiles(const GemvParams& p, const SwiGluEpilogue&)
      : out_features(p.out_features),
        distance(p.out_features / 2),
        count(p.out_features / (2 * kGemvTileRows)) {}
  QVL_DEVICE int first_row(int tile) const { return tile * kGemvTileRows; }
};
template <>
struct GemvTiles<QkvEpilogue> {
  int out_features, distance, count, tiles_per_head;
  QVL_DEVICE GemvTiles(const GemvParams& p, const QkvEpilogue& e)
      : out_features(p.out_features),
        distance(e.head_dim / 2),
        count(p.out_features / (2 * kGemvTileRows)),
        tiles_per_head(e.head_dim / (2 * kGemvTileRows)) {}
  QVL_DEVICE int first_row(int tile) const {
    return tile / tiles_per_head * 2 * distance + tile % tiles_per_head * kGemvTileRows;
  }
};

/// The weights a lane has asked for: kLoads pieces of 8 columns of a row in each set.
template <int kSets, int kLoads>
struct GemvWeights {
  uint4 bits[kSets][kLoads];
};

/// A warp's way through the tiles of its block. A group is kLoads pieces for each lane.
template <class W, int kSets, int kLoads>
struct GemvWalk {
  static constexpr int kGroupPieces = 4 * kLoads;

  const W* weight;
  int64_t set_stride;   // elements between the sets of a tile
  int64_t in_features;  // of a row
  int last_row;
  int first_piece;  // this lane's, in a row of W
  int end_piece;    // of the segment
  int last_piece;   // of the row

  QVL_DEVICE GemvWalk(const GemvParams& p, int distance)
      : weight(static_cast<const W*>(p.weight)),
        set_stride(static_cast<int64_t>(distance) * p.in_features),
        in_features(p.in_features),
        last_row(p.out_features - 1) {
    const int pieces = p.in_features / 8;
    const int segment = ceil_div(pieces, kGemvSegments);
    first_piece = warp_id() * segment + lane_id() % 4;
    end_piece = min(pieces, (warp_id() + 1) * segment);
    last_piece = pieces - 1;
  }
  QVL_DEVICE int groups() const {
    return ceil_div(ceil_div(last_piece + 1, kGemvSegments), kGroupPieces);
  }
  QVL_DEVICE int piece(int group) const { return first_piece + group * kGroupPieces; }

  /// `row` is the first of the tile's rows in the first set; no load is made unless `wanted`.
  QVL_DEVICE void load(GemvWeights<kSets, kLoads>& out, int row, int group, bool wanted) const {
    const int at = piece(group);
    const W* src = weight + min(row + lane_id() / 4, last_row) * in_features + at * 8;
#pragma unroll
    for (int u = 0; u < kLoads; ++u) {
      const bool valid = wanted && at + 4 * u < end_piece;
#pragma unroll
      for (int s = 0; s < kSets; ++s) {
        out.bits[s][u] = load_streaming_if(src + s * set_stride + 32 * u, valid);
      }
    }
  }
};

/// acc [8 rows of x, 8 rows of W] += the products of a piece of both.
template <class W>
QVL_DEVICE void multiply_piece(float (&acc)[4], uint4 x, uint4 w) {
  Element<W>::mma(acc, {x.x, 0u, x.y, 0u}, w.x, w.y);
  Element<W>::mma(acc, {x.z, 0u, x.w, 0u}, w.z, w.w);
}

/// The sum of the segments of one result.
QVL_DEVICE float combine_segments(const float (&sums)[kGemvSegments][kGemvMaxRows * kGemvTileRows],
                                  int result) {
  float v[kGemvSegments];
#pragma unroll
  for (int s = 0; s < kGemvSegments; ++s) v[s] = sums[s][result];
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

/// Runs over the block's tiles. `prepare()` makes x ready; `input(piece)` gives 8 columns of this
/// lane's row of x.
template <class W, class Epilogue, int kSets, int kLoads, class Prepare, class Input>
QVL_DEVICE void gemv_tiles(const GemvWalk<W, kSets, kLoads>& walk, GemvShared<W, kSets>& shared,
                           const GemvTiles<Epilogue>& layout, int rows, const Epilogue& epilogue,
                           const Prepare& prepare, const Input& input) {
  constexpr int kResults = kGemvMaxRows * kGemvTileRows;
  const int grid = static_cast<int>(gridDim.x);
  const int groups = walk.groups();
  const int tiles = layout.count;
  int tile = static_cast<int>(blockIdx.x);

  GemvWeights<kSets, kLoads> weights;
  walk.load(weights, layout.first_row(tile), 0, tile < tiles);
  prepare();

  for (int turn = 0; tile < tiles; tile += grid, ++turn) {
    float acc[kSets][4] = {};
    for (int group = 0; group < groups; ++group) {
      uint4 x[kLoads];
#pragma unroll
      for (int u = 0; u < kLoads; ++u) {
        x[u] = input(min(walk.piece(group) + 4 * u, walk.last_piece));
      }
      const bool ends = group + 1 == groups;
      const int next_tile = ends ? tile + grid : tile;
      GemvWeights<kSets, kLoads> next;
      walk.load(next, layout.first_row(next_tile), ends ? 0 : group + 1, next_tile < tiles);
#pragma unroll
      for (int u = 0; u < kLoads; ++u) {
#pragma unroll
        for (int s = 0; s < kSets; ++s) multiply_piece<W>(acc[s], x[u], weights.bits[s][u]);
      }
      weights = next;
    }

    auto& sums = shared.sums[turn % 2];
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      // Lane l holds row l / 4 of x and rows 2 (l % 4), 2 (l % 4) + 1 of W.
      float* dst = &sums[s][warp_id()][lane_id() * 2];
      dst[0] = acc[s][0];
      dst[1] = acc[s][1];
    }
    __syncthreads();
    // Two warps finish a tile, each time the next two.
    const int result = static_cast<int>(threadIdx.x) - turn % (kGemvThreads / kResults) * kResults;
    if (result >= 0 && result < rows * kGemvTileRows) {
      const int row = result / kGemvTileRows;
      const int out = layout.first_row(tile) + result % kGemvTileRows;
      const float first = combine_segments(sums[0], result);
      if constexpr (kSets == 2) {
        const float second = combine_segments(sums[1], result);
        finish<W>(epilogue, row, out, out + layout.distance, first, second);
      } else if (out < layout.out_features) {
        finish<W>(epilogue, row, out, -1, first, 0.f);
      }
    }
  }
}

// ---- the normalised input ----

QVL_DEVICE int64_t gemv_staged_stride(int in_features) {
  return ceil_div(in_features, 64) * 64 + kGemvStagedPadding;
}

QVL_DEVICE float4 load_floats(const float* src) {
  const uint4 bits = load_16(src);
  return make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                     __uint_as_float(bits.w));
}

/// The warps' shares of sum(x^2) of rows [first, first + kRows); their loads overlap.
template <int kRows>
QVL_DEVICE void sum_squares(float (*squares)[kGemvSegments], const GemvParams& p, int first) {
  const float* x = static_cast<const float*>(p.x) + first * p.x_stride;
  float sum[kRows] = {};
  for (int i = static_cast<int>(threadIdx.x) * 4; i < p.in_features; i += kGemvThreads * 4) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float4 v = load_floats(x + r * p.x_stride + i);
      sum[r] = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum[r]))));
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    sum[r] = lanes_sum(sum[r]);
    if (lane_id() == 0) squares[first + r][warp_id()] = sum[r];
  }
}

/// Writes rows [first, first + kRows) to shared memory, normalised.
template <class W, int kRows>
QVL_DEVICE void normalize_rows(W* staged, const float (*squares)[kGemvSegments],
                               const GemvParams& p, int first) {
  const float* x = static_cast<const float*>(p.x) + first * p.x_stride;
  const int64_t stride = gemv_staged_stride(p.in_features);
  float scale[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < kGemvSegments; ++w) sum += squares[first + r][w];
    scale[r] = rsqrtf(sum / static_cast<float>(p.in_features) + p.eps);
  }
  for (int i = static_cast<int>(threadIdx.x) * 4; i < p.in_features; i += kGemvThreads * 4) {
    const float4 w = load_floats(p.norm_weight + i);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float4 v = load_floats(x + r * p.x_stride + i);
      store_shared_8(staged + (first + r) * stride + i,
                     make_uint2(Element<W>::pack(v.x * scale[r] * w.x, v.y * scale[r] * w.y),
                                Element<W>::pack(v.z * scale[r] * w.z, v.w * scale[r] * w.w)));
    }
  }
}

template <class W, int kSets>
QVL_DEVICE void stage_normalized(GemvShared<W, kSets>& shared, const GemvParams& p) {
  int first = 0;
  for (; first + 4 <= p.rows; first += 4) sum_squares<4>(shared.squares, p, first);
  for (; first < p.rows; ++first) sum_squares<1>(shared.squares, p, first);
  __syncthreads();
  first = 0;
  for (; first + 4 <= p.rows; first += 4) {
    normalize_rows<W, 4>(shared.staged(), shared.squares, p, first);
  }
  for (; first < p.rows; ++first) {
    normalize_rows<W, 1>(shared.staged(), shared.squares, p, first);
  }
  __syncthreads();
}

// ---- the kernel ----

template <class W, class Epilogue>
QVL_DEVICE void gemv(const GemvParams& p, const Epilogue& epilogue) {
  constexpr int kSets = kGemvSets<Epilogue>;
  constexpr bool kNorm = !std::is_same_v<Epilogue, ResidualEpilogue>;
  auto& shared = shared_storage<GemvShared<W, kSets>>();
  const GemvTiles<Epilogue> layout(p, epilogue);
  const GemvWalk<W, kSets, 4 / kSets> walk(p, layout.distance);
  // Lanes of rows past the last one repeat it; their results are dropped.
  const int row = min(lane_id() / 4, p.rows - 1);
  const auto prepare = [&] {
    wait_for_predecessor();
    release_successor();
    if constexpr (kNorm) stage_normalized(shared, p);
  };
  if constexpr (kNorm) {
    const W* x = shared.staged() + row * gemv_staged_stride(p.in_features);
    const auto input = [&](int piece) { return load_shared_16(x + piece * 8); };
    gemv_tiles(walk, shared, layout, p.rows, epilogue, prepare, input);
  } else {
    // Each warp reads its segment of x where it is, out of L1 from the second tile on: in_features
    // is the widest here, and nothing has to be waited for.
    const W* x = static_cast<const W*>(p.x) + row * p.x_stride;
    const auto input = [&](int piece) { return load_16(x + piece * 8); };
    gemv_tiles(walk, shared, layout, p.rows, epilogue, prepare, input);
  }
}

}  // namespace qvl
