#pragma once

// RMSNorm and LayerNorm of rows of the residual stream. A block owns a row and a thread four
// neighbours of it every 4 * blockDim.x columns, which it reads once and keeps in registers. Blocks
// on the same multiprocessor overlap one's loads with another's sums.
//
// The order of a sum follows from the width alone: a thread's numbers in order, the lanes of a warp
// as a tree, the warps as a tree.

#include "device.cuh"
#include "norm.h"

namespace qvl {

struct NormShared {
  float sums[2][kNormMaxThreads / kWarpSize];  // of the warps, for two sums one after the other
};
static_assert(sizeof(NormShared) == kNormSharedBytes);

/// A row of F32 in the registers of a block.
struct NormRow {
  static constexpr int kVectors = kNormMaxCols / 4 / kNormMaxThreads;
  float x[kVectors][4];

  /// Calls f(first column, four numbers) for what this thread has of the row.
  template <class F>
  QVL_DEVICE void for_each(int cols, F f) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int column = 4 * (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x));
      if (column < cols) f(column, x[i]);
    }
  }
};

/// Sum over the block, for every thread. `sums` may not be in use by another sum.
QVL_DEVICE float block_sum(float v, float* sums) {
  v = lanes_sum(v);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  if (warps == 1) return v;
  if (lane_id() == 0) sums[warp_id()] = v;
  __syncthreads();
  return lanes_sum(lane_id() < warps ? sums[lane_id()] : 0.f);
}

template <class W, bool kCentred>
QVL_DEVICE void norm(const NormParams& p) {
  using Vector = float(&)[4];
  auto& shared = shared_storage<NormShared>();
  const int64_t row = blockIdx.x;
  const float* x = p.x + row * p.x_stride;
  W* out = static_cast<W*>(p.out) + row * p.out_stride;
  const float cols = static_cast<float>(p.cols);

  NormRow values;
  values.for_each(p.cols, [&](int column, Vector v) { load_4(v, x + column); });

  float mean = 0.f;
  if constexpr (kCentred) {
    float sum = 0.f;
    values.for_each(p.cols, [&](int, Vector v) { sum += (v[0] + v[1]) + (v[2] + v[3]); });
    mean = block_sum(sum, shared.sums[0]) / cols;
  }
  float squares = 0.f;
  values.for_each(p.cols, [&](int, Vector v) {
#pragma unroll
    for (float& element : v) {
      if constexpr (kCentred) element -= mean;
      squares = fmaf(element, element, squares);
    }
  });
  const float inverse = 1.f / sqrtf(block_sum(squares, shared.sums[1]) / cols + p.eps);

  values.for_each(p.cols, [&](int column, Vector v) {
    float weight[4], bias[4] = {};
    load_4(weight, p.weight + column);
    if constexpr (kCentred) load_4(bias, p.bias + column);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = fmaf(v[i] * inverse, weight[i], bias[i]);
    store_4(out + column, v);
  });
}

}  // namespace qvl
