#include "kernels/cpu/convert.h"

#include "check.h"

namespace qvl::kernels {

// The nearest number of a 16-bit format by search: `widen` must be monotonic over its positive
// codes 0 .. infinity.
template <class Widen>
uint16_t nearest(float value, uint16_t infinity, const Widen& widen) {
  uint16_t low = 0;
  uint16_t high = infinity;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (widen(middle) <= value ? low : high) = middle;
  }
  // Above the largest number, infinity stands where the next number would be.
  const double step = static_cast<double>(widen(low)) - widen(static_cast<uint16_t>(low - 1));
  const double upper = high == infinity ? widen(low) + step : widen(high);
  const double to_low = static_cast<double>(value) - widen(low);
  const double to_high = upper - value;
  if (to_low != to_high) return to_low < to_high ? low : high;
  return low % 2 == 0 ? low : high;
}

TEST(every_16_bit_number_survives_widening_and_rounding) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto bits = static_cast<uint16_t>(code);
    const float half = f16_to_f32(bits);
    if (std::isnan(half)) {
      CHECK((code & 0x7c00) == 0x7c00 && (code & 0x3ff) != 0);
      CHECK(std::isnan(f16_to_f32(f32_to_f16(half))));
    } else {
      CHECK_EQ(f32_to_f16(half), bits);
    }
    const float brain = bf16_to_f32(bits);
    if (std::isnan(brain)) {
      CHECK(std::isnan(bf16_to_f32(f32_to_bf16(brain))));
    } else {
      CHECK_EQ(f32_to_bf16(brain), bits);
    }
  }
}

TEST(half_precision_values_are_the_formats) {
  CHECK_EQ(f16_to_f32(0x3c00), 1.0f);
  CHECK_EQ(f16_to_f32(0xc000), -2.0f);
  CHECK_EQ(f16_to_f32(0x7bff), 65504.0f);
  CHECK_EQ(f16_to_f32(0x0001), 0x1p-24f);
  CHECK_EQ(f16_to_f32(0x0400), 0x1p-14f);
  CHECK(std::isinf(f16_to_f32(0x7c00)));
  CHECK(std::signbit(f16_to_f32(0x8000)));
  CHECK_EQ(bf16_to_f32(0x3f80), 1.0f);
}

TEST(rounding_is_to_nearest_even) {
  for (uint32_t i = 0; i < 200000; ++i) {
    // Numbers of every magnitude, and the exact middle between two of the format.
    uint32_t bits = i * 10739u & 0x7f7fffffu;
    if (i % 3 == 0) bits = (bits & 0xffffe000u) | 0x1000u;
    if (i % 7 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
    const float value = std::bit_cast<float>(bits);
    if (value >= 0x1p-24f) {
      CHECK_EQ(f32_to_f16(value), value >= 65536.0f ? 0x7c00 : nearest(value, 0x7c00, f16_to_f32));
    }
    if (value >= 0x1p-126f && bits < 0x7f7f0000u) {
      CHECK_EQ(f32_to_bf16(value), nearest(value, 0x7f80, bf16_to_f32));
    }
    CHECK_EQ(f32_to_f16(-value), f32_to_f16(value) | 0x8000);
  }
  CHECK_EQ(f32_to_f16(0x1p-25f), 0x0000);  // the tie between 0 and the smallest number
  CHECK_EQ(f32_to_f16(0x1.000002p-25f), 0x0001);
  CHECK_EQ(f32_to_f16(65519.0f), 0x7bff);
  CHECK_EQ(f32_to_f16(65520.0f), 0x7c00);
}

}  // namespace qvl::kernels
