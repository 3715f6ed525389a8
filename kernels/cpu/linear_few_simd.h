#pragma once

// Linear layers of few rows: a panel is streamed from memory once and widened in registers.

#include "kernels/cpu/linear_sums_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Measured: beyond, reading x with its row stride costs more than packing it.
constexpr int64_t kMaxUnpackedRows = 32;
// How far ahead of their use weights are fetched. Measured on Zen 5: without, the processor keeps
// too few lines in flight, and 2 to 6 rows run at half the speed.
constexpr int64_t kPrefetchBytes = 8192;
// The block of k that several tiles use while it is in the first-level cache.
constexpr int64_t kFewRowsBlockK = 64;
// Weights that lie row by row: what is packed at once, a line of each row, and how far ahead rows
// are fetched. Measured on Zen 5: larger blocks or nearer fetches are slower.
constexpr int64_t kFewRowsPackedK = 32;
constexpr int64_t kFewRowsAheadK = 128;

// kVectors of a panel over `count` inputs: sums [kRows][32] go on, or start.
template <Format kFormat, int kRows, int kVectors>
void panel_chains(float* sums, const float* x, int64_t x_stride, const char* w, int64_t count,
                  bool start, bool prefetch) {
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
      weights[c] = load_widened<kFormat>(w + c * kVectorBytes<kFormat>);
    });
    multiply_step<kRows, kVectors>(acc, weights, [&](int r) QVL_ALWAYS_INLINE {
      return load_broadcast(x + r * x_stride + k);
    });
    w += kStepBytes<kFormat>;
  }
  store_tile(acc, sums, kPanelWidth);
}

// sums [rows][32] = the chains over `count` inputs of a panel, or what they go on to.
template <Format kFormat>
void segment_chains(float* sums, const float* x, int64_t x_stride, int64_t rows, const char* w,
                    int64_t count, bool start, bool prefetch) {
  if (rows <= kMaxWholePanelRows) {
    return with_constant<kMaxWholePanelRows>(rows, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      panel_chains<kFormat, kRows, kPanelVectors>(sums, x, x_stride, w, count, start, prefetch);
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
              weights + column * kTileVectors * kVectorBytes<kFormat>, length, start && k == 0,
              prefetch && tile == 0 && column == 0);
        }
      });
    }
  }
}

// Fetches inputs [first, first + count) of a panel's rows.
template <Format kFormat>
void prefetch_rows(const void* const* rows, int64_t first, int64_t count) {
  constexpr auto kSize = static_cast<int64_t>(format_size(kFormat));
  for (int lane = 0; lane < kPanelWidth; ++lane) {
    const char* row = static_cast<const char*>(rows[lane]);
    if (row == nullptr) return;
    for (int64_t byte = first * kSize; byte < (first + count) * kSize; byte += kLineBytes) {
      prefetch_to_l2(row + byte);
    }
  }
}

// segment_chains() over inputs [first, first + count) of a panel of weight_rows, packed block by
// block. What comes a few blocks later is fetched meanwhile, into the next panel: the processor
// does not follow so many short rows.
template <Format kFormat>
void row_chains(float* sums, const LinearArgs& args, const float* x, int64_t num_rows,
                int64_t panel, int64_t first, int64_t count) {
  alignas(64) char packed[kFewRowsPackedK * kStepBytes<kFormat>];
  const void* const* rows = args.weight_rows + panel * kPanelWidth;
  for (int64_t k = 0; k < count; k += kFewRowsPackedK) {
    const int64_t length = count - k < kFewRowsPackedK ? count - k : kFewRowsPackedK;
    const int64_t ahead = first + k + kFewRowsAheadK;
    if (ahead < args.in_features) {
      prefetch_rows<kFormat>(rows, ahead, kFewRowsPackedK);
    } else if (panel + 1 < num_weight_panels(args)) {
      prefetch_rows<kFormat>(rows + kPanelWidth, ahead - args.in_features, kFewRowsPackedK);
    }
    pack_panel(packed, kFormat, rows, kFormat, first + k, length);
    segment_chains<kFormat>(sums, x + first + k, args.x_stride, num_rows, packed, length, k == 0,
                            false);
  }
}

// sums [rows][32] = the chains over inputs [first, first + count) of a panel.
template <Format kFormat>
void input_chains(float* sums, const LinearArgs& args, const float* x, int64_t rows, int64_t panel,
                  int64_t first, int64_t count) {
  if (args.weight_rows != nullptr) {
    return row_chains<kFormat>(sums, args, x, rows, panel, first, count);
  }
  const char* w = static_cast<const char*>(args.weight) +
                  (panel * args.in_features + first) * kStepBytes<kFormat>;
  segment_chains<kFormat>(sums, x + first, args.x_stride, rows, w, count, true, true);
}

// sums [rows][32] = x * panel, all inputs.
template <Format kFormat>
void panel_sums(const LinearArgs& args, const float* x, int64_t rows, int64_t panel, float* sums) {
  constexpr int64_t kStride = kMaxUnpackedRows * kPanelWidth;
  const int64_t length = args.in_features / args.segments;
  if (args.segments == 1) {
    return input_chains<kFormat>(sums, args, x, rows, panel, 0, length);
  }
  float stack[kMaxDepth * kStride];
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    input_chains<kFormat>(stack + depth++ * kStride, args, x, rows, panel, segment * length,
                          length);
    depth = merge_subtrees(stack, kStride, rows * kPanelWidth, depth, segment);
  }
  for (int64_t i = 0; i < rows * kPanelWidth; i += kLanes) store(sums + i, load(stack + i));
}

template <Format kFormat>
void linear_few(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  const bool is_swiglu = args.activation == Activation::kSwiGlu;
  float sums[kMaxUnpackedRows * kPanelWidth];
  float up_sums[kMaxUnpackedRows * kPanelWidth];
  for (int64_t first_row = 0; first_row < args.rows; first_row += kMaxUnpackedRows) {
    const int64_t left = args.rows - first_row;
    const int64_t rows = left < kMaxUnpackedRows ? left : kMaxUnpackedRows;
    const float* x = args.x + first_row * args.x_stride;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      panel_sums<kFormat>(args, x, rows, panel, sums);
      if (is_swiglu) {
        panel_sums<kFormat>(args, x, rows, up_panel(args, panel), up_sums);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = first_row + r;
        if (is_swiglu) {
          finish_swiglu(args, row, panel * kPanelWidth, sums + r * kPanelWidth,
                        up_sums + r * kPanelWidth);
        } else {
          finish(args, row, panel * kPanelWidth, sums + r * kPanelWidth);
        }
      }
    }
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
