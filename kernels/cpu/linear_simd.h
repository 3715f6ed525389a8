#pragma once

// out = residual + activation(x * weight^T + bias). See LinearArgs for the order of sums, which is
// the same in both ways:
//   linear         few rows: a panel is streamed from memory once and widened in registers by
//                  every tile of rows
//   linear_packed  many rows: a block of a panel is widened into the first-level cache and every
//                  tile of rows goes over it; partial sums wait in scratch between blocks of k

#include "kernels/cpu/linear.h"
#include "kernels/cpu/math_simd.h"
#include "kernels/cpu/tile_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Sums of finished subtrees that can exist at once: 4 with 8 segments.
constexpr int kMaxDepth = 4;
// A panel is this many vectors wide, and this many register tiles.
constexpr int kPanelVectors = kPanelWidth / kLanes;
constexpr int kPanelTiles = kPanelVectors / kTileVectors;
constexpr int kTileColumns = kTileVectors * kLanes;

// Measured: beyond, reading x with its row stride costs more than packing it.
constexpr int64_t kMaxUnpackedRows = 32;
// Few rows: how far ahead of their use weights are fetched into the cache. Measured on Zen 5:
// without, the processor keeps too few lines in flight, and 2 to 6 rows run at half the speed.
constexpr int64_t kPrefetchBytes = 8192;
// Few rows: the block of k that several tiles use while it is in the first-level cache.
constexpr int64_t kFewRowsBlockK = 64;

constexpr int64_t kTilesAtOnce = kRowsAtOnce / kMaxTileRows;
constexpr int64_t kSumsFloats = kRowsAtOnce * kPanelWidth;  // of one subtree
constexpr int64_t kLinearScratchFloats = kBlockK * kPanelWidth + kMaxDepth * kSumsFloats;

// Bytes of one k in a panel, and of its part in a register tile.
template <Format kFormat>
constexpr int64_t kStepBytes = static_cast<int64_t>(format_size(kFormat)) * kPanelWidth;
template <Format kFormat>
constexpr int64_t kTileBytes = static_cast<int64_t>(format_size(kFormat)) * kTileColumns;

// Writes the panel's columns of out[row], from `first` on, from the finished sums [32].
void finish(const LinearArgs& args, int64_t row, int64_t first, const float* sums) {
  float* out = args.out + row * args.out_stride + first;
  const float* residual =
      args.residual == nullptr ? nullptr : args.residual + row * args.residual_stride + first;
  const int64_t left = args.out_features - first;
  for_vectors(left < kPanelWidth ? left : kPanelWidth, [&](int64_t i, auto lanes) {
    Vector value = load(sums + i);
    if (args.bias != nullptr) value = add(value, load(args.bias + first + i, lanes));
    if (args.activation == Activation::kQuickGelu) {
      value = swish(value, -1.702f);
    } else if (args.activation == Activation::kGelu) {
      float numbers[kLanes];
      store(numbers, value);
      gelu_in_place(numbers, kLanes);
      value = load(numbers);
    }
    if (residual != nullptr) value = add(load(residual + i, lanes), value);
    store(out + i, value, lanes);
  });
}

// After segment `segment`: adds up the subtrees that it completes. stack [depth][stride]; returns
// the new depth.
int merge_subtrees(float* stack, int64_t stride, int64_t floats, int depth, int segment) {
  for (int merged = segment + 1; merged % 2 == 0; merged /= 2) {
    --depth;
    float* to = stack + (depth - 1) * stride;
    const float* from = stack + depth * stride;
    for (int64_t i = 0; i < floats; i += kLanes) store(to + i, add(load(to + i), load(from + i)));
  }
  return depth;
}

// ---- few rows ----

// kVectors of a panel over `count` inputs: sums [kRows][32] go on, or start.
template <Format kFormat, int kRows, int kVectors>
void panel_chains(float* sums, const float* x, int64_t x_stride, const char* w, int64_t count,
                  bool start, bool prefetch) {
  constexpr int64_t kVectorBytes = kLanes * static_cast<int64_t>(format_size(kFormat));
  Vector acc[kRows][kVectors];
  if (start) {
    zero_tile(acc);
  } else {
    load_tile(acc, sums, kPanelWidth);
  }
  for (int64_t k = 0; k < count; ++k) {
    if (prefetch) {
      for (int64_t line = 0; line < kStepBytes<kFormat>; line += kLineBytes) {
        prefetch_to_l1(w + line + kPrefetchBytes);
      }
    }
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      const Vector weights = load_widened<kFormat>(w + c * kVectorBytes);
      unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
        constexpr int r = decltype(row)::value;
        acc[r][c] = fmadd(load_broadcast(x + r * x_stride + k), weights, acc[r][c]);
      });
    });
    w += kStepBytes<kFormat>;
  }
  store_tile(acc, sums, kPanelWidth);
}

// sums [rows][32] = the chains over one segment of a panel.
template <Format kFormat>
void segment_chains(float* sums, const float* x, int64_t x_stride, int64_t rows, const char* w,
                    int64_t count) {
  if (rows <= kMaxWholePanelRows) {
    return with_constant<kMaxWholePanelRows>(rows, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      panel_chains<kFormat, kRows, kPanelVectors>(sums, x, x_stride, w, count, true, true);
    });
  }
  // More rows' sums do not fit the registers: one tile of rows and columns after the other, over
  // blocks that stay in the first-level cache.
  for (int64_t k = 0; k < count; k += kFewRowsBlockK) {
    const int64_t length = count - k < kFewRowsBlockK ? count - k : kFewRowsBlockK;
    const char* weights = w + k * kStepBytes<kFormat>;
    for (int64_t tile = 0; tile < num_tiles(rows); ++tile) {
      const int64_t row = tile_begin(rows, tile);
      with_constant<kMaxTileRows>(tile_begin(rows, tile + 1) - row, [&](auto constant) {
        constexpr int kRows = decltype(constant)::value;
        for (int column = 0; column < kPanelTiles; ++column) {
          panel_chains<kFormat, kRows, kTileVectors>(
              sums + row * kPanelWidth + column * kTileColumns, x + row * x_stride + k, x_stride,
              weights + column * kTileBytes<kFormat>, length, k == 0, tile == 0 && column == 0);
        }
      });
    }
  }
}

template <Format kFormat>
void linear_in(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  const int64_t length = args.in_features / args.segments;
  for (int64_t first_row = 0; first_row < args.rows; first_row += kMaxUnpackedRows) {
    const int64_t left = args.rows - first_row;
    const int64_t rows = left < kMaxUnpackedRows ? left : kMaxUnpackedRows;
    const float* x = args.x + first_row * args.x_stride;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      const char* w =
          static_cast<const char*>(args.weight) + panel * args.in_features * kStepBytes<kFormat>;
      float stack[kMaxDepth][kMaxUnpackedRows * kPanelWidth];
      int depth = 0;
      for (int segment = 0; segment < args.segments; ++segment) {
        const int64_t first = segment * length;
        segment_chains<kFormat>(stack[depth++], x + first, args.x_stride, rows,
                                w + first * kStepBytes<kFormat>, length);
        depth = merge_subtrees(stack[0], kMaxUnpackedRows * kPanelWidth, rows * kPanelWidth, depth,
                               segment);
      }
      for (int64_t r = 0; r < rows; ++r) {
        finish(args, first_row + r, panel * kPanelWidth, stack[0] + r * kPanelWidth);
      }
    }
  }
}

// ---- many rows ----

// What a tile does beside its arithmetic: it fetches the weights that come next, `step` bytes for
// each k, so that widening them later does not wait for memory.
struct Prefetch {
  const char* from;  // null: nothing
  int64_t step;
};

// One register tile over a block of k: sums [kRows] of stride 32 go on, or start.
template <int kRows>
void tile_block(float* sums, const float* packed, const float* weights, int64_t count, bool start,
                Prefetch prefetch) {
  Vector acc[kRows][kTileVectors];
  if (start) {
    zero_tile(acc);
  } else {
    load_tile(acc, sums, kPanelWidth);
  }
  if (prefetch.from == nullptr) {
    multiply_tile<kRows, kTileVectors, 1, kRows>(acc, packed, weights, kPanelWidth, count);
  } else {
    const auto fetch = [&](int64_t k)
                           QVL_ALWAYS_INLINE { prefetch_to_l2(prefetch.from + k * prefetch.step); };
    multiply_tile<kRows, kTileVectors, 1, kRows>(acc, packed, weights, kPanelWidth, count, fetch);
  }
  store_tile(acc, sums, kPanelWidth);
}

// Tiles [first_tile, last_tile) of the packed rows; their sums are [rows][32].
struct RowBlock {
  const LinearArgs& args;
  const float* packed;
  int64_t first_tile;
  int64_t last_tile;

  int64_t begin(int64_t tile) const { return tile_begin(args.rows, tile); }
  int64_t rows() const { return begin(last_tile) - begin(first_tile); }
};

// sums = or += the block's rows times k [first, first + count) of a panel.
void block_times_weights(const RowBlock& block, float* sums, const float* weights, int64_t first,
                         int64_t count, bool start, Prefetch prefetch) {
  for (int64_t tile = block.first_tile; tile < block.last_tile; ++tile) {
    const int64_t first_row = block.begin(tile);
    const int64_t height = block.begin(tile + 1) - first_row;
    const float* rows = block.packed + first_row * block.args.in_features + first * height;
    with_constant<kMaxTileRows>(height, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      for (int column = 0; column < kPanelTiles; ++column) {
        tile_block<kRows>(sums + column * kTileColumns, rows, weights + column * kTileColumns,
                          count, start, prefetch);
        prefetch.from = nullptr;
      }
    });
    sums += height * kPanelWidth;
  }
}

template <Format kFormat>
void block_times_panel(const RowBlock& block, int64_t panel, float* widened, float* stack) {
  const LinearArgs& args = block.args;
  const int64_t length = args.in_features / args.segments;
  const char* w =
      static_cast<const char*>(args.weight) + panel * args.in_features * kStepBytes<kFormat>;
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    const int64_t begin = segment * length;
    float* const sums = stack + depth++ * kSumsFloats;
    for (int64_t k = begin; k < begin + length; k += kBlockK) {
      const int64_t left = begin + length - k;
      const int64_t count = left < kBlockK ? left : kBlockK;
      const char* from = w + k * kStepBytes<kFormat>;
      const Prefetch next = {from + count * kStepBytes<kFormat>, kStepBytes<kFormat>};
      if constexpr (kFormat == Format::kF32) {
        block_times_weights(block, sums, reinterpret_cast<const float*>(from), k, count, k == begin,
                            next);
      } else {
        widen<kFormat>(widened, from, count * kPanelVectors);
        block_times_weights(block, sums, widened, k, count, k == begin, next);
      }
    }
    depth = merge_subtrees(stack, kSumsFloats, block.rows() * kPanelWidth, depth, segment);
  }
  const int64_t first_row = block.begin(block.first_tile);
  for (int64_t row = 0; row < block.rows(); ++row) {
    finish(args, first_row + row, panel * kPanelWidth, stack + row * kPanelWidth);
  }
}

template <Format kFormat>
void linear_packed_in(const LinearArgs& args, const float* packed, int64_t first_tile,
                      int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  float* widened = scratch;
  float* stack = scratch + kBlockK * kPanelWidth;
  for (int64_t tile = first_tile; tile < last_tile; tile += kTilesAtOnce) {
    const int64_t end = tile + kTilesAtOnce < last_tile ? tile + kTilesAtOnce : last_tile;
    const RowBlock block = {args, packed, tile, end};
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      block_times_panel<kFormat>(block, panel, widened, stack);
    }
  }
}

// ---- of the table ----

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  switch (args.format) {
    case Format::kBF16:
      return linear_in<Format::kBF16>(args, first_panel, last_panel);
    case Format::kF16:
      return linear_in<Format::kF16>(args, first_panel, last_panel);
    case Format::kF32:
      return linear_in<Format::kF32>(args, first_panel, last_panel);
  }
}

int64_t num_row_tiles(int64_t rows) { return num_tiles(rows); }

void pack_rows(float* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile) {
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t first_row = tile_begin(args.rows, tile);
    const int64_t height = tile_begin(args.rows, tile + 1) - first_row;
    const float* x = args.x + first_row * args.x_stride;
    float* to = packed + first_row * args.in_features;
    with_constant<kMaxTileRows>(height, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      for (int64_t k = 0; k < args.in_features; ++k) {
        for (int r = 0; r < kRows; ++r) to[k * kRows + r] = x[r * args.x_stride + k];
      }
    });
  }
}

void linear_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                   int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  const auto run = [&](auto kernel) {
    kernel(args, packed, first_tile, last_tile, first_panel, last_panel, scratch);
  };
  switch (args.format) {
    case Format::kBF16:
      return run(linear_packed_in<Format::kBF16>);
    case Format::kF16:
      return run(linear_packed_in<Format::kF16>);
    case Format::kF32:
      return run(linear_packed_in<Format::kF32>);
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
