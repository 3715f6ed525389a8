#pragma once

// The vector vocabulary of the kernels in portable C++: sixteen lanes, one after the other. Tests
// compile the vectorised kernels over it as well. It checks them with the lanes, tiles and blocks
// of AVX-512 on machines that have no such vectors: only the few lines of vector_avx512.h itself
// are then left to those that do.

#include <bit>
#include <cmath>

#define QVL_ISA generic
#include "kernels/cpu/convert.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr const char* kSetName = "generic";
constexpr const char* kProcessorFeatures[] = {nullptr};
constexpr bool kHasScalarBits = true;

constexpr int kLanes = 16;
struct Vector {
  float lane[kLanes];
};

// The shapes of vector_avx512.h.
constexpr int kMaxTileRows = 14;
constexpr int kTileVectors = 2;
constexpr int kMaxWholePanelRows = kMaxTileRows;
constexpr int64_t kPanelsAtOnce = 4;
constexpr int64_t kBlockK = 384;
constexpr int64_t kRowsAtOnce = 560;

template <class Lane>
inline Vector make(const Lane& lane) {
  Vector result;
  for (int i = 0; i < kLanes; ++i) result.lane[i] = lane(i);
  return result;
}

// ---- lanes ----

struct AllLanes {};

// ---- memory ----

inline Vector load(const float* from, AllLanes = {}) {
  return make([&](int i) { return from[i]; });
}
inline void store(float* to, const Vector& value, AllLanes = {}) {
  for (int i = 0; i < kLanes; ++i) to[i] = value.lane[i];
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA

#include "kernels/cpu/counted_lanes.h"

namespace qvl::kernels::QVL_ISA {
namespace {

inline Vector load_broadcast(const float* from) {
  return make([&](int) { return *from; });
}
template <Format kFormat>
inline Vector load_widened(const char* from) {
  return make([&](int i) { return kernels::load(from, kFormat, i); });
}

constexpr int64_t kLineBytes = 64;
inline void prefetch_to_l1(const char*) {}
inline void prefetch_to_l2(const char*) {}

// ---- arithmetic ----

inline Vector broadcast(float value) {
  return make([&](int) { return value; });
}
inline Vector zero() { return broadcast(0.0f); }
inline Vector add(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Vector sub(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Vector mul(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Vector div(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline Vector sqrt(const Vector& a) {
  return make([&](int i) { return std::sqrt(a.lane[i]); });
}
inline Vector fmadd(const Vector& a, const Vector& b, const Vector& c) {
  return make([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
inline Vector min(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vector max(const Vector& a, const Vector& b) {
  return make([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vector select_less(const Vector& a, const Vector& b, const Vector& if_less,
                          const Vector& otherwise) {
  return make([&](int i) { return a.lane[i] < b.lane[i] ? if_less.lane[i] : otherwise.lane[i]; });
}
inline Vector select(AllLanes, const Vector& value, const Vector&) { return value; }
inline Vector select(const FirstLanes& lanes, const Vector& value, const Vector& otherwise) {
  return make([&](int i) { return i < lanes.count() ? value.lane[i] : otherwise.lane[i]; });
}
inline Vector power_of_two(const Vector& x) {
  return make([&](int i) {
    return std::bit_cast<float>((std::bit_cast<uint32_t>(x.lane[i]) << 23) + 0x3f800000u);
  });
}

// ---- over lanes ----

inline void interleave(const Vector& a, const Vector& b, Vector& low, Vector& high) {
  const auto lane = [&](int i) { return i % 2 == 0 ? a.lane[i / 2] : b.lane[i / 2]; };
  low = make(lane);
  high = make([&](int i) { return lane(kLanes + i); });
}

constexpr int kSumVectors = 2;

inline float sum_partial_sums(const Vector (&sums)[kSumVectors]) {
  float lanes[kPartialSums];
  for (int i = 0; i < kPartialSums; ++i) lanes[i] = sums[i / kLanes].lane[i % kLanes];
  return kernels::sum_partial_sums(lanes);
}
inline float max_lanes(const Vector& v) {
  float most = v.lane[0];
  for (const float lane : v.lane) most = most > lane ? most : lane;
  return most;
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
