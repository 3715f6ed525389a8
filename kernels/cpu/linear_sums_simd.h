#pragma once

// What the linear kernels share: the tree of segments, and what becomes of finished sums.

#include "kernels/cpu/linear.h"
#include "kernels/cpu/math_simd.h"
#include "kernels/cpu/tile_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Sums of finished subtrees that can exist at once: 4 with 8 segments.
constexpr int kMaxDepth = 4;
// A panel is this many vectors wide, and this many register tiles.
constexpr int kPanelVectors = kPanelWidth / kLanes;
constexpr int kPanelTiles = kPanelVectors / kTileVectors;
constexpr int kTileColumns = kTileVectors * kLanes;

// Bytes of a vector of weights, and of one k in a panel.
template <Format kFormat>
constexpr int64_t kVectorBytes = static_cast<int64_t>(format_size(kFormat)) * kLanes;
template <Format kFormat>
constexpr int64_t kStepBytes = static_cast<int64_t>(format_size(kFormat)) * kPanelWidth;

// After segment `segment`: adds up the subtrees that it completes. stack [depth][stride]; returns
// the new depth.
inline int merge_subtrees(float* stack, int64_t stride, int64_t floats, int depth, int segment) {
  for (int merged = segment + 1; merged % 2 == 0; merged /= 2) {
    --depth;
    float* to = stack + (depth - 1) * stride;
    const float* from = stack + depth * stride;
    for (int64_t i = 0; i < floats; i += kLanes) store(to + i, add(load(to + i), load(from + i)));
  }
  return depth;
}

inline Vector activate(Vector value, Activation activation) {
  if (activation == Activation::kQuickGelu) return swish(value, -1.702f);
  if (activation == Activation::kGelu) {
    float numbers[kLanes];
    store(numbers, value);
    gelu_in_place(numbers, kLanes);
    return load(numbers);
  }
  return value;
}

// Writes the panel's columns of out[row], from `first` on, from the finished sums [32].
inline void finish(const LinearArgs& args, int64_t row, int64_t first, const float* sums) {
  float* out = args.out + row * args.out_stride + first;
  const float* residual =
      args.residual == nullptr ? nullptr : args.residual + row * args.residual_stride + first;
  const int64_t left = args.out_features - first;
  for_vectors(left < kPanelWidth ? left : kPanelWidth, [&](int64_t i, auto lanes) {
    Vector value = load(sums + i);
    if (args.bias != nullptr) value = add(value, load(args.bias + first + i, lanes));
    value = activate(value, args.activation);
    if (residual != nullptr) value = add(load(residual + i, lanes), value);
    store(out + i, value, lanes);
  });
}

// Likewise from the sums of a gate and of what it lets through.
inline void finish_swiglu(const LinearArgs& args, int64_t row, int64_t first, const float* gate,
                          const float* up) {
  float* out = args.out + row * args.out_stride + first;
  for (int64_t i = 0; i < kPanelWidth; i += kLanes) {
    store(out + i, mul(swish(load(gate + i), -1.0f), load(up + i)));
  }
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
