#pragma once

// What the products with quantised weights share: how single codes are read, and rows of x as 8-bit
// integers. See LinearArgs for the sums and quantized.h for the weights.
//
// Rows as integers: tiles of `height` rows, each one stream of memory. A tile holds for every block
//   scales [height] fp32
//   sums   [height] int32, of the block's integers
//   codes  [ceil(block / 8) * 2][height][4] int8: four inputs of a row beside each other; padded
//          with zeros

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/quantized.h"

namespace qvl::kernels {

/// Smaller activations than this count as zero, so that nothing overflows.
constexpr float kSmallestActivation = 0x1p-100f;

// `static`: see convert.h.
static inline int64_t num_activation_blocks(const QuantizedLayout& layout) {
  return ceil_div(layout.in_features, layout.activation_block());
}

/// How a block of activations becomes integers, from the bits of its largest magnitude: each is
/// multiplied by `inverse` and rounded to nearest even. What is not finite makes the scale NaN.
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
struct Int8Scale {
  float scale;
  float inverse;  // 0: all integers are 0
};
static inline Int8Scale int8_scale(uint32_t largest_bits) {
  const float largest = std::bit_cast<float>(largest_bits);
  if (largest_bits >= 0x7f800000u) return {kNan, 0.0f};
  if (largest < kSmallestActivation) return {0.0f, 0.0f};
  return {largest / 127.0f, 127.0f / largest};
}

/// Bytes of the scales and sums of a block, for each row.
constexpr int64_t kInt8RowHeader = 8;

/// The parts of group `group` of a panel.
static inline const char* group_data(const void* panels, const QuantizedLayout& layout,
                                     int64_t panel, int64_t group) {
  return static_cast<const char*>(panels) + panel * layout.panel_bytes() +
         group * layout.group_bytes();
}
static inline float scale_at(const char* group, int64_t lane) {
  return f16_to_f32(reinterpret_cast<const uint16_t*>(group)[lane]);
}
static inline int zero_at(const char* group, const QuantizedLayout& layout, int64_t lane) {
  if (!layout.has_zeros) return layout.symmetric_zero();
  return reinterpret_cast<const uint8_t*>(group)[64 + lane];
}
/// `k` counts from the group's first input.
static inline int code_at(const char* group, const QuantizedLayout& layout, int64_t k,
                          int64_t lane) {
  const auto* codes = reinterpret_cast<const uint8_t*>(group + layout.header_bytes());
  if (layout.bits == 8) return codes[(k / 4 * kPanelWidth + lane) * 4 + k % 4];
  const uint8_t pair = codes[(k / kChunk * kPanelWidth + lane) * 4 + k % 4];
  return k % kChunk < 4 ? pair & 15 : pair >> 4;
}

/// The number that a code stands for; exact.
static inline float dequantize(const char* group, const QuantizedLayout& layout, int64_t k,
                               int64_t lane) {
  const float scale = scale_at(group, lane);
  const float offset = static_cast<float>(-zero_at(group, layout, lane)) * scale;
  return std::fma(static_cast<float>(code_at(group, layout, k, lane)), scale, offset);
}

namespace scalar {
constexpr int64_t kMaxInt8Rows = 4;
void quantize_rows(void* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile);
void linear_int8(const LinearArgs& args, const void* packed, int64_t first_tile, int64_t last_tile,
                 int64_t first_panel, int64_t last_panel);
}  // namespace scalar

}  // namespace qvl::kernels
