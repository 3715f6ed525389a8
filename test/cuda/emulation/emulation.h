#pragma once

// The kernels' vocabulary for the host's compiler: what CUDA has built in, and the twin of
// kernels/cuda/device_ptx.cuh. Included by device.cuh where the compiler is not nvcc.

#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "fibers.h"
#include "sim/half.h"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
// Kernels get their shared memory from shared_storage<T>() alone.
#undef __shared__
#define __shared__ static_assert(false, "use shared_storage<T>()");

#define threadIdx (::qvl::emulation::current->thread)
#define blockIdx (::qvl::emulation::current->block)
#define blockDim (::qvl::emulation::current->block_size)
#define gridDim (::qvl::emulation::current->grid_size)

using std::max;
using std::min;

// ---- numbers as bits, and operations that nothing may be fused with: the host's compiler is told
// to fuse none (-ffp-contract=off) ----

inline float __uint_as_float(uint32_t v) { return std::bit_cast<float>(v); }
inline uint32_t __float_as_uint(float v) { return std::bit_cast<uint32_t>(v); }
inline double __longlong_as_double(long long v) { return std::bit_cast<double>(v); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __double2float_rn(double v) { return static_cast<float>(v); }
inline unsigned long long __double2ull_rz(double v) { return static_cast<unsigned long long>(v); }
inline double __ull2double_rn(unsigned long long v) { return static_cast<double>(v); }
inline float rsqrtf(float v) { return 1.f / std::sqrt(v); }

// ---- threads of a block, lanes of a warp ----

inline void __syncthreads() { qvl::emulation::sync_block(); }
inline void __threadfence() {}

inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  const char nothing = 0;
  qvl::emulation::meet("__syncwarp", mask, &nothing, 1, nullptr, 0,
                       [](qvl::emulation::Slot(&)[32], uint32_t) {});
}

template <class T>
T __shfl_sync(uint32_t mask, T value, int from) {
  struct In {
    T value;
    int from;
  };
  const In in{value, from};
  T out;
  qvl::emulation::meet("__shfl_sync", mask, &in, sizeof in, &out, sizeof out,
                       [](qvl::emulation::Slot(&lanes)[32], uint32_t active) {
                         for (uint32_t lane = 0; lane < 32; ++lane) {
                           if ((active >> lane & 1) == 0) continue;
                           In wanted;
                           std::memcpy(&wanted, lanes[lane].in, sizeof wanted);
                           std::memcpy(lanes[lane].out, lanes[wanted.from & 31].in, sizeof(T));
                         }
                       });
  return out;
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int with) {
  return __shfl_sync(mask, value, (qvl::emulation::current->number & 31) ^ with);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned distance) {
  const int lane = qvl::emulation::current->number & 31;
  const int from = lane - static_cast<int>(distance);
  return __shfl_sync(mask, value, from < 0 ? lane : from);
}
inline uint32_t __ballot_sync(uint32_t mask, int vote) {
  const unsigned char in = vote != 0;
  uint32_t out = 0;
  qvl::emulation::meet("__ballot_sync", mask, &in, sizeof in, &out, sizeof out,
                       [](qvl::emulation::Slot(&lanes)[32], uint32_t active) {
                         uint32_t votes = 0;
                         for (uint32_t lane = 0; lane < 32; ++lane) {
                           if ((active >> lane & 1) != 0 && lanes[lane].in[0] != 0) {
                             votes |= 1u << lane;
                           }
                         }
                         for (auto& slot : lanes) std::memcpy(slot.out, &votes, sizeof votes);
                       });
  return out;
}
inline int __any_sync(uint32_t mask, int vote) { return __ballot_sync(mask, vote) != 0; }

// Threads run one at a time, so that any operation is atomic.
template <class T>
T atomicAdd(T* p, T v) {
  const T old = *p;
  *p = old + v;
  return old;
}
template <class T>
T atomicMax(T* p, T v) {
  const T old = *p;
  *p = std::max(old, v);
  return old;
}
template <class T>
T atomicOr(T* p, T v) {
  const T old = *p;
  *p = old | v;
  return old;
}

// ---- the twin of device_ptx.cuh ----

namespace qvl {

namespace emulation {

inline void check_alignment(const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    throw EmulationError("an access of " + std::to_string(bytes) + " bytes that is not aligned");
  }
}
template <class T>
T load(const void* src) {
  check_alignment(src, sizeof(T));
  T v;
  std::memcpy(&v, src, sizeof v);
  return v;
}
template <class T>
void store(void* dst, T v) {
  check_alignment(dst, sizeof(T));
  std::memcpy(dst, &v, sizeof v);
}

/// Four 8 x 8 matrices, whose rows' addresses the lanes brought.
template <bool kTransposed>
void ldmatrix(uint32_t (&r)[4], const void* row) {
  check_alignment(row, 16);
  meet(kTransposed ? "ldmatrix.trans" : "ldmatrix", 0xffffffffu, &row, sizeof row, r, sizeof r,
       [](Slot(&lanes)[32], uint32_t) {
         uint16_t tile[4][8][8];
         for (int i = 0; i < 32; ++i) {
           const void* from;
           std::memcpy(&from, lanes[i].in, sizeof from);
           std::memcpy(tile[i / 8][i % 8], from, 16);
         }
         for (int lane = 0; lane < 32; ++lane) {
           uint16_t out[8];
           for (int i = 0; i < 8; ++i) {
             const int major = lane / 4, minor = lane % 4 * 2 + i % 2;
             out[i] = kTransposed ? tile[i / 2][minor][major] : tile[i / 2][major][minor];
           }
           std::memcpy(lanes[lane].out, out, sizeof out);
         }
       });
}

/// d += a b for a [16, 16], b [16, 8] of 16-bit numbers in the fragments of mma.m16n8k16.
template <float (*kWiden)(uint16_t)>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct In {
    uint32_t a[4], b[2];
    float d[4];
  };
  const In in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  meet("mma", 0xffffffffu, &in, sizeof in, d, sizeof d, [](Slot(&lanes)[32], uint32_t) {
    float left[16][16], right[16][8], sum[16][8];
    const auto halves = [](uint32_t bits, float* first, float* second) {
      *first = kWiden(static_cast<uint16_t>(bits));
      *second = kWiden(static_cast<uint16_t>(bits >> 16));
    };
    for (int lane = 0; lane < 32; ++lane) {
      In one;
      std::memcpy(&one, lanes[lane].in, sizeof one);
      const int g = lane / 4, t = lane % 4 * 2;
      for (int i = 0; i < 4; ++i) {
        float* const at = &left[g + i % 2 * 8][t + i / 2 * 8];
        halves(one.a[i], at, at + 1);
        sum[g + i / 2 * 8][t + i % 2] = one.d[i];
      }
      for (int i = 0; i < 2; ++i) {
        halves(one.b[i], &right[t + i * 8][g], &right[t + i * 8 + 1][g]);
      }
    }
    for (int k = 0; k < 16; ++k) {
      for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 8; ++n) sum[m][n] += left[m][k] * right[k][n];
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4 * 2;
      const float out[4] = {sum[g][t], sum[g][t + 1], sum[g + 8][t], sum[g + 8][t + 1]};
      std::memcpy(lanes[lane].out, out, sizeof out);
    }
  });
}

template <float (*kWiden)(uint16_t), uint16_t (*kNarrow)(float)>
uint32_t add_pairs(uint32_t a, uint32_t b) {
  uint32_t sum = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const float v =
        kWiden(static_cast<uint16_t>(a >> shift)) + kWiden(static_cast<uint16_t>(b >> shift));
    sum |= uint32_t{kNarrow(v)} << shift;
  }
  return sum;
}

}  // namespace emulation

template <class T>
T& shared_storage() {
  if (sizeof(T) > emulation::shared_bytes()) {
    throw emulation::EmulationError("less shared memory than the kernel uses");
  }
  return *reinterpret_cast<T*>(emulation::shared_memory());
}

inline void cp_async_16(void* dst, const void* src, bool valid) {
  emulation::copy_async(dst, src, valid);
}
inline void cp_async_commit() { emulation::commit_copies(); }
template <int kPending>
void cp_async_wait() {
  emulation::wait_for_copies(kPending);
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { emulation::ldmatrix<false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  emulation::ldmatrix<true>(r, row);
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulation::mma<sim::bf16_to_float>(d, a, b0, b1);
}
inline void mma_fp16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulation::mma<sim::half_to_float>(d, a, b0, b1);
}

inline float exp2_approx(float x) {
  const float y = std::exp2(x);
  return std::fabs(y) < 0x1p-126f ? std::copysign(0.f, y) : y;  // denormals are flushed
}
inline uint32_t add_bf16x2(uint32_t a, uint32_t b) {
  return emulation::add_pairs<sim::bf16_to_float, sim::float_to_bf16>(a, b);
}
inline uint32_t add_fp16x2(uint32_t a, uint32_t b) {
  return emulation::add_pairs<sim::half_to_float, sim::float_to_half>(a, b);
}
inline uint32_t and_or(uint32_t v, uint32_t mask, uint32_t bits) { return (v & mask) | bits; }
inline uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = a | uint64_t{b} << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t byte = selector >> (4 * i) & 7;
    result |= static_cast<uint32_t>(both >> (8 * byte) & 0xff) << (8 * i);
  }
  return result;
}

// A launch runs when the one before it has ended.
inline void wait_for_predecessor() {}
inline void release_successor() {}

inline uint4 load_16(const void* src) { return emulation::load<uint4>(src); }
inline uint2 load_8(const void* src) { return emulation::load<uint2>(src); }
inline void store_16(void* dst, uint4 v) { emulation::store(dst, v); }
inline void store_8(void* dst, uint2 v) { emulation::store(dst, v); }
inline uint4 load_streaming(const void* src) { return emulation::load<uint4>(src); }
inline uint4 load_shared_16(const void* src) { return emulation::load<uint4>(src); }
inline void store_shared_8(void* dst, uint2 v) { emulation::store(dst, v); }
inline void store_shared_16(void* dst, uint4 v) { emulation::store(dst, v); }

inline float load_volatile(const float* src) { return emulation::load<float>(src); }
inline uint4 load_volatile_16(const void* src) { return emulation::load<uint4>(src); }
inline unsigned atomic_add_acq_rel(unsigned* p, unsigned v) { return atomicAdd(p, v); }

}  // namespace qvl
