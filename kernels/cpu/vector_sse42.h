#pragma once

// The vector vocabulary of the kernels in SSE4.2: four lanes, sixteen registers. What the names
// mean, and the rules of these headers, are in vector_avx2.h.
//
// There is no fused multiply-add: fmadd rounds twice. Results differ from the scalar
// specification's in the last bits, and are as independent of batch, chunks and threads as any.

#include <nmmintrin.h>

#define QVL_ISA sse42
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr const char* kSetName = "sse42";
constexpr const char* kProcessorFeatures[] = {"sse4_2", nullptr};
constexpr bool kHasScalarBits = false;

using Vector = __m128;  // of float
constexpr int kLanes = 4;

// ---- shapes of the work ----

/// 6 x 2 sums leave registers for two vectors of weights, a broadcast and a product.
constexpr int kMaxTileRows = 6;
constexpr int kTileVectors = 2;
/// A panel is eight vectors wide.
constexpr int kMaxWholePanelRows = 1;
/// As for AVX2.
constexpr int64_t kPanelsAtOnce = 4;
constexpr int64_t kBlockK = 256;
constexpr int64_t kRowsAtOnce = 480;

// ---- lanes ----

struct AllLanes {};

// ---- memory ----

inline Vector load(const float* from, AllLanes = {}) { return _mm_loadu_ps(from); }
inline void store(float* to, Vector value, AllLanes = {}) { _mm_storeu_ps(to, value); }
}  // namespace
}  // namespace qvl::kernels::QVL_ISA

#include "kernels/cpu/counted_lanes.h"

namespace qvl::kernels::QVL_ISA {
namespace {

inline __m128 lane_mask(const FirstLanes& lanes) {
  return _mm_castsi128_ps(
      _mm_cmpgt_epi32(_mm_set1_epi32(lanes.count()), _mm_setr_epi32(0, 1, 2, 3)));
}

inline Vector load_broadcast(const float* from) { return _mm_load1_ps(from); }

/// a where the mask is set, b elsewhere.
inline Vector blend(__m128 mask, Vector a, Vector b) { return _mm_blendv_ps(b, a, mask); }

/// fp16 in the low halves of 32 bits, as f16_to_f32 of convert.h.
inline Vector widen_f16(__m128i bits) {
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x8000)), 16);
  const __m128i magnitude = _mm_and_si128(bits, _mm_set1_epi32(0x7fff));
  // The exponent moves by 112: exact for subnormal numbers too.
  const __m128 scaled = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)),
                                   _mm_castsi128_ps(_mm_set1_epi32((127 + 112) << 23)));
  const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
  const __m128i quiet =
      _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7c00)), _mm_set1_epi32(0x400000));
  const __m128i infinite =
      _mm_or_si128(_mm_or_si128(_mm_slli_epi32(magnitude, 13), _mm_set1_epi32(0x7f800000)), quiet);
  const Vector value = blend(_mm_castsi128_ps(special), _mm_castsi128_ps(infinite), scaled);
  return _mm_or_ps(value, _mm_castsi128_ps(sign));
}

template <Format kFormat>
inline Vector load_widened(const char* from) {
  if constexpr (kFormat == Format::kF32) {
    return _mm_loadu_ps(reinterpret_cast<const float*>(from));
  } else {
    const __m128i bits =
        _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    if constexpr (kFormat == Format::kF16) return widen_f16(bits);
    return _mm_castsi128_ps(_mm_slli_epi32(bits, 16));
  }
}

constexpr int64_t kLineBytes = 64;
QVL_ALWAYS_INLINE inline void prefetch_to_l1(const char* line) { _mm_prefetch(line, _MM_HINT_T0); }
QVL_ALWAYS_INLINE inline void prefetch_to_l2(const char* line) { _mm_prefetch(line, _MM_HINT_T1); }

// ---- arithmetic ----

inline Vector zero() { return _mm_setzero_ps(); }
inline Vector broadcast(float value) { return _mm_set1_ps(value); }
inline Vector add(Vector a, Vector b) { return _mm_add_ps(a, b); }
inline Vector sub(Vector a, Vector b) { return _mm_sub_ps(a, b); }
inline Vector mul(Vector a, Vector b) { return _mm_mul_ps(a, b); }
inline Vector div(Vector a, Vector b) { return _mm_div_ps(a, b); }
inline Vector sqrt(Vector a) { return _mm_sqrt_ps(a); }
/// a * b + c with two roundings.
inline Vector fmadd(Vector a, Vector b, Vector c) { return add(mul(a, b), c); }
inline Vector min(Vector a, Vector b) { return _mm_min_ps(a, b); }
inline Vector max(Vector a, Vector b) { return _mm_max_ps(a, b); }

inline Vector select_less(Vector a, Vector b, Vector if_less, Vector otherwise) {
  return blend(_mm_cmplt_ps(a, b), if_less, otherwise);
}
inline Vector select(AllLanes, Vector value, Vector) { return value; }
inline Vector select(const FirstLanes& lanes, Vector value, Vector otherwise) {
  return blend(lane_mask(lanes), value, otherwise);
}

inline Vector power_of_two(Vector x) {
  return _mm_castsi128_ps(
      _mm_add_epi32(_mm_slli_epi32(_mm_castps_si128(x), 23), _mm_set1_epi32(0x3f800000)));
}

// ---- over lanes ----

inline void interleave(Vector a, Vector b, Vector& low, Vector& high) {
  low = _mm_unpacklo_ps(a, b);
  high = _mm_unpackhi_ps(a, b);
}

constexpr int kSumVectors = 8;

inline float sum_partial_sums(const Vector (&sums)[kSumVectors]) {
  const Vector low = add(add(sums[0], sums[2]), add(sums[4], sums[6]));
  const Vector high = add(add(sums[1], sums[3]), add(sums[5], sums[7]));
  const Vector four = add(low, high);
  const Vector two = add(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float max_lanes(Vector v) {
  const Vector two = max(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
