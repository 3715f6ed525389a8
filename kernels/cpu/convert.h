#pragma once

// Conversions between fp32 and the 16-bit formats, equal to what the hardware's instructions do.
// Everything is `static`: a file compiled for a newer instruction set must not provide the one copy
// of an inline function that the linker keeps for all.

#include <bit>
#include <cstdint>

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

static inline float bf16_to_f32(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

/// Rounds to nearest even; a NaN stays a (quiet) NaN.
static inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float f16_to_f32(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  const uint32_t exponent = (value >> 10) & 0x1fu;
  const uint32_t fraction = value & 0x3ffu;
  if (exponent == 0x1fu) {
    const uint32_t quiet = fraction != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13) | quiet);
  }
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact in fp32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

/// Rounds to nearest even, with subnormals; overflow gives infinity, a NaN stays a (quiet) NaN.
static inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Below the smallest normal number: adding 0.5 leaves the rounded fraction in the low bits.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// The number at `index` of an array in `format`.
static inline float load(const void* data, Format format, int64_t index) {
  switch (format) {
    case Format::kBF16:
      return bf16_to_f32(static_cast<const uint16_t*>(data)[index]);
    case Format::kF16:
      return f16_to_f32(static_cast<const uint16_t*>(data)[index]);
    case Format::kF32:
      break;
  }
  return static_cast<const float*>(data)[index];
}

/// Stores `value`, rounded, at `index` of an array in `format`.
static inline void store(void* data, Format format, int64_t index, float value) {
  switch (format) {
    case Format::kBF16:
      static_cast<uint16_t*>(data)[index] = f32_to_bf16(value);
      return;
    case Format::kF16:
      static_cast<uint16_t*>(data)[index] = f32_to_f16(value);
      return;
    case Format::kF32:
      break;
  }
  static_cast<float*>(data)[index] = value;
}

template <Format kFormat>
struct FormatConstant {
  static constexpr Format value = kFormat;
};

/// Calls body with `format` as a constant.
template <class Body>
static inline void with_format(Format format, const Body& body) {
  switch (format) {
    case Format::kBF16:
      return body(FormatConstant<Format::kBF16>{});
    case Format::kF16:
      return body(FormatConstant<Format::kF16>{});
    case Format::kF32:
      return body(FormatConstant<Format::kF32>{});
  }
}

}  // namespace qvl::kernels
