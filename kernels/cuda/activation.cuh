#pragma once

// What follows a matrix product element by element: SwiGLU, a bias, the GELUs. Memory bound: the
// loads of a thread are on their way together, and blocks on a multiprocessor overlap each other's.
//
// swiglu: a thread owns 16 bytes of the output. Others: a thread owns 4 columns of 4 rows, and so
// reads its part of the bias once for all of them. Either way all threads of the launch are one
// list, rows after each other.

#include "activation.h"
#include "device.cuh"

namespace qvl {

/// 2^(-x log2(e)) goes to infinity or zero, and the quotient to zero or x, without a special case.
QVL_DEVICE float silu(float x) { return x / (1.f + exp2_approx(x * -1.44269504f)); }

struct Identity {
  QVL_DEVICE static float apply(float x) { return x; }
};
struct QuickGelu {
  // x * sigmoid(1.702 x)
  QVL_DEVICE static float apply(float x) { return x / (1.f + exp2_approx(x * -2.45546696f)); }
};
struct Gelu {
  // x * (1 + erf(x / sqrt(2))) / 2
  QVL_DEVICE static float apply(float x) { return 0.5f * x * (1.f + erff(x * 0.707106781f)); }
};

/// The thread's place in a list of chunks, so many to a row.
struct ChunkPlace {
  int row, chunk;
  QVL_DEVICE explicit ChunkPlace(int row_chunks) {
    const unsigned index = blockIdx.x * kActivationThreads + threadIdx.x;
    row = static_cast<int>(index / static_cast<unsigned>(row_chunks));
    chunk = static_cast<int>(index % static_cast<unsigned>(row_chunks));
  }
};

template <class W>
QVL_DEVICE void swiglu(const ActivationParams& p) {
  const ChunkPlace at(p.cols / 8);
  if (at.row >= p.rows) return;
  const W* x = static_cast<const W*>(p.x) + at.row * p.x_stride + at.chunk * 8;
  float gate[8], up[8];
  const uint4 gate_bits = load_16(x), up_bits = load_16(x + p.cols);
  unpack_8<W>(gate, gate_bits);
  unpack_8<W>(up, up_bits);
#pragma unroll
  for (int i = 0; i < 8; ++i) gate[i] = silu(gate[i]) * up[i];
  store_16(static_cast<W*>(p.out) + at.row * p.out_stride + at.chunk * 8, pack_8<W>(gate));
}

/// T is W, or float.
template <class T, class Function>
QVL_DEVICE void bias_activation(const ActivationParams& p) {
  const ChunkPlace at(p.cols / 4);
  const int first_row = at.row * kBiasRows, column = at.chunk * 4;
  if (first_row >= p.rows) return;
  const T* x = static_cast<const T*>(p.x) + first_row * p.x_stride + column;
  T* out = static_cast<T*>(p.out) + first_row * p.out_stride + column;
  const int rows = min(p.rows - first_row, kBiasRows);

  float bias[4], v[kBiasRows][4];
  load_4(bias, p.bias + column);
#pragma unroll
  for (int row = 0; row < kBiasRows; ++row) {
    if (row < rows) load_4(v[row], x + row * p.x_stride);
  }
#pragma unroll
  for (int row = 0; row < kBiasRows; ++row) {
    if (row >= rows) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) v[row][i] = Function::apply(v[row][i] + bias[i]);
    store_4(out + row * p.out_stride, v[row]);
  }
}

}  // namespace qvl
