#pragma once

// Products with quantised weights and fp32 activations; see LinearArgs for the sums and quantized.h
// for the weights. Codes become numbers in registers. Few rows take a panel as one stream of
// memory; for more, a block is dequantised into the cache and the tiles of linear_packed_simd.h go
// over it.

#include "kernels/cpu/linear_few_simd.h"
#include "kernels/cpu/linear_int8_simd.h"
#include "kernels/cpu/linear_packed_simd.h"

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

// The chains of kRows rows over inputs [first, end) of kPanels panels from `panel` on: sums
// [kPanels][kRows][32], panels sums_stride apart. Several panels at once for a row alone: a panel
// is few vectors, and so has too few chains to hide the latency of a multiply-add.
template <int kBits, int kRows, int kPanels>
void quantized_chains(float* sums, int64_t sums_stride, const LinearArgs& args, const float* x,
                      int64_t panel, int64_t first, int64_t end) {
  constexpr int64_t kChunkBytes = kHalfChunkBytes * kBits / 4;
  constexpr int kVectors = kPanels * kPanelVectors;
  const int64_t panel_bytes = args.quantized->panel_bytes();
  const int64_t full_end = end - (end - first) % kChunk;
  Vector acc[kRows][kVectors];
  zero_tile(acc);
  for (int64_t k = first; k < full_end;) {
    const Stretch stretch = stretch_at(args, panel, k, full_end);
    Vector scale[kVectors];
    Vector offset[kVectors];
    unroll<kPanels>([&](auto part) QVL_ALWAYS_INLINE {
      constexpr int p = decltype(part)::value;
      const GroupScales<kPanelVectors> numbers(stretch.group + p * panel_bytes, *args.quantized);
      unroll<kPanelVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        scale[p * kPanelVectors + c] = numbers.scale[c];
        offset[p * kPanelVectors + c] = numbers.offset[c];
      });
    });
    const char* codes = stretch.codes;
    for (const int64_t stretch_end = k + stretch.count; k < stretch_end; k += kChunk) {
      ChunkCodes<kBits> chunks[kVectors];
      unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        const char* from =
            codes + c / kPanelVectors * panel_bytes + c % kPanelVectors * kCodeVectorBytes;
        prefetch_to_l1(from + kCodesAhead);
        if constexpr (kBits == 8) prefetch_to_l1(from + kHalfChunkBytes + kCodesAhead);
        chunks[c] = ChunkCodes<kBits>(from, kHalfChunkBytes);
      });
      unroll<static_cast<int>(kChunk)>([&](auto input) QVL_ALWAYS_INLINE {
        constexpr int i = decltype(input)::value;
        Vector weights[kVectors];
        unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
          constexpr int c = decltype(column)::value;
          weights[c] = fmadd(chunks[c].template as_float<i>(), scale[c], offset[c]);
        });
        multiply_step<kRows, kVectors>(acc, weights, [&](int r) QVL_ALWAYS_INLINE {
          return load_broadcast(x + r * args.x_stride + k + i);
        });
      });
      codes += kChunkBytes;
    }
  }
  unroll<kRows * kVectors>([&](auto index) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(index)::value / kVectors;
    constexpr int c = decltype(index)::value % kVectors;
    store(sums + c / kPanelVectors * sums_stride + r * kPanelWidth + c % kPanelVectors * kLanes,
          acc[r][c]);
  });
  if (full_end == end) return;
  for (int64_t p = 0; p < kPanels; ++p) {
    float rest[kChunk * kPanelWidth];
    dequantize_block<kBits>(rest, args, panel + p, full_end, end - full_end);
    panel_chains<Format::kF32, kRows, kPanelVectors>(
        sums + p * sums_stride, x + full_end, args.x_stride, reinterpret_cast<const char*>(rest),
        end - full_end, false, false);
  }
}

// ---- more rows ----

template <int kBits>
struct QuantizedWeights {
  static constexpr bool kWidensBeside = false;

  static void widen(float* to, const LinearArgs& args, int64_t panel, int64_t first,
                    int64_t count) {
    dequantize_block<kBits>(to, args, panel, first, count);
  }
  static Ahead next(const Pass& pass, const Block& block, int64_t index, int64_t i, int64_t tiles) {
    const int64_t panel = pass.panel(block.next_panel + index);
    const int64_t bytes = block.count * kPanelWidth * kBits / 8;
    return {stretch_at(pass.args, panel, block.next_first, pass.args.in_features).codes +
                bytes * i / tiles,
            bytes / (tiles * block.count) + 1};
  }
};

void linear_quantized_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                             int64_t last_tile, int64_t first_panel, int64_t last_panel,
                             float* scratch) {
  const auto run = [&](auto weights) {
    linear_packed_in<decltype(weights)>(args, packed, first_tile, last_tile, first_panel,
                                        last_panel, scratch);
  };
  if (args.quantized->bits == 4) return run(QuantizedWeights<4>{});
  return run(QuantizedWeights<8>{});
}

// ---- few rows, all panels ----

// The chains of a segment, rows in tiles of 8, 4, 2 and 1: fewer heights compile faster.
template <int kBits, int kPanels, int kRows = kMaxQuantizedRows>
void few_rows_chains(float* sums, int64_t sums_stride, const LinearArgs& args, const float* x,
                     int64_t rows, int64_t panel, int64_t first, int64_t end) {
  for (; rows >= kRows; rows -= kRows) {
    quantized_chains<kBits, kRows, kPanels>(sums, sums_stride, args, x, panel, first, end);
    sums += kRows * kPanelWidth;
    x += kRows * args.x_stride;
  }
  if constexpr (kRows > 1) {
    few_rows_chains<kBits, kPanels, kRows / 2>(sums, sums_stride, args, x, rows, panel, first, end);
  }
}

// Up to kMaxQuantizedRows rows of x times kPanels panels from `panel` on.
template <int kBits, int kPanels>
void rows_times_panels(const LinearArgs& args, int64_t first_row, int64_t rows, int64_t panel) {
  constexpr int64_t kSumsStride = kMaxQuantizedRows * kPanelWidth;  // of a panel
  const float* x = args.x + first_row * args.x_stride;
  const int64_t length = args.in_features / args.segments;
  float stack[kMaxDepth][kPanels * kSumsStride];
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* const sums = stack[depth++];
    const int64_t first = segment * length;
    if constexpr (kPanels > 1) {  // one row
      quantized_chains<kBits, 1, kPanels>(sums, kSumsStride, args, x, panel, first, first + length);
    } else {
      few_rows_chains<kBits, 1>(sums, kSumsStride, args, x, rows, panel, first, first + length);
    }
    for (int64_t p = 0, before = depth; p < kPanels; ++p) {
      depth = merge_subtrees(stack[0] + p * kSumsStride, kPanels * kSumsStride, rows * kPanelWidth,
                             static_cast<int>(before), segment);
    }
  }
  for (int64_t p = 0; p < kPanels; ++p) {
    for (int64_t r = 0; r < rows; ++r) {
      finish(args, first_row + r, (panel + p) * kPanelWidth,
             stack[0] + p * kSumsStride + r * kPanelWidth);
    }
  }
}

template <int kBits>
void linear_quantized_in(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  int64_t panel = first_panel;
  if (args.rows == 1) {
    for (; panel + kPanelsOfOneRow <= last_panel; panel += kPanelsOfOneRow) {
      rows_times_panels<kBits, kPanelsOfOneRow>(args, 0, 1, panel);
    }
  }
  for (int64_t first_row = 0; first_row < args.rows; first_row += kMaxQuantizedRows) {
    const int64_t left = args.rows - first_row;
    const int64_t rows = left < kMaxQuantizedRows ? left : kMaxQuantizedRows;
    for (int64_t p = panel; p < last_panel; ++p) {
      rows_times_panels<kBits, 1>(args, first_row, rows, p);
    }
  }
}

void linear_quantized(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  if (args.quantized->bits == 4) return linear_quantized_in<4>(args, first_panel, last_panel);
  return linear_quantized_in<8>(args, first_panel, last_panel);
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
