#pragma once

// Products with quantised weights and fp32 activations; see LinearArgs for the sums and quantized.h
// for the weights. Codes become numbers in registers. Few rows take a panel as one stream of
// memory; for more, a block is dequantised into the cache and the kernels of linear_simd.h go over
// it.

#include "kernels/cpu/linear_few_simd.h"
#include "kernels/cpu/linear_int8_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// How far ahead of their use codes are fetched; see kPrefetchBytes.
constexpr int64_t kCodesAhead = 4096;

// The numbers of kVectors * kLanes outputs: code * scale + offset, which is exact.
template <int kVectors>
struct GroupScales {
  Vector scale[kVectors];
  Vector offset[kVectors];

  GroupScales(const char* group, const QuantizedLayout& layout) {
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      scale[c] = load_widened<Format::kF16>(group + 2 * c * kLanes);
      const IntVector zeros = layout.has_zeros ? load_bytes(group + 64 + c * kLanes)
                                               : broadcast_int(layout.symmetric_zero());
      offset[c] = mul(to_float(sub(broadcast_int(0), zeros)), scale[c]);
    });
  }
};

// to [count][32] = the numbers of a panel's inputs [first, first + count); first is a chunk's.
template <int kBits>
void dequantize_block(float* to, const LinearArgs& args, int64_t panel, int64_t first,
                      int64_t count) {
  constexpr int64_t kChunkBytes = kHalfChunkBytes * kBits / 4;
  for (int64_t k = 0; k < count;) {
    const Stretch stretch = stretch_at(args, panel, first + k, first + count);
    const GroupScales<kPanelVectors> numbers(stretch.group, *args.quantized);
    for (int64_t done = 0; done < stretch.count; done += kChunk) {
      const char* codes = stretch.codes + done / kChunk * kChunkBytes;
      unroll<kPanelVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        const ChunkCodes<kBits> chunk(codes + c * kCodeVectorBytes, kHalfChunkBytes);
        unroll<static_cast<int>(kChunk)>([&](auto input) QVL_ALWAYS_INLINE {
          constexpr int i = decltype(input)::value;
          if (done + i >= stretch.count) return;
          store(to + (k + done + i) * kPanelWidth + c * kLanes,
                fmadd(chunk.template as_float<i>(), numbers.scale[c], numbers.offset[c]));
        });
      });
    }
    k += stretch.count;
  }
}

// ---- few rows ----

// The chains of kRows rows over inputs [first, end) of a panel: sums [kRows][32].
template <int kBits, int kRows>
void quantized_chains(float* sums, const LinearArgs& args, const float* x, int64_t panel,
                      int64_t first, int64_t end) {
  constexpr int64_t kChunkBytes = kHalfChunkBytes * kBits / 4;
  const int64_t full_end = end - (end - first) % kChunk;
  Vector acc[kRows][kPanelVectors];
  zero_tile(acc);
  for (int64_t k = first; k < full_end;) {
    const Stretch stretch = stretch_at(args, panel, k, full_end);
    const GroupScales<kPanelVectors> numbers(stretch.group, *args.quantized);
    const char* codes = stretch.codes;
    for (const int64_t stretch_end = k + stretch.count; k < stretch_end; k += kChunk) {
      for (int64_t line = 0; line < kChunkBytes; line += kLineBytes) {
        prefetch_to_l1(codes + line + kCodesAhead);
      }
      unroll<kPanelVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        const ChunkCodes<kBits> chunk(codes + c * kCodeVectorBytes, kHalfChunkBytes);
        unroll<static_cast<int>(kChunk)>([&](auto input) QVL_ALWAYS_INLINE {
          constexpr int i = decltype(input)::value;
          const Vector weights =
              fmadd(chunk.template as_float<i>(), numbers.scale[c], numbers.offset[c]);
          unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
            constexpr int r = decltype(row)::value;
            acc[r][c] = fmadd(load_broadcast(x + r * args.x_stride + k + i), weights, acc[r][c]);
          });
        });
      });
      codes += kChunkBytes;
    }
  }
  store_tile(acc, sums, kPanelWidth);
  if (full_end == end) return;
  float rest[kChunk * kPanelWidth];
  dequantize_block<kBits>(rest, args, panel, full_end, end - full_end);
  panel_chains<Format::kF32, kRows, kPanelVectors>(sums, x + full_end, args.x_stride,
                                                   reinterpret_cast<const char*>(rest),
                                                   end - full_end, false, false);
}

// ---- more rows ----

template <int kBits>
void dequantized_chains(float* sums, const LinearArgs& args, const float* x, int64_t rows,
                        int64_t panel, int64_t first, int64_t end) {
  alignas(kLineBytes) float widened[kFewRowsBlockK * kPanelWidth];
  for (int64_t k = first; k < end; k += kFewRowsBlockK) {
    const int64_t count = end - k < kFewRowsBlockK ? end - k : kFewRowsBlockK;
    dequantize_block<kBits>(widened, args, panel, k, count);
    const auto* weights = reinterpret_cast<const char*>(widened);
    for (int64_t tile = 0; tile < num_tiles(rows); ++tile) {
      const int64_t row = tile_begin(rows, tile);
      with_constant<kMaxTileRows>(tile_begin(rows, tile + 1) - row, [&](auto constant) {
        constexpr int kRows = decltype(constant)::value;
        for (int column = 0; column < kPanelTiles; ++column) {
          panel_chains<Format::kF32, kRows, kTileVectors>(
              sums + row * kPanelWidth + column * kTileColumns, x + row * args.x_stride + k,
              args.x_stride, weights + column * kTileVectors * kVectorBytes<Format::kF32>, count,
              k == first, false);
        }
      });
    }
  }
}

template <int kBits>
void linear_quantized_in(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  const int64_t length = args.in_features / args.segments;
  for (int64_t first_row = 0; first_row < args.rows; first_row += kMaxUnpackedRows) {
    const int64_t left = args.rows - first_row;
    const int64_t rows = left < kMaxUnpackedRows ? left : kMaxUnpackedRows;
    const float* x = args.x + first_row * args.x_stride;
    for (int64_t panel = first_panel; panel < last_panel; ++panel) {
      float stack[kMaxDepth][kMaxUnpackedRows * kPanelWidth];
      int depth = 0;
      for (int segment = 0; segment < args.segments; ++segment) {
        float* const sums = stack[depth++];
        const int64_t first = segment * length;
        if (rows <= kMaxQuantizedRows) {
          with_constant<kMaxQuantizedRows>(rows, [&](auto constant) {
            constexpr int kRows = decltype(constant)::value;
            quantized_chains<kBits, kRows>(sums, args, x, panel, first, first + length);
          });
        } else {
          dequantized_chains<kBits>(sums, args, x, rows, panel, first, first + length);
        }
        depth = merge_subtrees(stack[0], kMaxUnpackedRows * kPanelWidth, rows * kPanelWidth, depth,
                               segment);
      }
      for (int64_t r = 0; r < rows; ++r) {
        finish(args, first_row + r, panel * kPanelWidth, stack[0] + r * kPanelWidth);
      }
    }
  }
}

void linear_quantized(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  if (args.quantized->bits == 4) return linear_quantized_in<4>(args, first_panel, last_panel);
  return linear_quantized_in<8>(args, first_panel, last_panel);
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
