#pragma once

// out = residual + activation(x * weight^T + bias). See LinearArgs for the order of sums, which is
// the same in both ways:
//   linear         few rows: a panel is streamed from memory once and widened in registers by
//                  every tile of rows
//   linear_packed  many rows: a block of a few panels is widened into the second-level cache and
//                  every tile of rows goes over it; partial sums wait in scratch between blocks

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
constexpr int64_t kWidenedFloats = kPanelsAtOnce * kBlockK * kPanelWidth;
constexpr int64_t kSumsFloats = kPanelsAtOnce * kRowsAtOnce * kPanelWidth;  // of one subtree
constexpr int64_t kLinearScratchFloats = kWidenedFloats + kMaxDepth * kSumsFloats;

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
    Vector weights[kVectors];
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      weights[c] = load_widened<kFormat>(w + c * kVectorBytes);
    });
    multiply_step<kRows, kVectors>(acc, weights, [&](int r) QVL_ALWAYS_INLINE {
      return load_broadcast(x + r * x_stride + k);
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

// A stretch of memory that is fetched beside the arithmetic, `step` bytes for each k.
struct Ahead {
  const char* from;
  int64_t step;
};

// One register tile over a block of k: sums [kRows] of stride 32 go on, or start.
template <int kRows>
void tile_block(float* sums, const float* rows, const float* weights, int64_t count, bool start,
                const Ahead& rows_ahead, const Ahead& weights_ahead) {
  Vector acc[kRows][kTileVectors];
  if (start) {
    zero_tile(acc);
  } else {
    load_tile(acc, sums, kPanelWidth);
  }
  const auto fetch = [&](int64_t k) QVL_ALWAYS_INLINE {
    prefetch_to_l1(rows_ahead.from + k * rows_ahead.step);
    prefetch_to_l2(weights_ahead.from + k * weights_ahead.step);
  };
  multiply_tile<kRows, kTileVectors, 1, kRows>(acc, rows, weights, kPanelWidth, count, fetch);
  store_tile(acc, sums, kPanelWidth);
}

// Tiles of packed rows and the panels that go over them together. Sums are [panels][rows][32].
struct Pass {
  const LinearArgs& args;
  const float* packed;
  int64_t first_tile;
  int64_t last_tile;
  int64_t first_panel;
  int64_t num_panels;

  int64_t begin(int64_t tile) const { return tile_begin(args.rows, tile); }
  int64_t height(int64_t tile) const { return begin(tile + 1) - begin(tile); }
  int64_t num_rows() const { return begin(last_tile) - begin(first_tile); }
  const float* rows(int64_t tile, int64_t k) const {
    return packed + begin(tile) * args.in_features + k * height(tile);
  }
  const char* weights(int64_t panel, int64_t k) const {
    const int64_t step = static_cast<int64_t>(format_size(args.format)) * kPanelWidth;
    return static_cast<const char*>(args.weight) +
           ((first_panel + panel) * args.in_features + k) * step;
  }
};

// A block of inputs, and the one after it: the next k of the same panels, or the first k of the
// next ones.
struct Block {
  int64_t first;
  int64_t count;
  int64_t next_first;
  int64_t next_panel;
  bool start;
};

// sums = or += the pass's rows times its panels, over a block of k. A tile's rows stay in the
// first-level cache while all panels, which are in the second-level one, go over them.
void multiply_block(const Pass& pass, const Block& block, float* sums, const float* widened) {
  const int64_t tiles = pass.last_tile - pass.first_tile;
  const int64_t next_bytes =
      block.count * static_cast<int64_t>(format_size(pass.args.format)) * kPanelWidth;
  const int64_t sums_stride = pass.num_rows() * kPanelWidth;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t tile = pass.first_tile + i;
    const float* const rows = pass.rows(tile, block.first);
    const float* const next_rows = i + 1 < tiles ? pass.rows(tile + 1, block.first)
                                                 : pass.rows(pass.first_tile, block.next_first);
    with_constant<kMaxTileRows>(pass.height(tile), [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      const int64_t rows_step =
          kRows * int64_t{sizeof(float)} / (pass.num_panels * kPanelTiles) + 1;
      const char* from = reinterpret_cast<const char*>(next_rows);
      for (int64_t panel = 0; panel < pass.num_panels; ++panel) {
        const char* const next = pass.weights(block.next_panel + panel, block.next_first);
        const Ahead weights_ahead = {next + next_bytes * i / tiles,
                                     next_bytes / (tiles * block.count) + 1};
        for (int column = 0; column < kPanelTiles; ++column) {
          tile_block<kRows>(sums + panel * sums_stride + column * kTileColumns, rows,
                            widened + panel * kBlockK * kPanelWidth + column * kTileColumns,
                            block.count, block.start, {from, rows_step}, weights_ahead);
          from += rows_step * block.count;
        }
      }
    });
    sums += pass.height(tile) * kPanelWidth;
  }
}

template <Format kFormat>
void run_pass(const Pass& pass, float* widened, float* stack) {
  const LinearArgs& args = pass.args;
  const int64_t length = args.in_features / args.segments;
  const int64_t blocks = ceil_div(length, kBlockK);
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* const sums = stack + depth++ * kSumsFloats;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t first = segment * length + length * i / blocks;
      const int64_t end = segment * length + length * (i + 1) / blocks;
      const bool last = end == args.in_features;
      for (int64_t panel = 0; panel < pass.num_panels; ++panel) {
        widen<kFormat>(widened + panel * kBlockK * kPanelWidth, pass.weights(panel, first),
                       (end - first) * kPanelVectors);
      }
      multiply_block(pass, {first, end - first, last ? 0 : end, last ? pass.num_panels : 0, i == 0},
                     sums, widened);
    }
    depth = merge_subtrees(stack, kSumsFloats, pass.num_panels * pass.num_rows() * kPanelWidth,
                           depth, segment);
  }
  const int64_t first_row = pass.begin(pass.first_tile);
  for (int64_t row = 0; row < pass.num_rows(); ++row) {
    for (int64_t panel = 0; panel < pass.num_panels; ++panel) {
      finish(args, first_row + row, (pass.first_panel + panel) * kPanelWidth,
             stack + (panel * pass.num_rows() + row) * kPanelWidth);
    }
  }
}

template <Format kFormat>
void linear_packed_in(const LinearArgs& args, const float* packed, int64_t first_tile,
                      int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  float* widened = scratch;
  float* stack = scratch + kWidenedFloats;
  const int64_t tiles = last_tile - first_tile;
  const int64_t groups = ceil_div(tiles, kTilesAtOnce);
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t panel = first_panel; panel < last_panel; panel += kPanelsAtOnce) {
      const int64_t left = last_panel - panel;
      const Pass pass = {args,
                         packed,
                         first_tile + tiles * group / groups,
                         first_tile + tiles * (group + 1) / groups,
                         panel,
                         left < kPanelsAtOnce ? left : kPanelsAtOnce};
      run_pass<kFormat>(pass, widened, stack);
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

// to [K][kRows] = x [kRows, K], transposed by kLanes x kLanes numbers.
template <int kRows>
void pack_tile(float* to, const float* x, int64_t x_stride, int64_t in_features) {
  constexpr int kParts = (kRows + kLanes - 1) / kLanes;
  const float* const end = to + in_features * kRows;
  for_vectors(in_features, [&](int64_t first, auto lanes) {
    Vector columns[kParts][kLanes];
    for (int r = 0; r < kParts * kLanes; ++r) {
      columns[r / kLanes][r % kLanes] = r < kRows ? load(x + r * x_stride + first, lanes) : zero();
    }
    for (int part = 0; part < kParts; ++part) transpose(columns[part]);
    const int64_t left = in_features - first;
    for (int k = 0; k < kLanes && k < left; ++k) {
      for (int part = 0; part < kParts; ++part) {
        // A store may cover what the next one writes, but nothing behind the tile.
        const int64_t rows = kRows - part * kLanes;
        if (end - to >= kLanes) {
          store(to, columns[part][k]);
        } else {
          store(to, columns[part][k], FirstLanes(rows));
        }
        to += rows < kLanes ? rows : kLanes;
      }
    }
  });
}

void pack_rows(float* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile) {
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t first_row = tile_begin(args.rows, tile);
    with_constant<kMaxTileRows>(tile_begin(args.rows, tile + 1) - first_row, [&](auto constant) {
      pack_tile<decltype(constant)::value>(packed + first_row * args.in_features,
                                           args.x + first_row * args.x_stride, args.x_stride,
                                           args.in_features);
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
