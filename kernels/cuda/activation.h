#pragma once

#include <cstdint>

namespace qvl {

constexpr int kActivationThreads = 256;

// Blocks of swiglu. A thread makes 8 neighbours.
constexpr int64_t swiglu_blocks(int64_t rows, int64_t cols) {
  return (rows * (cols / 8) + kActivationThreads - 1) / kActivationThreads;
}

// Blocks of the others. A thread has 4 neighbouring columns of so many rows.
constexpr int kBiasRows = 4;
constexpr int64_t bias_blocks(int64_t rows, int64_t cols) {
  const int64_t groups = (rows + kBiasRows - 1) / kBiasRows;
  return (groups * (cols / 4) + kActivationThreads - 1) / kActivationThreads;
}

// swiglu: out [rows, cols] = silu(x[:, :cols]) * x[:, cols:]; x is [rows, 2 cols], a row's gate
// before what it lets through. bias, bias_quick_gelu, bias_gelu: out = f(x + bias). out may be x.
// cols and strides: multiples of 8 elements; rows * cols / 8 below 2^31.
struct ActivationParams {
  const void* x;      // W, or F32 for bias_f32
  const float* bias;  // [cols]; not for swiglu
  void* out;          // as x
  int64_t x_stride;   // elements between rows
  int64_t out_stride;
  int32_t rows;
  int32_t cols;  // of out
};

}  // namespace qvl
