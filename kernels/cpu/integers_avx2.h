#pragma once

// The vocabulary of the kernels for quantised weights in AVX2, beside vector_avx2.h: vectors of
// 32-bit lanes, a lane being an output feature. integers_avx512.h gives the same names. Compiled
// with AVX-VNNI, dot() is one instruction.

#include "kernels/cpu/vector_avx2.h"

#define QVL_HAS_INTEGERS

namespace qvl::kernels::QVL_ISA {
namespace {

using IntVector = __m256i;  // of 32-bit lanes

// ---- shapes of the work, as measured ----

/// The register tile of products with 8-bit activations: rows x vectors of columns. A few rows take
/// a whole panel at once, so that it is one stream of memory.
constexpr int kMaxInt8Rows = 4;
constexpr int int8_tile_vectors(int rows) { return rows <= 2 ? 4 : 2; }
/// Up to this many rows, products with fp32 activations keep the sums of a panel in registers.
constexpr int kMaxQuantizedRows = 2;
/// A row alone takes so many panels at once; see quantized_chains.
constexpr int kPanelsOfOneRow = 1;

// ---- integers ----

inline IntVector load_int(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
inline IntVector broadcast_int(int32_t value) { return _mm256_set1_epi32(value); }
inline IntVector load_broadcast_int(const char* from) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(from)));
}
/// kLanes unsigned bytes.
inline IntVector load_bytes(const char* from) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
inline IntVector add(IntVector a, IntVector b) { return _mm256_add_epi32(a, b); }
inline IntVector sub(IntVector a, IntVector b) { return _mm256_sub_epi32(a, b); }
inline IntVector mul(IntVector a, IntVector b) { return _mm256_mullo_epi32(a, b); }
inline IntVector max(IntVector a, IntVector b) { return _mm256_max_epi32(a, b); }
inline Vector to_float(IntVector a) { return _mm256_cvtepi32_ps(a); }
/// The bits of |x|, which order as the numbers do and have what is not finite above all.
inline IntVector magnitude_bits(Vector x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
}
inline int32_t sum_int_lanes(IntVector v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1)));
}
inline int32_t max_int_lanes(IntVector v) {
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 1)));
}
/// Rounds to nearest even and stores the lanes, from -127 to 127, as bytes.
inline IntVector store_rounded(int8_t* to, Vector x) {
  const IntVector lanes = _mm256_cvtps_epi32(x);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(words, words));
  return lanes;
}

// ---- codes ----

inline IntVector low_nibbles(IntVector v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline IntVector high_nibbles(IntVector v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

/// Byte kIndex of every lane.
template <int kIndex>
inline IntVector byte_of(IntVector v) {
  if constexpr (kIndex == 3) return _mm256_srli_epi32(v, 24);
  constexpr int kZero = 0x80;
  const __m128i bytes =
      _mm_setr_epi8(kIndex, kZero - 256, kZero - 256, kZero - 256, 4 + kIndex, kZero - 256,
                    kZero - 256, kZero - 256, 8 + kIndex, kZero - 256, kZero - 256, kZero - 256,
                    12 + kIndex, kZero - 256, kZero - 256, kZero - 256);
  return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(bytes));
}

/// A lane's eight codes of a chunk, as numbers.
template <int kBits>
class ChunkCodes {
 public:
  ChunkCodes() = default;
  /// The codes of kLanes outputs, and how far on the second half of 8-bit codes is.
  ChunkCodes(const char* codes, int64_t half_bytes) {
    if constexpr (kBits == 4) {
      low_ = low_nibbles(load_int(codes));
      high_ = high_nibbles(load_int(codes));
    } else {
      low_ = load_int(codes);
      high_ = load_int(codes + half_bytes);
    }
  }
  template <int kInput>
  Vector as_float() const {
    return to_float(byte_of<kInput % 4>(kInput < 4 ? low_ : high_));
  }

 private:
  IntVector low_;
  IntVector high_;
};

#ifdef __AVXVNNI__
template <int kBits>
constexpr int kDotOffset = 0;
template <int kBits>
inline IntVector prepare_codes(IntVector codes) {
  return codes;
}
template <int kBits>
inline IntVector dot(IntVector acc, IntVector codes, IntVector x) {
  return _mm256_dpbusd_avx_epi32(acc, codes, x);
}
#else
/// What dot() takes codes less: the sums of a product with zero points begin at
/// (kDotOffset - zero) * sum of x.
template <int kBits>
constexpr int kDotOffset = kBits == 8 ? 128 : 0;

/// Four codes of every lane made ready for dot().
template <int kBits>
inline IntVector prepare_codes(IntVector codes) {
  if constexpr (kBits == 8) return _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
  return codes;
}

/// acc + the products of four prepared codes with four int8; exact.
template <int kBits>
inline IntVector dot(IntVector acc, IntVector codes, IntVector x) {
  // Signed codes: |code| <= 128 and |x| <= 127, so that two products fit 16 bits.
  const IntVector pairs =
      kBits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
                 : _mm256_maddubs_epi16(codes, x);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
