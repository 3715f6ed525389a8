#pragma once

// The vocabulary of the kernels for quantised weights in Advanced SIMD; see integers_avx2.h. Where
// QVL_HAS_DOT_PRODUCT is defined before, dot() is one instruction.

#include <cstring>

#include "kernels/cpu/vector_neon.h"

#define QVL_HAS_INTEGERS

namespace qvl::kernels::QVL_ISA {
namespace {

/// Of 32-bit lanes. A type of its own: MSVC has only one for all vectors of NEON.
struct IntVector {
  int32x4_t lanes;
};

// ---- shapes of the work ----

/// 8 x 2 or 4 x 4 sums, twice as many vectors of codes as columns, and a broadcast.
constexpr int kMaxInt8Rows = 8;
constexpr int int8_tile_vectors(int rows) { return rows <= 4 ? 4 : 2; }
/// 2 x 8 sums; the scales of a panel are read again for every eight inputs.
constexpr int kMaxQuantizedRows = 2;
constexpr int kPanelsOfOneRow = 1;

// ---- integers ----

inline IntVector load_int(const void* from) {
  return {vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(from)))};
}
inline IntVector broadcast_int(int32_t value) { return {vdupq_n_s32(value)}; }
inline IntVector load_broadcast_int(const char* from) {
  int32_t value;
  std::memcpy(&value, from, sizeof value);
  return broadcast_int(value);
}
inline IntVector load_bytes(const char* from) {
  uint32_t four;
  std::memcpy(&four, from, sizeof four);
  const uint16x8_t words = vmovl_u8(vcreate_u8(four));
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)))};
}
inline IntVector add(IntVector a, IntVector b) { return {vaddq_s32(a.lanes, b.lanes)}; }
inline IntVector sub(IntVector a, IntVector b) { return {vsubq_s32(a.lanes, b.lanes)}; }
inline IntVector mul(IntVector a, IntVector b) { return {vmulq_s32(a.lanes, b.lanes)}; }
inline IntVector max(IntVector a, IntVector b) { return {vmaxq_s32(a.lanes, b.lanes)}; }
inline Vector to_float(IntVector a) { return vcvtq_f32_s32(a.lanes); }
inline IntVector magnitude_bits(Vector x) {
  return {vandq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(0x7fffffff))};
}
inline int32_t sum_int_lanes(IntVector v) { return vaddvq_s32(v.lanes); }
inline int32_t max_int_lanes(IntVector v) { return vmaxvq_s32(v.lanes); }
inline IntVector store_rounded(int8_t* to, Vector x) {
  const int32x4_t lanes = vcvtnq_s32_f32(x);
  const int16x4_t words = vmovn_s32(lanes);
  const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
  std::memcpy(to, &four, sizeof four);
  return {lanes};
}

// ---- codes ----

inline IntVector low_nibbles(IntVector v) { return {vandq_s32(v.lanes, vdupq_n_s32(0x0f0f0f0f))}; }
inline IntVector high_nibbles(IntVector v) {
  return {vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(v.lanes), 4))};
}

/// Byte kIndex of every lane.
template <int kIndex>
inline IntVector byte_of(IntVector v) {
  constexpr uint8_t k = kIndex;
  constexpr uint8_t kZero = 255;
  static constexpr uint8_t kBytes[16] = {k,     kZero, kZero, kZero, 4 + k,  kZero, kZero, kZero,
                                         8 + k, kZero, kZero, kZero, 12 + k, kZero, kZero, kZero};
  return {vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(v.lanes), vld1q_u8(kBytes)))};
}

template <int kBits>
class ChunkCodes {
 public:
  ChunkCodes() = default;
  ChunkCodes(const char* codes, int64_t half_bytes) {
    const IntVector first = load_int(codes);
    low_ = kBits == 4 ? low_nibbles(first) : first;
    high_ = kBits == 4 ? high_nibbles(first) : load_int(codes + half_bytes);
  }
  template <int kInput>
  Vector as_float() const {
    return to_float(byte_of<kInput % 4>(kInput < 4 ? low_ : high_));
  }

 private:
  IntVector low_;
  IntVector high_;
};

// 8-bit codes become signed ones.
template <int kBits>
constexpr int kDotOffset = kBits == 8 ? 128 : 0;
template <int kBits>
inline IntVector prepare_codes(IntVector codes) {
  if constexpr (kBits == 4) return codes;
  return {veorq_s32(codes.lanes, vdupq_n_s32(static_cast<int32_t>(0x80808080u)))};
}

template <int kBits>
inline IntVector dot(IntVector acc, IntVector codes, IntVector x) {
  const int8x16_t a = vreinterpretq_s8_s32(codes.lanes);
  const int8x16_t b = vreinterpretq_s8_s32(x.lanes);
#ifdef QVL_HAS_DOT_PRODUCT
  return {vdotq_s32(acc.lanes, a, b)};
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
  return {vaddq_s32(acc.lanes, vpaddq_s32(low, high))};
#endif
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
