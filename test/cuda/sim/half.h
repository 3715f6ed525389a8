#pragma once

// 16-bit floating point by its bits.

#include <bit>
#include <cmath>
#include <cstdint>

namespace qvl::sim {

inline float bf16_to_float(uint16_t v) { return std::bit_cast<float>(uint32_t{v} << 16); }

/// To the nearest, ties to even; NaN becomes the canonical 0x7fff.
inline uint16_t float_to_bf16(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  if ((bits & 0x7fff'ffff) > 0x7f80'0000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float half_to_float(uint16_t v) {
  const uint32_t sign = uint32_t{v & 0x8000u} << 16, magnitude = v & 0x7fffu;
  if (magnitude >= 0x7c00)
    return std::bit_cast<float>(sign | 0x7f80'0000 | (magnitude & 0x3ff) << 13);
  // Scaling by a power of two handles denormals alike.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

/// To the nearest, ties to even; too large becomes infinity, NaN the canonical 0x7fff.
inline uint16_t float_to_half(float v) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fff'ffff;
  if (magnitude > 0x7f80'0000) return 0x7fff;
  if (magnitude >= 0x4780'0000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x3880'0000) {  // below the smallest normal: a multiple of 2^-24
    const float steps = std::bit_cast<float>(magnitude) * 0x1p24f;
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(steps)));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x3800'0000) >> 13);
}

}  // namespace qvl::sim
