#pragma once

#include <cstdint>

namespace qvl {

// Widest row of the norms.
constexpr int kNormMaxCols = 16384;
constexpr int kNormMaxThreads = 1024;
// Shared memory of a block: two sums of each warp.
constexpr int kNormSharedBytes = 2 * (kNormMaxThreads / 32) * 4;

// Threads of a block, which normalises one row: about 16 numbers a thread, at least a warp.
constexpr int norm_threads(int cols) {
  const int warps = (cols + 16 * 32 - 1) / (16 * 32);
  return 32 * (warps < kNormMaxThreads / 32 ? warps : kNormMaxThreads / 32);
}

// RMSNorm: out = x * rsqrt(mean(x^2) + eps) * weight. LayerNorm: out = (x - mean) * rsqrt(var +
// eps)
// * weight + bias. Grid: rows. Block: norm_threads(cols). cols: a multiple of 8, at most
// kNormMaxCols; strides: multiples of 4 elements.
struct NormParams {
  const float* x;       // [rows, cols]
  const float* weight;  // [cols]
  const float* bias;    // [cols]; LayerNorm only
  void* out;            // W [rows, cols]
  int64_t x_stride;     // elements between rows
  int64_t out_stride;
  int32_t cols;
  float eps;
};

}  // namespace qvl
