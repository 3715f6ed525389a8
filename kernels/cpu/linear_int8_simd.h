#pragma once

// Products with quantised weights and 8-bit activations; see LinearArgs for the sums and
// quantized.h for the weights. Tiles of rows go over panels; four inputs of an output are in a
// lane, and the integer sums of a block stay in registers.

#include <cstring>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/linear_sums_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Where codes of 8 inputs of kLanes outputs are: bytes of a vector, and of the panel's four inputs.
constexpr int64_t kCodeVectorBytes = int64_t{4} * kLanes;
constexpr int64_t kHalfChunkBytes = int64_t{4} * kPanelWidth;
// A stretch of inputs within one group of a panel; it begins at a chunk.
struct Stretch {
  const char* group;
  const char* codes;  // of its first chunk
  int64_t count;
};

inline Stretch stretch_at(const LinearArgs& args, int64_t panel, int64_t first, int64_t end) {
  const QuantizedLayout& layout = *args.quantized;
  const int64_t index = first / layout.group_size;
  const char* group = group_data(args.weight, layout, panel, index);
  const int64_t group_end = layout.group_end(index);
  const int64_t chunk = (first - layout.group_begin(index)) / kChunk;
  return {group, group + layout.header_bytes() + chunk * layout.chunk_bytes(),
          (end < group_end ? end : group_end) - first};
}

// A tile of rows as integers; `height` of them.
struct Int8Tile {
  int64_t first_row;
  int64_t height;
  int64_t offset;  // bytes, of the packed rows
};

inline Int8Tile int8_tile(const LinearArgs& args, int64_t index) {
  const int64_t first = int8_tile_begin(args.rows, kMaxInt8Rows, index);
  return {first, int8_tile_begin(args.rows, kMaxInt8Rows, index + 1) - first,
          first * int8_row_bytes(*args.quantized)};
}

// One row of a block; see scalar::quantize_block.
void quantize_block(char* block, int64_t height, int64_t row, const float* x, int64_t count) {
  IntVector largest_bits = broadcast_int(0);
  for_vectors(count, [&](int64_t k, auto lanes) {
    largest_bits = max(largest_bits, magnitude_bits(load(x + k, lanes)));
  });
  const auto bits = static_cast<uint32_t>(max_int_lanes(largest_bits));
  const Int8Scale scale = int8_scale(bits);
  int8_t codes[kMaxActivationBlock + kLanes] = {};
  IntVector sums = broadcast_int(0);
  if (scale.inverse != 0.0f) {
    for_vectors(count, [&](int64_t k, auto lanes) {
      const Vector scaled = mul(load(x + k, lanes), broadcast(scale.inverse));
      sums = add(sums, store_rounded(codes + k, scaled));
    });
  }
  reinterpret_cast<float*>(block)[row] = scale.scale;
  reinterpret_cast<int32_t*>(block)[height + row] = sum_int_lanes(sums);
  char* to = block + height * kInt8RowHeader + row * 4;
  for (int64_t k = 0; k < ceil_div(count, kChunk) * kChunk; k += 4) {
    std::memcpy(to + k * height, codes + k, 4);
  }
}

void quantize_rows(void* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile) {
  const int64_t block_size = args.quantized->activation_block();
  for (int64_t index = first_tile; index < last_tile; ++index) {
    const Int8Tile tile = int8_tile(args, index);
    char* block = static_cast<char*>(packed) + tile.offset;
    for (int64_t k = 0; k < args.in_features; k += block_size) {
      const int64_t left = args.in_features - k;
      const int64_t count = left < block_size ? left : block_size;
      for (int64_t row = 0; row < tile.height; ++row) {
        const float* x = args.x + (tile.first_row + row) * args.x_stride;
        quantize_block(block, tile.height, row, x + k, count);
      }
      block += tile.height * (kInt8RowHeader + ceil_div(count, kChunk) * kChunk);
    }
  }
}

// Adds a block's link to the chains sums [kRows][32] of kVectors of a panel. `x` is the block of
// the packed rows; `group` and `codes` are at the first of these outputs.
template <int kBits, int kRows, int kVectors>
void add_int8_block(float* sums, const QuantizedLayout& layout, const char* x, const char* scales,
                    const char* zeros, const char* codes, int64_t count) {
  const auto* x_scales = reinterpret_cast<const float*>(x);
  const auto* x_sums = reinterpret_cast<const int32_t*>(x) + kRows;
  x += kRows * kInt8RowHeader;
  IntVector acc[kRows][kVectors];
  unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(row)::value;
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      if (layout.has_zeros) {
        const IntVector zero_points = load_bytes(zeros + c * kLanes);
        acc[r][c] =
            mul(sub(broadcast_int(kDotOffset<kBits>), zero_points), broadcast_int(x_sums[r]));
      } else {
        acc[r][c] = broadcast_int((kDotOffset<kBits> - layout.symmetric_zero()) * x_sums[r]);
      }
    });
  });
  const auto multiply = [&](const IntVector(&weights)[kVectors]) QVL_ALWAYS_INLINE {
    unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
      constexpr int r = decltype(row)::value;
      const IntVector four = load_broadcast_int(x + 4 * r);
      unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        acc[r][c] = dot<kBits>(acc[r][c], weights[c], four);
      });
    });
    x += 4 * kRows;
  };
  for (int64_t k = 0; k < count; k += kChunk) {
    IntVector low[kVectors];
    IntVector high[kVectors];
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      const IntVector first = load_int(codes + c * kCodeVectorBytes);
      if constexpr (kBits == 4) {
        low[c] = low_nibbles(first);
        high[c] = high_nibbles(first);
      } else {
        low[c] = prepare_codes<kBits>(first);
        high[c] = prepare_codes<kBits>(load_int(codes + kHalfChunkBytes + c * kCodeVectorBytes));
      }
    });
    multiply(low);
    multiply(high);
    codes += kHalfChunkBytes * kBits / 4;
  }
  unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
    constexpr int c = decltype(column)::value;
    const Vector scale = load_widened<Format::kF16>(scales + 2 * c * kLanes);
    unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
      constexpr int r = decltype(row)::value;
      float* const chain = sums + r * kPanelWidth + c * kLanes;
      store(chain,
            fmadd(to_float(acc[r][c]), mul(scale, load_broadcast(x_scales + r)), load(chain)));
    });
  });
}

// One tile of rows times one panel.
template <int kBits, int kRows>
void int8_tile_times_panel(const LinearArgs& args, const Int8Tile& tile, const char* x,
                           int64_t panel) {
  constexpr int kVectors = int8_tile_vectors(kRows);
  const QuantizedLayout& layout = *args.quantized;
  const int64_t length = args.in_features / args.segments;
  const int64_t block_size = layout.activation_block();
  float stack[kMaxDepth][kRows * kPanelWidth];
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* const sums = stack[depth++];
    for (int64_t i = 0; i < kRows * kPanelWidth; i += kLanes) store(sums + i, zero());
    const int64_t end = (segment + 1) * length;
    for (int64_t k = segment * length; k < end; k += block_size) {
      const Stretch stretch =
          stretch_at(args, panel, k, end - k < block_size ? end : k + block_size);
      for (int column = 0; column < kPanelVectors; column += kVectors) {
        const int lanes = column * kLanes;
        add_int8_block<kBits, kRows, kVectors>(sums + lanes, layout, x, stretch.group + 2 * lanes,
                                               stretch.group + 64 + lanes,
                                               stretch.codes + 4 * lanes, stretch.count);
      }
      x += kRows * (kInt8RowHeader + ceil_div(stretch.count, kChunk) * kChunk);
    }
    depth = merge_subtrees(stack[0], kRows * kPanelWidth, kRows * kPanelWidth, depth, segment);
  }
  for (int64_t r = 0; r < kRows; ++r) {
    finish(args, tile.first_row + r, panel * kPanelWidth, stack[0] + r * kPanelWidth);
  }
}

template <int kBits>
void linear_int8_in(const LinearArgs& args, const void* packed, int64_t first_tile,
                    int64_t last_tile, int64_t first_panel, int64_t last_panel) {
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t index = first_tile; index < last_tile; ++index) {
      const Int8Tile tile = int8_tile(args, index);
      const char* x = static_cast<const char*>(packed) + tile.offset;
      with_constant<kMaxInt8Rows>(tile.height, [&](auto constant) {
        int8_tile_times_panel<kBits, decltype(constant)::value>(args, tile, x, panel);
      });
    }
  }
}

void linear_int8(const LinearArgs& args, const void* packed, int64_t first_tile, int64_t last_tile,
                 int64_t first_panel, int64_t last_panel) {
  const auto run = args.quantized->bits == 4 ? linear_int8_in<4> : linear_int8_in<8>;
  run(args, packed, first_tile, last_tile, first_panel, last_panel);
}

/// `table` with this file's products of integers.
inline KernelTable with_int8_kernels(KernelTable table, const char* name,
                                     const char* const* processor_features) {
  table.name = name;
  table.processor_features = processor_features;
  table.quantize_rows = quantize_rows;
  table.linear_int8 = linear_int8;
  table.max_int8_rows = kMaxInt8Rows;
  return table;
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
