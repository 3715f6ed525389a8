#pragma once

// The inner product of matrix products: a tile of sums in registers.

#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

/// One k: acc [kRows][kVectors] += row(r) * weights, row(r) being one number in every lane.
template <int kRows, int kVectors, class Row>
QVL_ALWAYS_INLINE inline void multiply_step(Vector (&acc)[kRows][kVectors],
                                            const Vector (&weights)[kVectors], const Row& row) {
  unroll<kRows>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(index)::value;
    const Vector x = row(r);
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      acc[r][c] = fmadd(x, weights[c], acc[r][c]);
    });
  });
}

template <int kRows, int kVectors>
QVL_ALWAYS_INLINE inline void zero_tile(Vector (&acc)[kRows][kVectors]) {
  unroll<kRows * kVectors>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int i = decltype(index)::value;
    acc[i / kVectors][i % kVectors] = zero();
  });
}

/// A tile's rows in memory: row r at data + r * stride.
template <int kRows, int kVectors>
QVL_ALWAYS_INLINE inline void load_tile(Vector (&acc)[kRows][kVectors], const float* data,
                                        int64_t stride) {
  unroll<kRows * kVectors>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(index)::value / kVectors;
    constexpr int c = decltype(index)::value % kVectors;
    acc[r][c] = load(data + r * stride + c * kLanes);
  });
}
template <int kRows, int kVectors>
QVL_ALWAYS_INLINE inline void store_tile(const Vector (&acc)[kRows][kVectors], float* data,
                                         int64_t stride) {
  unroll<kRows * kVectors>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(index)::value / kVectors;
    constexpr int c = decltype(index)::value % kVectors;
    store(data + r * stride + c * kLanes, acc[r][c]);
  });
}

/// to [count * kLanes] = from, widened.
template <Format kFormat>
inline void widen(float* to, const char* from, int64_t count) {
  constexpr int64_t kBytes = kLanes * static_cast<int64_t>(format_size(kFormat));
  for (int64_t i = 0; i < count; ++i)
    store(to + i * kLanes, load_widened<kFormat>(from + i * kBytes));
}

/// rows[i][j] becomes rows[j][i]: log2(kLanes) perfect shuffles of the vectors and their lanes.
QVL_ALWAYS_INLINE inline void transpose(Vector (&rows)[kLanes]) {
  for (int step = 1; step < kLanes; step *= 2) {
    Vector next[kLanes];
    unroll<kLanes / 2>([&](auto index) QVL_ALWAYS_INLINE {
      constexpr int i = decltype(index)::value;
      interleave(rows[i], rows[i + kLanes / 2], next[2 * i], next[2 * i + 1]);
    });
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

/// Rows are cut into tiles of near equal height, at most kMaxTileRows: a last tile of one row
/// would have too few chains.
inline int64_t num_tiles(int64_t rows) { return ceil_div(rows, kMaxTileRows); }
inline int64_t tile_begin(int64_t rows, int64_t tile) { return rows * tile / num_tiles(rows); }

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
