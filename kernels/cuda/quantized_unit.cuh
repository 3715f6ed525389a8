#pragma once

#include "device.cuh"
#include "quantized_matrix.h"

namespace qvl {

// What a warp loads of a unit, and how it becomes A fragments.
template <class W, int kBits, int kGroup>
struct QuantizedUnit {
  static_assert((kBits == 4 || kBits == 8) && (kGroup == 32 || kGroup == 128));
  static constexpr int kColumns = kBits == 4 ? 128 : 64;
  static constexpr int kBlocks = kColumns / 32;
  static constexpr int kScales = kGroup == 32 ? kBlocks : 1;
  // Units that share their scales.
  static constexpr int kUnitsPerScales = kGroup > kColumns ? kGroup / kColumns : 1;
  // Groups of 32 inputs of 4 bits are our own format, which has no zero points: they are loaded
  // with the other numbers of a unit only where registers are left.
  static constexpr bool kKeepsZeros = kScales < 4;
  // A 16-bit number whose lowest mantissa bit is worth 1: 128 in bf16, 1024 in fp16.
  static constexpr uint32_t kOne = Element<W>::kIntegers * 0x00010001u;

  // 8 bits go into its mantissa.
  static constexpr bool kFitsByte = Element<W>::kIntegers == 0x6400;

  uint4 codes[2];
  uint32_t scales[kScales];           // of rows quad and quad + 8
  uint32_t zeros[(kScales + 1) / 2];  // likewise, bytes

  // Unit `index` of the matrix, counted through its tiles.
  QVL_DEVICE void load(const QuantizedMatrix& m, int index) {
    const int lane = lane_id();
    const uint4* src =
        static_cast<const uint4*>(m.codes) + static_cast<int64_t>(index) * (2 * kWarpSize) + lane;
    codes[0] = load_streaming(src);
    codes[1] = load_streaming(src + kWarpSize);
    const int64_t at = static_cast<int64_t>(index / kUnitsPerScales) * 8 + lane / 4;
    const uint32_t* scale = static_cast<const uint32_t*>(m.scales) + at * kScales;
    if constexpr (kScales == 4) {
      const uint4 v = load_16(scale);
      scales[0] = v.x, scales[1] = v.y, scales[2] = v.z, scales[3] = v.w;
    } else if constexpr (kScales == 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(scale);
      scales[0] = v.x, scales[1] = v.y;
    } else {
      scales[0] = *scale;
    }
    if (kKeepsZeros) load_zeros(m, index);
  }

  // Before fragments() where !kKeepsZeros.
  QVL_DEVICE void load_zeros(const QuantizedMatrix& m, int index) {
    constexpr uint32_t kMiddle = kBits == 4 ? 0x08080808u : 0x80808080u;
#pragma unroll
    for (int i = 0; i < (kScales + 1) / 2; ++i) zeros[i] = kMiddle;
    if (m.zeros == nullptr) return;
    const int64_t at = static_cast<int64_t>(index / kUnitsPerScales) * 8 + lane_id() / 4;
    const uint8_t* zero = m.zeros + at * (2 * kScales);
    if constexpr (kScales == 4) {
      const uint2 v = *reinterpret_cast<const uint2*>(zero);
      zeros[0] = v.x, zeros[1] = v.y;
    } else if constexpr (kScales == 2) {
      zeros[0] = *reinterpret_cast<const uint32_t*>(zero);
    } else {
      zeros[0] = *reinterpret_cast<const uint16_t*>(zero);
    }
  }

  // code - zero of 16 rows by 16 columns: the A fragment of product s = 0, 1 of a block.
  QVL_DEVICE void fragment(uint32_t (&a)[4], int block, int s) const {
    const int group = kGroup == 32 ? block : 0;
    const uint32_t zero = zeros[group / 2];
    const uint32_t first = static_cast<uint32_t>(group % 2 * 2);
    if constexpr (kBits == 4) {
      const uint4 v = codes[block / 2];
      const uint32_t word = block % 2 == 0 ? (s == 0 ? v.x : v.y) : (s == 0 ? v.z : v.w);
      const uint32_t offset[2] = {minus_zero(zero, first), minus_zero(zero, first + 1)};
#pragma unroll
      for (int j = 0; j < 4; ++j)
        a[j] = Element<W>::add(and_or(word >> (4 * j), 0x000f000fu, kOne), offset[j % 2]);
    } else {
      const uint4 v = codes[block];
#pragma unroll
      for (uint32_t r = 0; r < 2; ++r) {
        const uint32_t word = r == 0 ? (s == 0 ? v.x : v.z) : (s == 0 ? v.y : v.w);
        if constexpr (kFitsByte) {
          const uint32_t offset = minus_zero(zero, first + r);
          a[r] = Element<W>::add(permute_bytes(word, kOne, 0x5150u), offset);
          a[2 + r] = Element<W>::add(permute_bytes(word, kOne, 0x5352u), offset);
        } else {
          // Every difference is a bf16 number, but a code is none next to 128: through F32, where
          // 2^23 + code has the code as its lowest byte.
          const float offset =
              __uint_as_float(permute_bytes(zero, 0xcb000000u, 0x7650u + first + r));
          uint32_t w[4];
#pragma unroll
          for (uint32_t i = 0; i < 4; ++i)
            w[i] = __float_as_uint(__uint_as_float(permute_bytes(word, 0x4b000000u, 0x7650u + i)) +
                                   offset);
          a[r] = permute_bytes(w[0], w[1], 0x7632u);
          a[2 + r] = permute_bytes(w[2], w[3], 0x7632u);
        }
      }
    }
  }

 private:
  // -(kOne + zero) twice, with the zero point from a byte.
  QVL_DEVICE static uint32_t minus_zero(uint32_t zero, uint32_t byte) {
    return permute_bytes(zero, kOne | 0x80008000u, 0x5050u + byte * 0x0101u);
  }
};

}  // namespace qvl
