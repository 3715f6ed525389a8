#pragma once

// What the AVX2 kernels share: conversions on load, exp, sums, the inner product tile. Included by
// *_avx2.cpp files only. Everything is `static` (see convert.h), and nothing here or there may use
// an inline function of the standard library.

#include <immintrin.h>

#include <utility>

#include "kernels/cpu/math.h"

#if defined(_MSC_VER) && !defined(__clang__)
#define QVL_ALWAYS_INLINE [[msvc::forceinline]]
#else
#define QVL_ALWAYS_INLINE __attribute__((always_inline))
#endif

namespace qvl::kernels::avx2 {

/// Lanes [0, count) of eight, as a mask for maskload, maskstore and blends.
static inline __m256i lane_mask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int limit = count < 0 ? 0 : count < 8 ? static_cast<int>(count) : 8;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), lanes);
}

constexpr int kLanes = 8;
constexpr int kVectors = 4;  // of the 32 partial sums

constexpr int64_t kLineBytes = 64;  // of the cache

/// Brings a line to the second-level cache. The address need not be valid.
static inline void fetch_line(const void* line) {
  _mm_prefetch(static_cast<const char*>(line), _MM_HINT_T1);
}

/// 16 consecutive numbers.
template <Format kFormat>
static inline void load_16(const char* from, __m256& low, __m256& high) {
  if constexpr (kFormat == Format::kF32) {
    low = _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    high = _mm256_loadu_ps(reinterpret_cast<const float*>(from) + 8);
  } else {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + 1);
    if constexpr (kFormat == Format::kBF16) {
      low = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(a), 16));
      high = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
    } else {
      low = _mm256_cvtph_ps(a);
      high = _mm256_cvtph_ps(b);
    }
  }
}

/// to [count * 16] = from, widened.
template <Format kFormat>
static inline void widen(float* to, const char* from, int64_t count) {
  constexpr int64_t kBytes = kTileWidth * static_cast<int64_t>(format_size(kFormat));
  for (int64_t i = 0; i < count; ++i) {
    __m256 low;
    __m256 high;
    load_16<kFormat>(from + i * kBytes, low, high);
    _mm256_storeu_ps(to + i * kTileWidth, low);
    _mm256_storeu_ps(to + i * kTileWidth + 8, high);
  }
}

/// exp_f32 of math.h on eight lanes, operation by operation.
static inline __m256 exp_f32(__m256 x) {
  const __m256 magic = _mm256_set1_ps(kRoundMagic);
  const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(kExpMax), x);  // NaN stays NaN
  const __m256 shifted = _mm256_fmadd_ps(clamped, _mm256_set1_ps(kLog2E), magic);
  const __m256 n = _mm256_sub_ps(shifted, magic);
  const __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2Low),
                                   _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2High), clamped));
  __m256 p = _mm256_set1_ps(kExpCoefficients[4]);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpCoefficients[3]));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpCoefficients[2]));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpCoefficients[1]));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExpCoefficients[0]));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23),
                                            _mm256_set1_epi32(0x3f800000));
  const __m256 result = _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(kExpMin), _CMP_LT_OQ), result);
}

/// x / (1 + exp(x * minus_beta)): silu with -1, quick_gelu with -1.702. (-x and x * -1 are equal.)
static inline __m256 swish(__m256 x, float minus_beta) {
  const __m256 e = exp_f32(_mm256_mul_ps(x, _mm256_set1_ps(minus_beta)));
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

/// sum_partial_sums of math.h.
static inline float sum_lanes(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 v = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float max_lanes(__m256 v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/// body(Constant<0>) ... body(Constant<kCount - 1>). A loop over an array of accumulators is
/// unrolled by GCC too late to keep them in registers; this is unrolled from the start. Pass a
/// lambda marked QVL_ALWAYS_INLINE.
template <int... kIndices, class Body>
QVL_ALWAYS_INLINE static inline void unroll(std::integer_sequence<int, kIndices...>,
                                            const Body& body) {
  (body(Constant<kIndices>{}), ...);
}
template <int kCount, class Body>
QVL_ALWAYS_INLINE static inline void unroll(const Body& body) {
  unroll(std::make_integer_sequence<int, kCount>{}, body);
}

/// acc [kRows][16] += a [kRows, count] * b [count, 16], one chain per element, k ascending.
/// a(r, k) is at a + r * kRowStep + k * kStep; row k of b at b + k * b_step. 6 rows are 12 chains,
/// which hides the latency of the multiply-adds and leaves registers for the operands.
constexpr int kMaxTileRows = 6;
template <int kRows, int kRowStep, int kStep, class... Prefetch>
QVL_ALWAYS_INLINE static inline void multiply_tile(__m256 (&acc)[kRows][2], const float* a,
                                                   const float* b, int64_t b_step, int64_t count,
                                                   const Prefetch&... prefetch) {
  for (int64_t k = 0; k < count; ++k) {
    (prefetch(k), ...);
    const __m256 low = _mm256_loadu_ps(b);
    const __m256 high = _mm256_loadu_ps(b + 8);
    unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
      constexpr int r = decltype(row)::value;
      const __m256 x = _mm256_broadcast_ss(a + r * kRowStep);
      acc[r][0] = _mm256_fmadd_ps(x, low, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(x, high, acc[r][1]);
    });
    a += kStep;
    b += b_step;
  }
}

/// The 16 columns of a tile's rows, row r at data + r * stride.
template <int kRows>
QVL_ALWAYS_INLINE static inline void zero_tile(__m256 (&acc)[kRows][2]) {
  unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(row)::value;
    acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  });
}
template <int kRows>
QVL_ALWAYS_INLINE static inline void load_tile(__m256 (&acc)[kRows][2], const float* data,
                                               int64_t stride) {
  unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(row)::value;
    acc[r][0] = _mm256_loadu_ps(data + r * stride);
    acc[r][1] = _mm256_loadu_ps(data + r * stride + 8);
  });
}
template <int kRows>
QVL_ALWAYS_INLINE static inline void store_tile(const __m256 (&acc)[kRows][2], float* data,
                                                int64_t stride) {
  unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
    constexpr int r = decltype(row)::value;
    _mm256_storeu_ps(data + r * stride, acc[r][0]);
    _mm256_storeu_ps(data + r * stride + 8, acc[r][1]);
  });
}

/// Calls body with `rows` (1 to 6) as a constant, so that a tile's accumulators are registers.
template <class Body>
static inline void with_tile_rows(int64_t rows, const Body& body) {
  switch (rows) {
    case 1:
      return body(Constant<1>{});
    case 2:
      return body(Constant<2>{});
    case 3:
      return body(Constant<3>{});
    case 4:
      return body(Constant<4>{});
    case 5:
      return body(Constant<5>{});
    default:
      return body(Constant<6>{});
  }
}

/// Rows are cut into tiles of near equal height, at most kMaxTileRows: a last tile of one row
/// would have too few chains.
static inline int64_t num_tiles(int64_t rows) { return ceil_div(rows, kMaxTileRows); }
static inline int64_t tile_begin(int64_t rows, int64_t tile) {
  return rows * tile / num_tiles(rows);
}

}  // namespace qvl::kernels::avx2
