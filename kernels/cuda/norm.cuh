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
  float4 x[kVectors];

  /// Calls f(element index, four numbers) for what this thread has of the row.
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

QVL_DEVICE float4 load_float4(const float* src) {
  const uint4 bits = load_16(src);
  return make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                     __uint_as_float(bits.w));
}

template <class W, bool kCentred>
QVL_DEVICE void norm(const NormParams& p) {
  auto& shared = shared_storage<NormShared>();
  const int64_t row = blockIdx.x;
  const float* x = p.x + row * p.x_stride;
  W* out = static_cast<W*>(p.out) + row * p.out_stride;
  const float cols = static_cast<float>(p.cols);

  NormRow values;
  values.for_each(p.cols, [&](int column, float4& v) { v = load_float4(x + column); });

  float mean = 0.f;
  if constexpr (kCentred) {
    float sum = 0.f;
    values.for_each(p.cols, [&](int, float4& v) { sum += (v.x + v.y) + (v.z + v.w); });
    mean = block_sum(sum, shared.sums[0]) / cols;
  }
  float squares = 0.f;
  values.for_each(p.cols, [&](int, float4& v) {
    if constexpr (kCentred) v = make_float4(v.x - mean, v.y - mean, v.z - mean, v.w - mean);
    squares = fmaf(v.x, v.x, squares);
    squares = fmaf(v.y, v.y, squares);
    squares = fmaf(v.z, v.z, squares);
    squares = fmaf(v.w, v.w, squares);
  });
  const float inverse = 1.f / sqrtf(block_sum(squares, shared.sums[1]) / cols + p.eps);

  values.for_each(p.cols, [&](int column, float4& v) {
    const float4 weight = load_float4(p.weight + column);
    float4 bias = make_float4(0.f, 0.f, 0.f, 0.f);
    if constexpr (kCentred) bias = load_float4(p.bias + column);
    // 16 bytes of a lane become 8, so that a warp fills whole sectors on both sides.
    store_8(out + column, make_uint2(Element<W>::pack(fmaf(v.x * inverse, weight.x, bias.x),
                                                      fmaf(v.y * inverse, weight.y, bias.y)),
                                     Element<W>::pack(fmaf(v.z * inverse, weight.z, bias.z),
                                                      fmaf(v.w * inverse, weight.w, bias.w))));
  });
}

}  // namespace qvl
