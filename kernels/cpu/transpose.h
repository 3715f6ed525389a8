#pragma once

// Squares of 16 bytes a side, transposed in registers: 8 x 8 numbers of 16 bits, 4 x 4 of 32. Only
// what every processor of the architecture has is used, so there is one version an architecture.
// `static`: see convert.h.

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#endif

namespace qvl::kernels {

#if defined(__x86_64__) || defined(_M_X64)

#define QVL_HAS_VECTOR_TRANSPOSE 1
using Vector128 = __m128i;

static inline Vector128 load_vector(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
static inline void store_vector(void* to, Vector128 v) {
  _mm_storeu_si128(static_cast<__m128i*>(to), v);
}
// low: [a0 b0 a1 b1 ...]; high: the same of the upper halves.
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint16_t) {
  return _mm_unpacklo_epi16(a, b);
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint16_t) {
  return _mm_unpackhi_epi16(a, b);
}
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint32_t) {
  return _mm_unpacklo_epi32(a, b);
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint32_t) {
  return _mm_unpackhi_epi32(a, b);
}
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint64_t) {
  return _mm_unpacklo_epi64(a, b);
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint64_t) {
  return _mm_unpackhi_epi64(a, b);
}

#elif defined(__aarch64__) || defined(_M_ARM64)

#define QVL_HAS_VECTOR_TRANSPOSE 1
using Vector128 = uint8x16_t;

static inline Vector128 load_vector(const void* from) {
  return vld1q_u8(static_cast<const uint8_t*>(from));
}
static inline void store_vector(void* to, Vector128 v) { vst1q_u8(static_cast<uint8_t*>(to), v); }
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint16_t) {
  return vreinterpretq_u8_u16(vzip1q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint16_t) {
  return vreinterpretq_u8_u16(vzip2q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
}
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint32_t) {
  return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint32_t) {
  return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
static inline Vector128 zip_low(Vector128 a, Vector128 b, uint64_t) {
  return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
static inline Vector128 zip_high(Vector128 a, Vector128 b, uint64_t) {
  return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}

#endif

/// Rows and columns of a square of T.
template <class T>
constexpr int kSquareSide = 16 / static_cast<int>(sizeof(T));

/// to [side][to_stride], element (k, i) = element `first` + k of rows[i]. Rows need no alignment.
template <class T>
static inline void transpose_square(T* to, int64_t to_stride, const void* const* rows,
                                    int64_t first);

#ifdef QVL_HAS_VECTOR_TRANSPOSE

template <class T>
static inline Vector128 load_row(const void* row, int64_t first) {
  return load_vector(static_cast<const char*>(row) + first * static_cast<int64_t>(sizeof(T)));
}

// out [4]: the transposed of four vectors seen as 2 x 2 groups of lanes of type U, by way of lanes
// twice as wide.
template <class U, class Twice>
static inline void zip_four(const Vector128 (&in)[4], Vector128 (&out)[4]) {
  const Vector128 low_01 = zip_low(in[0], in[1], U{});
  const Vector128 high_01 = zip_high(in[0], in[1], U{});
  const Vector128 low_23 = zip_low(in[2], in[3], U{});
  const Vector128 high_23 = zip_high(in[2], in[3], U{});
  out[0] = zip_low(low_01, low_23, Twice{});
  out[1] = zip_high(low_01, low_23, Twice{});
  out[2] = zip_low(high_01, high_23, Twice{});
  out[3] = zip_high(high_01, high_23, Twice{});
}

template <>
inline void transpose_square<uint32_t>(uint32_t* to, int64_t to_stride, const void* const* rows,
                                       int64_t first) {
  Vector128 in[4];
  Vector128 out[4];
  for (int i = 0; i < 4; ++i) in[i] = load_row<uint32_t>(rows[i], first);
  zip_four<uint32_t, uint64_t>(in, out);
  for (int k = 0; k < 4; ++k) store_vector(to + k * to_stride, out[k]);
}

template <>
inline void transpose_square<uint16_t>(uint16_t* to, int64_t to_stride, const void* const* rows,
                                       int64_t first) {
  Vector128 in[2][4];
  Vector128 out[2][4];  // half h: lanes 4h ... 4h + 3 of two values of k each
  for (int i = 0; i < 8; ++i) in[i / 4][i % 4] = load_row<uint16_t>(rows[i], first);
  zip_four<uint16_t, uint32_t>(in[0], out[0]);
  zip_four<uint16_t, uint32_t>(in[1], out[1]);
  for (int k = 0; k < 8; k += 2) {
    const Vector128 a = out[0][k / 2];
    const Vector128 b = out[1][k / 2];
    store_vector(to + k * to_stride, zip_low(a, b, uint64_t{}));
    store_vector(to + (k + 1) * to_stride, zip_high(a, b, uint64_t{}));
  }
}

#else

template <class T>
static inline void transpose_square(T* to, int64_t to_stride, const void* const* rows,
                                    int64_t first) {
  for (int i = 0; i < kSquareSide<T>; ++i) {
    const char* row = static_cast<const char*>(rows[i]) + first * static_cast<int64_t>(sizeof(T));
    for (int k = 0; k < kSquareSide<T>; ++k) {
      std::memcpy(to + k * to_stride + i, row + k * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  }
}

#endif

}  // namespace qvl::kernels
