#pragma once

// The vocabulary of the kernels for quantised weights in AVX-512; see integers_avx2.h. Compiled
// with VNNI, dot() is one instruction.

#include "kernels/cpu/vector_avx512.h"

#define QVL_HAS_INTEGERS

namespace qvl::kernels::QVL_ISA {
namespace {

using IntVector = __m512i;  // of 32-bit lanes

// ---- shapes of the work, as measured ----

constexpr int kMaxInt8Rows = 8;
constexpr int int8_tile_vectors(int) { return 2; }
constexpr int kMaxQuantizedRows = 8;
constexpr int kPanelsOfOneRow = 2;

// ---- integers ----

inline IntVector load_int(const void* from) { return _mm512_loadu_si512(from); }
inline IntVector broadcast_int(int32_t value) { return _mm512_set1_epi32(value); }
inline IntVector load_broadcast_int(const char* from) {
  return _mm512_castps_si512(_mm512_set1_ps(*reinterpret_cast<const float*>(from)));
}
inline IntVector load_bytes(const char* from) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline IntVector add(IntVector a, IntVector b) { return _mm512_add_epi32(a, b); }
inline IntVector sub(IntVector a, IntVector b) { return _mm512_sub_epi32(a, b); }
inline IntVector mul(IntVector a, IntVector b) { return _mm512_mullo_epi32(a, b); }
inline IntVector max(IntVector a, IntVector b) { return _mm512_max_epi32(a, b); }
inline Vector to_float(IntVector a) { return _mm512_cvtepi32_ps(a); }
inline IntVector magnitude_bits(Vector x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}
inline int32_t sum_int_lanes(IntVector v) { return _mm512_reduce_add_epi32(v); }
inline int32_t max_int_lanes(IntVector v) { return _mm512_reduce_max_epi32(v); }
inline IntVector store_rounded(int8_t* to, Vector x) {
  const IntVector lanes = _mm512_cvtps_epi32(x);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(lanes));
  return lanes;
}

// ---- codes ----

inline IntVector low_nibbles(IntVector v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline IntVector high_nibbles(IntVector v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }

template <int kBits>
class ChunkCodes;

/// The low four bits of a lane choose a number from a table.
template <>
class ChunkCodes<4> {
 public:
  ChunkCodes() = default;
  ChunkCodes(const char* codes, int64_t) : codes_(load_int(codes)) {}
  template <int kInput>
  Vector as_float() const {
    constexpr int kShift = kInput < 4 ? 8 * kInput : 8 * (kInput - 4) + 4;
    const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(codes_, kShift), numbers);
  }

 private:
  IntVector codes_;
};

template <>
class ChunkCodes<8> {
 public:
  ChunkCodes() = default;
  ChunkCodes(const char* codes, int64_t half_bytes)
      : low_(load_int(codes)), high_(load_int(codes + half_bytes)) {}
  template <int kInput>
  Vector as_float() const {
    constexpr int kByte = kInput % 4;
    const IntVector codes = kInput < 4 ? low_ : high_;
    if constexpr (kByte == 3) return to_float(_mm512_srli_epi32(codes, 24));
    const IntVector bytes = _mm512_maskz_shuffle_epi8(
        0x1111111111111111u, codes, _mm512_set4_epi32(12 + kByte, 8 + kByte, 4 + kByte, kByte));
    return to_float(bytes);
  }

 private:
  IntVector low_;
  IntVector high_;
};

#ifdef __AVX512VNNI__
template <int kBits>
constexpr int kDotOffset = 0;
template <int kBits>
inline IntVector prepare_codes(IntVector codes) {
  return codes;
}
template <int kBits>
inline IntVector dot(IntVector acc, IntVector codes, IntVector x) {
  return _mm512_dpbusd_epi32(acc, codes, x);
}
#else
template <int kBits>
constexpr int kDotOffset = kBits == 8 ? 128 : 0;
template <int kBits>
inline IntVector prepare_codes(IntVector codes) {
  if constexpr (kBits == 8) return _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
  return codes;
}
/// AVX-512 has no vpsign: x is negated where the code is negative.
template <int kBits>
inline IntVector dot(IntVector acc, IntVector codes, IntVector x) {
  IntVector pairs;
  if constexpr (kBits == 8) {
    const IntVector signed_x =
        _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(codes), _mm512_setzero_si512(), x);
    pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(codes), signed_x);
  } else {
    pairs = _mm512_maddubs_epi16(codes, x);
  }
  return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
