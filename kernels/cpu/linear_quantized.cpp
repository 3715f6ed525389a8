// Products with quantised weights and 8-bit activations, scalar. See LinearArgs for the sums.

#include "kernels/cpu/linear_quantized.h"

#include <bit>
#include <cmath>

#include "kernels/cpu/linear.h"

namespace qvl::kernels {

int64_t int8_row_bytes(const QuantizedLayout& layout) {
  return num_activation_blocks(layout) * kInt8RowHeader +
         ceil_div(layout.in_features, kChunk) * kChunk;
}

namespace scalar {
namespace {

// Where one row's part of a block is in a packed tile.
struct PackedBlock {
  char* data;
  int64_t height;

  float& scale(int64_t row) const { return reinterpret_cast<float*>(data)[row]; }
  int32_t& sum(int64_t row) const { return reinterpret_cast<int32_t*>(data)[height + row]; }
  int8_t& code(int64_t row, int64_t k) const {
    return reinterpret_cast<int8_t*>(
        data)[height * kInt8RowHeader + (k / 4 * height + row) * 4 + k % 4];
  }
};

struct Tile {
  int64_t first_row;
  int64_t height;
  char* data;

  PackedBlock block(const QuantizedLayout& layout, int64_t index) const {
    return {data + height * index * (kInt8RowHeader + layout.activation_block()), height};
  }
};

Tile tile_at(const LinearArgs& args, const void* packed, int64_t tile) {
  const int64_t first = int8_tile_begin(args.rows, kMaxInt8Rows, tile);
  const int64_t height = int8_tile_begin(args.rows, kMaxInt8Rows, tile + 1) - first;
  char* data = static_cast<char*>(const_cast<void*>(packed));
  return {first, height, data + first * int8_row_bytes(*args.quantized)};
}

// One row of a block: x [count] as integers times a scale. What is not finite makes the scale NaN.
void quantize_block(const PackedBlock& to, int64_t row, const float* x, int64_t count) {
  uint32_t largest_bits = 0;
  for (int64_t k = 0; k < count; ++k) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[k]) & 0x7fffffffu;
    if (bits > largest_bits) largest_bits = bits;
  }
  const Int8Scale scale = int8_scale(largest_bits);
  to.scale(row) = scale.scale;
  int32_t sum = 0;
  for (int64_t k = 0; k < ceil_div(count, kChunk) * kChunk; ++k) {
    const bool counts = k < count && scale.inverse != 0.0f;
    const auto code = static_cast<int8_t>(counts ? std::nearbyintf(x[k] * scale.inverse) : 0.0f);
    to.code(row, k) = code;
    sum += code;
  }
  to.sum(row) = sum;
}

// Adds the block's link to the chains [32] of a row and a panel.
void add_block(const LinearArgs& args, int64_t panel, const PackedBlock& x, int64_t row,
               int64_t first, int64_t count, float* chains) {
  const QuantizedLayout& layout = *args.quantized;
  const int64_t index = first / layout.group_size;
  const char* group = group_data(args.weight, layout, panel, index);
  const int64_t in_group = first - layout.group_begin(index);
  for (int64_t lane = 0; lane < kPanelWidth; ++lane) {
    int32_t dot = -zero_at(group, layout, lane) * x.sum(row);
    for (int64_t k = 0; k < count; ++k) {
      dot += code_at(group, layout, in_group + k, lane) * x.code(row, k);
    }
    const float scale = scale_at(group, lane) * x.scale(row);
    chains[lane] = std::fma(static_cast<float>(dot), scale, chains[lane]);
  }
}

void panel_sums(const LinearArgs& args, int64_t panel, const Tile& tile, int64_t row, float* sums) {
  const QuantizedLayout& layout = *args.quantized;
  const int64_t length = args.in_features / args.segments;
  const int64_t block_size = layout.activation_block();
  float stack[kMaxSegments][kPanelWidth];  // sums of finished subtrees
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* chains = stack[depth++];
    for (int lane = 0; lane < kPanelWidth; ++lane) chains[lane] = 0.0f;
    const int64_t end = (segment + 1) * length;
    for (int64_t k = segment * length; k < end; k += block_size) {
      const int64_t count = end - k < block_size ? end - k : block_size;
      add_block(args, panel, tile.block(layout, k / block_size), row, k, count, chains);
    }
    for (int merged = segment + 1; merged % 2 == 0; merged /= 2) {
      --depth;
      for (int lane = 0; lane < kPanelWidth; ++lane) stack[depth - 1][lane] += stack[depth][lane];
    }
  }
  for (int lane = 0; lane < kPanelWidth; ++lane) sums[lane] = stack[0][lane];
}

}  // namespace

void quantize_rows(void* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile) {
  const QuantizedLayout& layout = *args.quantized;
  const int64_t block_size = layout.activation_block();
  for (int64_t index = first_tile; index < last_tile; ++index) {
    const Tile tile = tile_at(args, packed, index);
    for (int64_t row = 0; row < tile.height; ++row) {
      const float* x = args.x + (tile.first_row + row) * args.x_stride;
      for (int64_t k = 0; k < args.in_features; k += block_size) {
        const int64_t left = args.in_features - k;
        quantize_block(tile.block(layout, k / block_size), row, x + k,
                       left < block_size ? left : block_size);
      }
    }
  }
}

void linear_int8(const LinearArgs& args, const void* packed, int64_t first_tile, int64_t last_tile,
                 int64_t first_panel, int64_t last_panel) {
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    for (int64_t index = first_tile; index < last_tile; ++index) {
      const Tile tile = tile_at(args, packed, index);
      for (int64_t row = 0; row < tile.height; ++row) {
        float sums[kPanelWidth];
        panel_sums(args, panel, tile, row, sums);
        finish_row(args, tile.first_row + row, panel, sums);
      }
    }
  }
}

}  // namespace scalar
}  // namespace qvl::kernels
