#pragma once

// What follows a matrix product element by element: SwiGLU, a bias, the GELUs. A thread owns 16
// bytes of the output; all rows are one long list of them. Memory bound: many blocks on a
// multiprocessor overlap each other's loads.

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

/// Where a thread's chunk of kCols columns lies, or a row past the end.
template <int kCols>
struct ChunkPlace {
  int row, column;
  QVL_DEVICE explicit ChunkPlace(int cols) {
    const unsigned index = blockIdx.x * kActivationThreads + threadIdx.x;
    const unsigned chunks = static_cast<unsigned>(cols) / kCols;
    row = static_cast<int>(index / chunks);
    column = static_cast<int>(index % chunks) * kCols;
  }
};

template <class W>
QVL_DEVICE void swiglu(const ActivationParams& p) {
  const ChunkPlace<8> at(p.cols);
  if (at.row >= p.rows) return;
  const W* x = static_cast<const W*>(p.x) + at.row * p.x_stride + at.column;
  float gate[8], up[8];
  const uint4 gate_bits = load_16(x), up_bits = load_16(x + p.cols);
  unpack_8<W>(gate, gate_bits);
  unpack_8<W>(up, up_bits);
#pragma unroll
  for (int i = 0; i < 8; ++i) gate[i] = silu(gate[i]) * up[i];
  store_16(static_cast<W*>(p.out) + at.row * p.out_stride + at.column, pack_8<W>(gate));
}

template <class W, class Function>
QVL_DEVICE void bias_activation(const ActivationParams& p) {
  const ChunkPlace<8> at(p.cols);
  if (at.row >= p.rows) return;
  float x[8];
  const uint4 bits = load_16(static_cast<const W*>(p.x) + at.row * p.x_stride + at.column);
  const uint4 lower = load_16(p.bias + at.column), upper = load_16(p.bias + at.column + 4);
  const uint32_t bias[8] = {lower.x, lower.y, lower.z, lower.w, upper.x, upper.y, upper.z, upper.w};
  unpack_8<W>(x, bits);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = Function::apply(x[i] + __uint_as_float(bias[i]));
  store_16(static_cast<W*>(p.out) + at.row * p.out_stride + at.column, pack_8<W>(x));
}

QVL_DEVICE void bias_f32(const ActivationParams& p) {
  const ChunkPlace<4> at(p.cols);
  if (at.row >= p.rows) return;
  const uint4 x = load_16(static_cast<const float*>(p.x) + at.row * p.x_stride + at.column);
  const uint4 bias = load_16(p.bias + at.column);
  const auto add = [](uint32_t a, uint32_t b) {
    return __float_as_uint(__uint_as_float(a) + __uint_as_float(b));
  };
  store_16(static_cast<float*>(p.out) + at.row * p.out_stride + at.column,
           make_uint4(add(x.x, bias.x), add(x.y, bias.y), add(x.z, bias.z), add(x.w, bias.w)));
}

}  // namespace qvl
