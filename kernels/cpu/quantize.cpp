// Weights into quantised panels and rows back out of them.

#include <bit>
#include <vector>

#include "kernels/cpu/linear_quantized.h"

namespace qvl::kernels {
namespace {

constexpr uint16_t kLargestF16 = 0x7bff;
constexpr uint16_t kNanF16 = 0x7e00;

// A value between -2^22 and 2^22 plus this has the value, rounded to nearest even, in its low bits.
constexpr float kRounder = 0x1.8p23f;

struct Group {
  char* data;
  const QuantizedLayout& layout;
  int64_t lane;

  void set_scale(uint16_t scale) const { reinterpret_cast<uint16_t*>(data)[lane] = scale; }
  void set_code(int64_t k, int code) const {
    auto* codes = reinterpret_cast<uint8_t*>(data + layout.header_bytes());
    if (layout.bits == 8) {
      codes[(k / 4 * kPanelWidth + lane) * 4 + k % 4] = static_cast<uint8_t>(code);
      return;
    }
    uint8_t& pair = codes[(k / kChunk * kPanelWidth + lane) * 4 + k % 4];
    pair = static_cast<uint8_t>(k % kChunk < 4 ? (pair & 0xf0) | code : (pair & 0x0f) | code << 4);
  }
};

// Smallest and largest of values [count].
struct Range {
  float least = 0.0f;
  float most = 0.0f;
  bool is_finite = true;
};

Range range_of(const float* values, int64_t count) {
  Range range;
  for (int64_t k = 0; k < count; ++k) {
    const float value = values[k];
    if (value < range.least) range.least = value;
    if (value > range.most) range.most = value;
    const uint32_t magnitude = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) range.is_finite = false;
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

void quantize_group(const Group& group, const float* values, int64_t count) {
  const int bits = group.layout.bits;
  const uint16_t stored = scale_of(range_of(values, count), bits);
  const float scale = f16_to_f32(stored);
  // A group of zeros, of values too small for fp16, or of what is not a number.
  const bool is_flat = !(scale < 0.0f || scale > 0.0f) || stored == kNanF16;
  const float inverse = is_flat ? 0.0f : 1.0f / scale;
  const int zero = group.layout.symmetric_zero();
  const auto most = static_cast<float>(zero - 1);
  const auto least = static_cast<float>(-zero);
  group.set_scale(stored);
  for (int64_t k = 0; k < count; ++k) {
    float value = is_flat ? 0.0f : values[k] * inverse;
    value = value < least ? least : value > most ? most : value;
    const uint32_t bits_of = std::bit_cast<uint32_t>(value + kRounder);
    const int difference = static_cast<int>(bits_of) - static_cast<int>(0x4b400000);
    group.set_code(k, difference + zero);
  }
  for (int64_t k = count; k < ceil_div(count, kChunk) * kChunk; ++k) group.set_code(k, zero);
}

}  // namespace

void quantize_weight(void* panels, const QuantizedLayout& layout, int64_t first_row,
                     int64_t num_rows, const void* rows, Format rows_format) {
  std::vector<float> values(static_cast<size_t>(layout.group_size));
  for (int64_t i = 0; i < num_rows; ++i) {
    const int64_t row = first_row + i;
    for (int64_t g = 0; g < layout.num_groups(); ++g) {
      char* data = const_cast<char*>(group_data(panels, layout, row / kPanelWidth, g));
      const int64_t first = layout.group_begin(g);
      const int64_t count = layout.group_end(g) - first;
      for (int64_t k = 0; k < count; ++k) {
        values[static_cast<size_t>(k)] =
            load(rows, rows_format, i * layout.in_features + first + k);
      }
      quantize_group({data, layout, row % kPanelWidth}, values.data(), count);
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
