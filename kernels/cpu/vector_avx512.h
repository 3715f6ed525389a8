#pragma once

// The vector vocabulary of the kernels in AVX-512 (F, BW, DQ, VL): sixteen lanes, 32 registers.
// What the names mean, and the rules of these headers, are in vector_avx2.h.

#include <immintrin.h>

#define QVL_ISA avx512
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr const char* kSetName = "avx512";
constexpr const char* kProcessorFeatures[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl",
                                              nullptr};
constexpr bool kHasScalarBits = true;

using Vector = __m512;  // of float
constexpr int kLanes = 16;

// ---- shapes of the work, as measured ----

/// 14 x 2 are 28 chains, and with two vectors of weights and a broadcast nearly all registers: a
/// step of k takes 16 loads for 28 multiply-adds, well below what two load ports give.
constexpr int kMaxTileRows = 14;
constexpr int kTileVectors = 2;
/// A panel is two vectors wide: any tile of rows keeps its sums in registers.
constexpr int kMaxWholePanelRows = kMaxTileRows;
/// 4 x 384 x 32 widened weights take 192 KB of the second-level cache, a tile of rows 21 KB of the
/// first-level one. Measured on Zen 5: 94 % of the peak; with rows of 9000 inputs that come from
/// memory as well, since every tile fetches the next one.
constexpr int64_t kPanelsAtOnce = 4;
constexpr int64_t kBlockK = 384;
/// Rows that go over the panels together; they and their sums fit the second-level cache.
constexpr int64_t kRowsAtOnce = 560;

// ---- lanes ----

struct AllLanes {};

class FirstLanes {
 public:
  explicit FirstLanes(int64_t count) {
    const int limit = count < 0 ? 0 : count < kLanes ? static_cast<int>(count) : kLanes;
    mask_ = static_cast<__mmask16>((1u << limit) - 1u);
  }
  __mmask16 mask() const { return mask_; }

 private:
  __mmask16 mask_;
};

// ---- memory ----

inline Vector load(const float* from, AllLanes = {}) { return _mm512_loadu_ps(from); }
inline void store(float* to, Vector value, AllLanes = {}) { _mm512_storeu_ps(to, value); }
inline Vector load(const float* from, const FirstLanes& lanes) {
  return _mm512_maskz_loadu_ps(lanes.mask(), from);
}
inline void store(float* to, Vector value, const FirstLanes& lanes) {
  _mm512_mask_storeu_ps(to, lanes.mask(), value);
}
inline Vector load_broadcast(const float* from) { return _mm512_set1_ps(*from); }

template <Format kFormat>
inline Vector load_widened(const char* from) {
  if constexpr (kFormat == Format::kF32) {
    return _mm512_loadu_ps(from);
  } else {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kFormat == Format::kF16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

constexpr int64_t kLineBytes = 64;
QVL_ALWAYS_INLINE inline void prefetch_to_l1(const char* line) { _mm_prefetch(line, _MM_HINT_T0); }
QVL_ALWAYS_INLINE inline void prefetch_to_l2(const char* line) { _mm_prefetch(line, _MM_HINT_T1); }

// ---- arithmetic ----

inline Vector zero() { return _mm512_setzero_ps(); }
inline Vector broadcast(float value) { return _mm512_set1_ps(value); }
inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
inline Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
inline Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
inline Vector div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
inline Vector sqrt(Vector a) { return _mm512_sqrt_ps(a); }
inline Vector fmadd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
inline Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
inline Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }

inline Vector select_less(Vector a, Vector b, Vector if_less, Vector otherwise) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, if_less);
}
inline Vector select(AllLanes, Vector value, Vector) { return value; }
inline Vector select(const FirstLanes& lanes, Vector value, Vector otherwise) {
  return _mm512_mask_blend_ps(lanes.mask(), otherwise, value);
}

inline Vector power_of_two(Vector x) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(x), 23),
                                              _mm512_set1_epi32(0x3f800000)));
}

// ---- over lanes ----

inline void interleave(Vector a, Vector b, Vector& low, Vector& high) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  low = _mm512_permutex2var_ps(a, first, b);
  high = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), b);
}

constexpr int kSumVectors = 2;

inline __m256 low_half(Vector v) { return _mm512_castps512_ps256(v); }
inline __m256 high_half(Vector v) { return _mm512_extractf32x8_ps(v, 1); }

inline float sum_partial_sums(const Vector (&sums)[kSumVectors]) {
  const __m256 v = _mm256_add_ps(_mm256_add_ps(low_half(sums[0]), high_half(sums[0])),
                                 _mm256_add_ps(low_half(sums[1]), high_half(sums[1])));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float max_lanes(Vector v) {
  const __m256 eight = _mm256_max_ps(low_half(v), high_half(v));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
