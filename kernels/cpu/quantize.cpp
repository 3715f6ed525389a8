// Weights into quantised panels and rows back out of them.

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/cpu/linear_quantized.h"

namespace qvl::kernels {
namespace {

constexpr uint16_t kLargestF16 = 0x7bff;
constexpr uint16_t kNanF16 = 0x7e00;

// A value between -2^22 and 2^22 plus this has the value, rounded to nearest even, in its low bits.
constexpr float kRounder = 0x1.8p23f;

// Loops over a group do the same to this many values side by side, which compilers make vectors of.
constexpr int64_t kLanes = 8;

// Smallest and largest of some values, zero among them.
struct Range {
  float least = 0.0f;
  float most = 0.0f;
  bool is_finite = true;
};

// Of values [count]; count is a multiple of kLanes.
Range range_of(const float* values, int64_t count) {
  float least[kLanes] = {};
  float most[kLanes] = {};
  uint32_t magnitude[kLanes] = {};
  for (int64_t k = 0; k < count; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[k + lane];
      least[lane] = value < least[lane] ? value : least[lane];
      most[lane] = value > most[lane] ? value : most[lane];
      const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
      magnitude[lane] = bits > magnitude[lane] ? bits : magnitude[lane];
    }
  }
  Range range;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    if (least[lane] < range.least) range.least = least[lane];
    if (most[lane] > range.most) range.most = most[lane];
    if (magnitude[lane] >= 0x7f800000u) range.is_finite = false;
  }
  return range;
}

// The scale of a group. Codes reach from -2^(bits - 1) to 2^(bits - 1) - 1, so the value of largest
// magnitude takes the first of them, whatever its sign.
uint16_t scale_of(const Range& range, int bits) {
  if (!range.is_finite) return kNanF16;
  const float extreme = range.most > -range.least ? range.most : range.least;
  const float scale = extreme / static_cast<float>(bits == 4 ? -8 : -128);
  const uint16_t rounded = f32_to_f16(scale);
  const bool overflows = (rounded & 0x7fffu) > kLargestF16;
  return overflows ? static_cast<uint16_t>((rounded & 0x8000u) | kLargestF16) : rounded;
}

// codes [count] of values [count], rounded to nearest.
void round_to_codes(uint8_t* codes, const float* values, int64_t count, float scale, int zero) {
  const float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  const auto most = static_cast<float>(zero - 1);
  const auto least = static_cast<float>(-zero);
  const int32_t zero_bits = std::bit_cast<int32_t>(kRounder) - zero;
  for (int64_t k = 0; k < count; ++k) {
    float value = values[k] * inverse;
    value = value < least ? least : value;
    value = value > most ? most : value;
    codes[k] = static_cast<uint8_t>(std::bit_cast<int32_t>(value + kRounder) - zero_bits);
  }
}

// One output's codes [count] into its place: four inputs, or four and four, are 4 bytes.
void store_codes(char* panel_codes, int64_t lane, const uint8_t* codes, int64_t count, int bits) {
  if (bits == 8) {
    for (int64_t k = 0; k < count; k += 4) {
      std::memcpy(panel_codes + (k / 4 * kPanelWidth + lane) * 4, codes + k, 4);
    }
    return;
  }
  for (int64_t k = 0; k < count; k += kChunk) {
    uint32_t low;
    uint32_t high;
    std::memcpy(&low, codes + k, 4);
    std::memcpy(&high, codes + k + 4, 4);
    const uint32_t pairs = low | high << 4;
    std::memcpy(panel_codes + (k / kChunk * kPanelWidth + lane) * 4, &pairs, 4);
  }
}

// Values [count] of one output, padded with zeros to a multiple of kChunk, into its group at
// `data`.
void quantize_group(char* data, const QuantizedLayout& layout, int64_t lane, const float* values,
                    uint8_t* codes, int64_t count) {
  const uint16_t stored = scale_of(range_of(values, count), layout.bits);
  reinterpret_cast<uint16_t*>(data)[lane] = stored;
  const float scale = f16_to_f32(stored);
  if (stored == kNanF16) {
    std::fill_n(codes, count, static_cast<uint8_t>(layout.symmetric_zero()));
  } else {
    round_to_codes(codes, values, count, scale, layout.symmetric_zero());
  }
  store_codes(data + layout.header_bytes(), lane, codes, count, layout.bits);
}

}  // namespace

void quantize_weight(void* panels, const QuantizedLayout& layout, int64_t first_row,
                     int64_t num_rows, const void* rows, Format rows_format) {
  static_assert(kChunk == kLanes);
  const auto* numbers = static_cast<const char*>(rows);
  const int64_t number_bytes = rows_format == Format::kF32 ? 4 : 2;
  const int64_t padded = ceil_div(layout.group_size, kChunk) * kChunk;
  std::vector<float> values(static_cast<size_t>(padded));
  std::vector<uint8_t> codes(static_cast<size_t>(padded));
  for (int64_t i = 0; i < num_rows; ++i) {
    const int64_t row = first_row + i;
    for (int64_t g = 0; g < layout.num_groups(); ++g) {
      char* data = const_cast<char*>(group_data(panels, layout, row / kPanelWidth, g));
      const int64_t first = layout.group_begin(g);
      const int64_t count = layout.group_end(g) - first;
      const int64_t chunks = ceil_div(count, kChunk) * kChunk;
      widen(values.data(), numbers + (i * layout.in_features + first) * number_bytes, rows_format,
            count);
      std::fill(values.begin() + count, values.begin() + chunks, 0.0f);
      quantize_group(data, layout, row % kPanelWidth, values.data(), codes.data(), chunks);
    }
  }
}

void unpack_quantized_row(float* out, const void* panels, const QuantizedLayout& layout,
                          int64_t row) {
  for (int64_t g = 0; g < layout.num_groups(); ++g) {
    const char* group = group_data(panels, layout, row / kPanelWidth, g);
    const int64_t first = layout.group_begin(g);
    for (int64_t k = first; k < layout.group_end(g); ++k) {
      out[k] = dequantize(group, layout, k - first, row % kPanelWidth);
    }
  }
}

void dequantize_panel(float* out, const void* panels, const QuantizedLayout& layout,
                      int64_t panel) {
  for (int64_t k = 0; k < layout.in_features; ++k) {
    const int64_t g = k / layout.group_size;
    const char* group = group_data(panels, layout, panel, g);
    for (int64_t lane = 0; lane < kPanelWidth; ++lane) {
      out[k * kPanelWidth + lane] = dequantize(group, layout, k - layout.group_begin(g), lane);
    }
  }
}

}  // namespace qvl::kernels
