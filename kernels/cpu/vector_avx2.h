#pragma once

// The vector vocabulary of the kernels in AVX2 + FMA + F16C: eight lanes, sixteen registers.
//
// Every vector_<set>.h gives the same names with the same meaning, and the kernels (*_simd.h) are
// written in them alone; <set>.cpp includes one of these headers and the kernels after it. What is
// here and there is in a namespace of the instruction set and has internal linkage: a function that
// was compiled for a newer instruction set must never become the one copy that the linker keeps for
// all files. For the same reason nothing may call an inline function of the standard library.

#include <immintrin.h>

#define QVL_ISA avx2
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr const char* kSetName = "avx2";
constexpr const char* kProcessorFeatures[] = {"avx2", "fma", "f16c", nullptr};
constexpr bool kHasScalarBits = true;

using Vector = __m256;  // of float
constexpr int kLanes = 8;

// ---- shapes of the work, as measured ----

/// The register tile of matrix products, rows x vectors of columns. 6 x 2 are 12 chains: 8 hide the
/// latency of a multiply-add, and registers are left for two vectors of weights and a broadcast.
constexpr int kMaxTileRows = 6;
constexpr int kTileVectors = 2;
/// Up to this many rows a matrix-vector product keeps the sums of a whole panel in registers.
constexpr int kMaxWholePanelRows = 2;
/// Panels that go over a tile of rows together, and their inputs: 4 x 256 x 32 widened weights take
/// 128 KB of the second-level cache, a tile of rows 6 KB of the first-level one.
constexpr int64_t kPanelsAtOnce = 4;
constexpr int64_t kBlockK = 256;
/// Rows that go over the panels together; they and their sums fit the second-level cache.
constexpr int64_t kRowsAtOnce = 480;

// ---- lanes ----

/// All lanes: the full vectors of a row.
struct AllLanes {};

/// Lanes [0, count); `count` may be anything.
class FirstLanes {
 public:
  explicit FirstLanes(int64_t count) {
    const int limit = count < 0 ? 0 : count < kLanes ? static_cast<int>(count) : kLanes;
    mask_ = _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  __m256i mask() const { return mask_; }

 private:
  __m256i mask_;
};

// ---- memory ----

inline Vector load(const float* from, AllLanes = {}) { return _mm256_loadu_ps(from); }
inline void store(float* to, Vector value, AllLanes = {}) { _mm256_storeu_ps(to, value); }
/// Other lanes are zero and their memory is not touched.
inline Vector load(const float* from, const FirstLanes& lanes) {
  return _mm256_maskload_ps(from, lanes.mask());
}
inline void store(float* to, Vector value, const FirstLanes& lanes) {
  _mm256_maskstore_ps(to, lanes.mask(), value);
}
/// One number in every lane.
inline Vector load_broadcast(const float* from) { return _mm256_broadcast_ss(from); }

/// kLanes consecutive numbers, widened.
template <Format kFormat>
inline Vector load_widened(const char* from) {
  if constexpr (kFormat == Format::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
  } else {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (kFormat == Format::kF16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

constexpr int64_t kLineBytes = 64;  // of the cache
/// Brings a line to the first-level or the second-level cache. The address need not be valid.
/// Always inline: GCC drops a call of a function that does nothing but prefetch.
QVL_ALWAYS_INLINE inline void prefetch_to_l1(const char* line) { _mm_prefetch(line, _MM_HINT_T0); }
QVL_ALWAYS_INLINE inline void prefetch_to_l2(const char* line) { _mm_prefetch(line, _MM_HINT_T1); }

// ---- arithmetic ----

inline Vector zero() { return _mm256_setzero_ps(); }
inline Vector broadcast(float value) { return _mm256_set1_ps(value); }
inline Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
inline Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
inline Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
inline Vector div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
inline Vector sqrt(Vector a) { return _mm256_sqrt_ps(a); }
/// a * b + c with one rounding.
inline Vector fmadd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
/// a < b ? a : b and a > b ? a : b; b where one is not a number.
inline Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
inline Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }

/// a < b ? if_less : otherwise.
inline Vector select_less(Vector a, Vector b, Vector if_less, Vector otherwise) {
  return _mm256_blendv_ps(otherwise, if_less, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
/// `value` in `lanes`, `otherwise` in the others.
inline Vector select(AllLanes, Vector value, Vector) { return value; }
inline Vector select(const FirstLanes& lanes, Vector value, Vector otherwise) {
  return _mm256_blendv_ps(otherwise, value, _mm256_castsi256_ps(lanes.mask()));
}

/// 2^n, where n is the integer in the low bits of x: see exp_f32 of math.h.
inline Vector power_of_two(Vector x) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(x), 23),
                                              _mm256_set1_epi32(0x3f800000)));
}

// ---- over lanes ----

/// low, high = a0 b0 a1 b1 a2 ..., over both vectors.
inline void interleave(Vector a, Vector b, Vector& low, Vector& high) {
  const Vector even = _mm256_unpacklo_ps(a, b);  // of each half
  const Vector odd = _mm256_unpackhi_ps(a, b);
  low = _mm256_permute2f128_ps(even, odd, 0x20);
  high = _mm256_permute2f128_ps(even, odd, 0x31);
}

constexpr int kSumVectors = 4;  // of the 32 partial sums

/// sum_partial_sums of math.h: sums[i] holds the partial sums from i * kLanes on.
inline float sum_partial_sums(const Vector (&sums)[kSumVectors]) {
  const Vector v = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float max_lanes(Vector v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
