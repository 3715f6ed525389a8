#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gemv_epilogue.h"

namespace qvl {

// A matrix [out_features, in_features] of W times 1 ... 8 rows of activations: the linear layers of
// a decode step, each with what follows it (gemv_epilogue.h).
constexpr int kGemvThreads = 256;
constexpr int kGemvMaxRows = 8;
// The sum over in_features is that of 8 consecutive parts of equal length (rounded up to 8
// columns), one of a warp each, combined by a balanced binary tree. A row's result depends on that
// row alone.
constexpr int kGemvSegments = 8;
// Rows of the matrix in a tile, which two sets make where the epilogue needs pairs.
constexpr int kGemvTileRows = 8;

struct GemvParams {
  const void* weight;  // W, row-major; in_features a multiple of 8, 16-byte aligned
  // W [rows, in_features]; with norm_weight F32, normalised first: x * rsqrt(mean(x^2) + eps) *
  // norm_weight, rounded to W. Residual has no norm, the others have one.
  const void* x;
  const float* norm_weight;  // [in_features]
  int64_t x_stride;          // elements between rows, a multiple of 8
  int32_t rows;              // 1 ... kGemvMaxRows
  int32_t in_features;
  int32_t out_features;  // of the matrix; multiples of 16 for qkv and swiglu
  float eps;
};

// Of gemv_<epilogue>_<W>. Shape: gemv_grid() blocks, kGemvThreads, gemv_shared_bytes().
template <class Epilogue>
struct GemvKernelParams {
  GemvParams gemv;
  Epilogue epilogue;
};

/// Sets of a tile.
template <class Epilogue>
constexpr int kGemvSets = 2;
template <>
inline constexpr int kGemvSets<ResidualEpilogue> = 1;
template <>
inline constexpr int kGemvSets<LogitsEpilogue> = 1;

/// As many blocks as have the same number of tiles, but for the last tile of some. `resident`: how
/// many the device holds at once.
template <class Epilogue>
constexpr unsigned gemv_grid(int64_t out_features, int64_t resident) {
  constexpr int64_t kTile = kGemvTileRows * kGemvSets<Epilogue>;
  const int64_t tiles = (out_features + kTile - 1) / kTile;
  const int64_t rounds = (tiles + resident - 1) / resident;
  return static_cast<unsigned>((tiles + rounds - 1) / rounds);
}

// Elements that a staged row is longer than a multiple of a line, so that the rows of a product
// meet in no bank.
constexpr int kGemvStagedPadding = 32;

template <class Epilogue>
constexpr size_t gemv_shared_bytes(int64_t rows, int64_t in_features) {
  constexpr bool kNorm = !std::is_same_v<Epilogue, ResidualEpilogue>;
  const int64_t sum_bytes =
      2 * kGemvSets<Epilogue> * kGemvSegments * kGemvMaxRows * kGemvTileRows * 4;
  const int64_t square_bytes = kGemvMaxRows * kGemvSegments * 4;
  const int64_t stride = (in_features + 63) / 64 * 64 + kGemvStagedPadding;
  return static_cast<size_t>(sum_bytes + square_bytes + (kNorm ? rows * stride * 2 : 0));
}

}  // namespace qvl
