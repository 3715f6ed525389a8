#pragma once

// The vocabulary every kernel is written in. nvcc maps it onto PTX; the host's compiler maps it
// onto the emulation of the tests. Kernels include nothing else but each other's headers.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

using bf16 = __nv_bfloat16;
using fp16 = __half;

#if defined(__CUDACC__)
#define QVL_DEVICE __device__ __forceinline__
#include "device_ptx.cuh"
#else
#define QVL_DEVICE inline
#include "emulation.h"
#endif

namespace qvl {

constexpr int kWarpSize = 32;
constexpr uint32_t kFullWarp = 0xffffffffu;

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

QVL_DEVICE int lane_id() { return static_cast<int>(threadIdx.x % kWarpSize); }
QVL_DEVICE int warp_id() { return static_cast<int>(threadIdx.x / kWarpSize); }

// ---- the two 16-bit types of weights and activations ----

// What a kernel needs to know of its element type W: Element<W>::pack, unpack, add, mma,
// from_float, to_float.
template <class W>
struct Element;

template <>
struct Element<bf16> {
  // 128 as bits: where a number's last mantissa bit is worth 1, an integer below goes in by an or.
  static constexpr uint32_t kIntegers = 0x4300;
  // Two numbers in 32 bits, `lo` in the lower half.
  QVL_DEVICE static uint32_t pack(float lo, float hi) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
  }
  QVL_DEVICE static float2 unpack(uint32_t bits) {
    // A bf16 is the upper half of a float.
    return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
  }
  QVL_DEVICE static void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(d, a, b0, b1);
  }
  // Of two pairs.
  QVL_DEVICE static uint32_t add(uint32_t a, uint32_t b) { return add_bf16x2(a, b); }
  QVL_DEVICE static bf16 from_float(float v) { return __float2bfloat16_rn(v); }
  QVL_DEVICE static float to_float(bf16 v) { return __bfloat162float(v); }
};

template <>
struct Element<fp16> {
  // 1024, likewise.
  static constexpr uint32_t kIntegers = 0x6400;
  QVL_DEVICE static uint32_t pack(float lo, float hi) {
    const __half2 v = __floats2half2_rn(lo, hi);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
  }
  QVL_DEVICE static float2 unpack(uint32_t bits) {
    __half2 v;
    memcpy(&v, &bits, sizeof v);
    return __half22float2(v);
  }
  QVL_DEVICE static void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_fp16(d, a, b0, b1);
  }
  QVL_DEVICE static uint32_t add(uint32_t a, uint32_t b) { return add_fp16x2(a, b); }
  QVL_DEVICE static fp16 from_float(float v) { return __float2half_rn(v); }
  QVL_DEVICE static float to_float(fp16 v) { return __half2float(v); }
};

// Eight numbers of 16 bytes, widened.
template <class W>
QVL_DEVICE void unpack_8(float (&out)[8], uint4 bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Element<W>::unpack(words[i]);
    out[2 * i] = pair.x;
    out[2 * i + 1] = pair.y;
  }
}
template <class W>
QVL_DEVICE uint4 pack_8(const float (&v)[8]) {
  return make_uint4(Element<W>::pack(v[0], v[1]), Element<W>::pack(v[2], v[3]),
                    Element<W>::pack(v[4], v[5]), Element<W>::pack(v[6], v[7]));
}

// load_streaming(), or zeros with nothing read.
QVL_DEVICE uint4 load_streaming_if(const void* src, bool wanted) {
  uint4 v = make_uint4(0u, 0u, 0u, 0u);
  if (wanted) v = load_streaming(src);
  return v;
}

// Four neighbours: 16 bytes of F32, 8 of a 16-bit type. For kernels that read one and write the
// other, or need an F32 for every number: a warp fills whole sectors on both sides.
QVL_DEVICE void load_4(float (&out)[4], const float* src) {
  const uint4 bits = load_16(src);
  out[0] = __uint_as_float(bits.x);
  out[1] = __uint_as_float(bits.y);
  out[2] = __uint_as_float(bits.z);
  out[3] = __uint_as_float(bits.w);
}
template <class W>
QVL_DEVICE void load_4(float (&out)[4], const W* src) {
  const uint2 bits = load_8(src);
  const float2 lower = Element<W>::unpack(bits.x), upper = Element<W>::unpack(bits.y);
  out[0] = lower.x;
  out[1] = lower.y;
  out[2] = upper.x;
  out[3] = upper.y;
}
QVL_DEVICE void store_4(float* dst, const float (&v)[4]) {
  store_16(dst, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
                           __float_as_uint(v[3])));
}
template <class W>
QVL_DEVICE void store_4(W* dst, const float (&v)[4]) {
  store_8(dst, make_uint2(Element<W>::pack(v[0], v[1]), Element<W>::pack(v[2], v[3])));
}

// ---- reductions over the lanes of a warp; every lane gets the result ----

template <int kLanes = kWarpSize>
QVL_DEVICE float lanes_sum(float v) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2) v += __shfl_xor_sync(kFullWarp, v, mask);
  return v;
}
template <int kLanes = kWarpSize>
QVL_DEVICE float lanes_max(float v) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2)
    v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, mask));
  return v;
}

}  // namespace qvl
