#pragma once

// The vector vocabulary of the kernels in Advanced SIMD of AArch64: four lanes, 32 registers. What
// the names mean, and the rules of these headers, are in vector_avx2.h.

#include <arm_neon.h>

#define QVL_ISA neon
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr const char* kSetName = "neon";
constexpr const char* kProcessorFeatures[] = {"neon", nullptr};
constexpr bool kHasScalarBits = true;

using Vector = float32x4_t;
constexpr int kLanes = 4;

// ---- shapes of the work ----

/// 10 x 2 are 20 chains: 16 hide the latency of a multiply-add on the widest cores (four units,
/// four cycles). A number of x is one lane of a register, which multiply-adds take as it is; beside
/// the sums and two vectors of weights ten registers are left to load those numbers ahead, in
/// pairs. With 24 sums, as 6 x 4 or 12 x 2, GCC spills some of them. 5 x 4 would load as little,
/// but takes the 6 to 8 query heads that share keys in two tiles, and reads the keys twice.
constexpr int kMaxTileRows = 10;
constexpr int kTileVectors = 2;
/// A panel is eight vectors wide: 2 x 8 sums and 8 vectors of weights fit the registers.
constexpr int kMaxWholePanelRows = 2;
/// As for AVX2: 128 KB of widened weights, a half or less of the second-level cache of server
/// cores.
constexpr int64_t kPanelsAtOnce = 4;
constexpr int64_t kBlockK = 256;
constexpr int64_t kRowsAtOnce = 480;

// ---- lanes ----

struct AllLanes {};

// ---- memory ----

inline Vector load(const float* from, AllLanes = {}) { return vld1q_f32(from); }
inline void store(float* to, Vector value, AllLanes = {}) { vst1q_f32(to, value); }
}  // namespace
}  // namespace qvl::kernels::QVL_ISA

#include "kernels/cpu/counted_lanes.h"

namespace qvl::kernels::QVL_ISA {
namespace {

inline uint32x4_t lane_mask(const FirstLanes& lanes) {
  constexpr int32_t kIndices[kLanes] = {0, 1, 2, 3};
  return vcltq_s32(vld1q_s32(kIndices), vdupq_n_s32(lanes.count()));
}

inline Vector load_broadcast(const float* from) { return vdupq_n_f32(*from); }

template <Format kFormat>
inline Vector load_widened(const char* from) {
  if constexpr (kFormat == Format::kF32) {
    return vld1q_f32(reinterpret_cast<const float*>(from));
  } else {
    const uint16x4_t bits = vld1_u16(reinterpret_cast<const uint16_t*>(from));
    if constexpr (kFormat == Format::kF16) return vcvt_f32_f16(vreinterpret_f16_u16(bits));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  }
}

constexpr int64_t kLineBytes = 64;  // 128 on Apple's cores: a second fetch of a line is free
#if defined(_MSC_VER) && !defined(__clang__)
QVL_ALWAYS_INLINE inline void prefetch_to_l1(const char* line) { __prefetch2(line, 0); }
QVL_ALWAYS_INLINE inline void prefetch_to_l2(const char* line) { __prefetch2(line, 2); }
#else
QVL_ALWAYS_INLINE inline void prefetch_to_l1(const char* line) { __builtin_prefetch(line, 0, 3); }
QVL_ALWAYS_INLINE inline void prefetch_to_l2(const char* line) { __builtin_prefetch(line, 0, 2); }
#endif

// ---- arithmetic ----

inline Vector zero() { return vdupq_n_f32(0.0f); }
inline Vector broadcast(float value) { return vdupq_n_f32(value); }
inline Vector add(Vector a, Vector b) { return vaddq_f32(a, b); }
inline Vector sub(Vector a, Vector b) { return vsubq_f32(a, b); }
inline Vector mul(Vector a, Vector b) { return vmulq_f32(a, b); }
inline Vector div(Vector a, Vector b) { return vdivq_f32(a, b); }
inline Vector sqrt(Vector a) { return vsqrtq_f32(a); }
inline Vector fmadd(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }
// Not vminq_f32 and vmaxq_f32: those give NaN where either is one.
inline Vector min(Vector a, Vector b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline Vector max(Vector a, Vector b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }

inline Vector select_less(Vector a, Vector b, Vector if_less, Vector otherwise) {
  return vbslq_f32(vcltq_f32(a, b), if_less, otherwise);
}
inline Vector select(AllLanes, Vector value, Vector) { return value; }
inline Vector select(const FirstLanes& lanes, Vector value, Vector otherwise) {
  return vbslq_f32(lane_mask(lanes), value, otherwise);
}

inline Vector power_of_two(Vector x) {
  const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(x), 23);
  return vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3f800000u)));
}

// ---- over lanes ----

inline void interleave(Vector a, Vector b, Vector& low, Vector& high) {
  low = vzip1q_f32(a, b);
  high = vzip2q_f32(a, b);
}

constexpr int kSumVectors = 8;

inline float sum_partial_sums(const Vector (&sums)[kSumVectors]) {
  const Vector low = add(add(sums[0], sums[2]), add(sums[4], sums[6]));
  const Vector high = add(add(sums[1], sums[3]), add(sums[5], sums[7]));
  const Vector four = add(low, high);
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

inline float max_lanes(Vector v) {
  float lanes[kLanes];
  vst1q_f32(lanes, v);
  float most = lanes[0];
  for (int i = 1; i < kLanes; ++i) most = most > lanes[i] ? most : lanes[i];
  return most;
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
