#pragma once

// Linear layers of many rows. The rows are packed into tiles. A block of a few panels is widened
// into the second-level cache, and every tile of rows goes over it, while what comes next is
// fetched; partial sums wait in scratch between blocks.

#include "kernels/cpu/linear_sums_simd.h"
#include "kernels/cpu/quantized.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr int64_t kTilesAtOnce = kRowsAtOnce / kMaxTileRows;
constexpr int64_t kWidenedFloats = kPanelsAtOnce * kBlockK * kPanelWidth;
constexpr int64_t kSumsFloats = kPanelsAtOnce * kRowsAtOnce * kPanelWidth;  // of one subtree
constexpr int64_t kLinearScratchFloats = kWidenedFloats + kMaxDepth * kSumsFloats;

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

// Tiles of packed rows and the panels that go over them together. Sums are [panels][rows][32].
struct Pass {
  const LinearArgs& args;
  const float* packed;
  int64_t first_tile;
  int64_t last_tile;
  int64_t first_panel;
  int64_t num_panels;  // with SwiGLU, gates and what they let through alternate

  int64_t begin(int64_t tile) const { return tile_begin(args.rows, tile); }
  int64_t height(int64_t tile) const { return begin(tile + 1) - begin(tile); }
  int64_t num_rows() const { return begin(last_tile) - begin(first_tile); }
  bool is_swiglu() const { return args.activation == Activation::kSwiGlu; }
  const float* rows(int64_t tile, int64_t k) const {
    return packed + begin(tile) * args.in_features + k * height(tile);
  }
  int64_t panel(int64_t index) const {
    const int64_t of_out = first_panel + (is_swiglu() ? index / 2 : index);
    return is_swiglu() && index % 2 == 1 ? up_panel(args, of_out) : of_out;
  }
  const char* weights(int64_t index, int64_t k) const {
    const int64_t step = static_cast<int64_t>(format_size(args.format)) * kPanelWidth;
    return static_cast<const char*>(args.weight) + (panel(index) * args.in_features + k) * step;
  }
  const void* const* weight_rows(int64_t index) const {
    return args.weight_rows + panel(index) * kPanelWidth;
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

// A stretch of memory that is fetched beside the arithmetic, `step` bytes for each k.
struct Ahead {
  const char* from;
  int64_t step;
};

// How the weights of a block become fp32. Stored in a format, the first tile of rows widens them
// beside its arithmetic, and the tiles after it find them in the cache.
template <Format kFormat>
struct FormatWeights {
  static constexpr bool kWidensBeside = true;
  static constexpr Format kStored = kFormat;

  // The share of a panel's next weights that tile `i` of `tiles` fetches.
  static Ahead next(const Pass& pass, const Block& block, int64_t index, int64_t i, int64_t tiles) {
    const int64_t next = block.next_panel + index;
    if (pass.args.weight_rows == nullptr) {
      const int64_t bytes = block.count * kStepBytes<kFormat>;
      return {pass.weights(next, block.next_first) + bytes * i / tiles,
              bytes / (tiles * block.count) + 1};
    }
    constexpr auto kSize = static_cast<int64_t>(format_size(kFormat));
    const bool is_there = pass.panel(next) < num_weight_panels(pass.args);
    const void* row = is_there ? pass.weight_rows(next)[i * kPanelWidth / tiles] : nullptr;
    // Behind the last row: a line that is in the cache anyway.
    if (row == nullptr) return {reinterpret_cast<const char*>(pass.packed), 0};
    return {static_cast<const char*>(row) + block.next_first * kSize, kSize};
  }
};

// One register tile over a block of k: sums [kRows] of stride 32 go on, or start.
// load_weights(k, weights) gives a step's weights.
template <int kRows, class LoadWeights>
QVL_ALWAYS_INLINE inline void tile_block(float* sums, const float* rows, const Block& block,
                                         const Ahead& rows_ahead, const Ahead& weights_ahead,
                                         const LoadWeights& load_weights) {
  Vector acc[kRows][kTileVectors];
  if (block.start) {
    zero_tile(acc);
  } else {
    load_tile(acc, sums, kPanelWidth);
  }
  for (int64_t k = 0; k < block.count; ++k) {
    prefetch_to_l1(rows_ahead.from + k * rows_ahead.step);
    prefetch_to_l2(weights_ahead.from + k * weights_ahead.step);
    Vector weights[kTileVectors];
    load_weights(k, weights);
    multiply_step<kRows, kTileVectors>(
        acc, weights, [&](int r) QVL_ALWAYS_INLINE { return load_broadcast(rows + r); });
    rows += kRows;
  }
  store_tile(acc, sums, kPanelWidth);
}

// The same with weights that are widened already.
template <int kRows>
void tile_times_widened(float* sums, const float* rows, const float* widened, const Block& block,
                        const Ahead& rows_ahead, const Ahead& weights_ahead) {
  tile_block<kRows>(sums, rows, block, rows_ahead, weights_ahead,
                    [&](int64_t k, Vector(&weights)[kTileVectors]) QVL_ALWAYS_INLINE {
                      unroll<kTileVectors>([&](auto column) QVL_ALWAYS_INLINE {
                        constexpr int c = decltype(column)::value;
                        weights[c] = load(widened + k * kPanelWidth + c * kLanes);
                      });
                    });
}

// The same with weights as they are stored, which are widened for the tiles that follow: beside the
// arithmetic that costs nothing.
template <Format kFormat, int kRows>
void tile_times_stored(float* sums, const float* rows, const char* stored, float* widened,
                       const Block& block, const Ahead& rows_ahead, const Ahead& weights_ahead) {
  tile_block<kRows>(sums, rows, block, rows_ahead, weights_ahead,
                    [&](int64_t k, Vector(&weights)[kTileVectors]) QVL_ALWAYS_INLINE {
                      unroll<kTileVectors>([&](auto column) QVL_ALWAYS_INLINE {
                        constexpr int c = decltype(column)::value;
                        weights[c] = load_widened<kFormat>(stored + k * kStepBytes<kFormat> +
                                                           c * kVectorBytes<kFormat>);
                        store(widened + k * kPanelWidth + c * kLanes, weights[c]);
                      });
                    });
}

// The first tile of rows times a panel's block; `wide` [count][32] has the weights afterwards.
template <class Weights, int kRows>
void first_tile(float* sums, const float* rows, float* wide, const Pass& pass, int64_t panel,
                const Block& block, Ahead rows_ahead, const Ahead& weights_ahead) {
  constexpr Format kFormat = Weights::kStored;
  alignas(64) char packed[kBlockK * kStepBytes<kFormat>];  // of weights that lie row by row
  const char* stored = packed;
  if (pass.args.weight_rows == nullptr) {
    stored = pass.weights(panel, block.first);
  } else {
    pack_panel(packed, kFormat, pass.weight_rows(panel), kFormat, block.first, block.count);
  }
  for (int column = 0; column < kPanelTiles; ++column) {
    const int64_t offset = column * kTileVectors * kVectorBytes<kFormat>;
    tile_times_stored<kFormat, kRows>(sums + column * kTileColumns, rows, stored + offset,
                                      wide + column * kTileColumns, block, rows_ahead,
                                      weights_ahead);
    rows_ahead.from += rows_ahead.step * block.count;
  }
}

// sums = or += the pass's rows times its panels, over a block of k. A tile's rows stay in the
// first-level cache while all panels, which are in the second-level one, go over them.
template <class Weights>
void multiply_block(const Pass& pass, const Block& block, float* sums, float* widened) {
  const int64_t tiles = pass.last_tile - pass.first_tile;
  const int64_t sums_stride = pass.num_rows() * kPanelWidth;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t tile = pass.first_tile + i;
    const float* const rows = pass.rows(tile, block.first);
    const float* const next_rows = i + 1 < tiles ? pass.rows(tile + 1, block.first)
                                                 : pass.rows(pass.first_tile, block.next_first);
    with_constant<kMaxTileRows>(pass.height(tile), [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      Ahead rows_ahead = {reinterpret_cast<const char*>(next_rows),
                          kRows * int64_t{sizeof(float)} / (pass.num_panels * kPanelTiles) + 1};
      for (int64_t panel = 0; panel < pass.num_panels; ++panel) {
        const Ahead weights_ahead = Weights::next(pass, block, panel, i, tiles);
        float* const to = sums + panel * sums_stride;
        float* const wide = widened + panel * kBlockK * kPanelWidth;
        if constexpr (Weights::kWidensBeside) {
          if (i == 0) {
            first_tile<Weights, kRows>(to, rows, wide, pass, panel, block, rows_ahead,
                                       weights_ahead);
            rows_ahead.from += rows_ahead.step * block.count * kPanelTiles;
            continue;
          }
        } else {
          if (i == 0) Weights::widen(wide, pass.args, pass.panel(panel), block.first, block.count);
        }
        for (int column = 0; column < kPanelTiles; ++column) {
          tile_times_widened<kRows>(to + column * kTileColumns, rows, wide + column * kTileColumns,
                                    block, rows_ahead, weights_ahead);
          rows_ahead.from += rows_ahead.step * block.count;
        }
      }
    });
    sums += pass.height(tile) * kPanelWidth;
  }
}

inline void finish_pass(const Pass& pass, const float* sums) {
  const int64_t num_rows = pass.num_rows();
  const auto sums_of = [&](int64_t index, int64_t row) {
    return sums + (index * num_rows + row) * kPanelWidth;
  };
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t row = pass.begin(pass.first_tile) + r;
    if (pass.is_swiglu()) {
      for (int64_t i = 0; i < pass.num_panels; i += 2) {
        finish_swiglu(pass.args, row, (pass.first_panel + i / 2) * kPanelWidth, sums_of(i, r),
                      sums_of(i + 1, r));
      }
    } else {
      for (int64_t i = 0; i < pass.num_panels; ++i) {
        finish(pass.args, row, (pass.first_panel + i) * kPanelWidth, sums_of(i, r));
      }
    }
  }
}

// Where block i of a segment begins: at a chunk of quantised inputs.
inline int64_t block_begin(int64_t length, int64_t blocks, int64_t i) {
  return i == blocks ? length : length * i / blocks / kChunk * kChunk;
}

template <class Weights>
void run_pass(const Pass& pass, float* widened, float* stack) {
  const LinearArgs& args = pass.args;
  const int64_t length = args.in_features / args.segments;
  // Room for what a block may gain when borders move down to a chunk.
  const int64_t blocks = ceil_div(length, kBlockK - kChunk);
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* const sums = stack + depth++ * kSumsFloats;
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t first = segment * length + block_begin(length, blocks, i);
      const int64_t end = segment * length + block_begin(length, blocks, i + 1);
      const bool last = end == args.in_features;
      const Block block = {first, end - first, last ? 0 : end, last ? pass.num_panels : 0, i == 0};
      multiply_block<Weights>(pass, block, sums, widened);
    }
    depth = merge_subtrees(stack, kSumsFloats, pass.num_panels * pass.num_rows() * kPanelWidth,
                           depth, segment);
  }
  finish_pass(pass, stack);
}

template <class Weights>
void linear_packed_in(const LinearArgs& args, const float* packed, int64_t first_tile,
                      int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  const int64_t width = args.activation == Activation::kSwiGlu ? 2 : 1;  // panels for one of out
  const int64_t tiles = last_tile - first_tile;
  const int64_t groups = ceil_div(tiles, kTilesAtOnce);
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t panel = first_panel; panel < last_panel; panel += kPanelsAtOnce / width) {
      const int64_t left = (last_panel - panel) * width;
      const Pass pass = {args,
                         packed,
                         first_tile + tiles * group / groups,
                         first_tile + tiles * (group + 1) / groups,
                         panel,
                         left < kPanelsAtOnce ? left : kPanelsAtOnce};
      run_pass<Weights>(pass, scratch, scratch + kWidenedFloats);
    }
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
