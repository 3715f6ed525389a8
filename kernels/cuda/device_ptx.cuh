#pragma once

// PTX spellings of the primitives that device.cuh promises: the only file with asm. Each has a twin
// of the same signature in test/cuda/emulation/emulation.h, for kernels compiled by the host's
// compiler.

#include <cstring>

namespace qvl {

QVL_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// The block's dynamic shared memory seen as one struct.
template <class T>
QVL_DEVICE T& shared_storage() {
  extern __shared__ __align__(128) unsigned char raw[];
  return *reinterpret_cast<T*>(raw);
}

// ---- copies from global to shared memory that run beside the thread ----

// 16 bytes, bypassing L1; zero-fills when !valid (nothing is read then).
QVL_DEVICE void cp_async_16(void* dst, const void* src, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)),
      "l"(__cvta_generic_to_global(src)), "r"(bytes)
      : "memory");
}
QVL_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most kPending of the thread's groups are on their way.
template <int kPending>
QVL_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// ---- tensor cores ----

// Four 8x8 matrices of 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8.
QVL_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
QVL_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a * b, a 16x16 row-major, b 16x8 column-major, sums in F32.
QVL_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
QVL_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- arithmetic ----

// 2^x to about 2 ulp, denormals flushed.
QVL_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// Sums of two pairs of 16-bit numbers. (bf16 has an add of its own from sm_90 on only.)
QVL_DEVICE uint32_t add_bf16x2(uint32_t a, uint32_t b) {
  uint32_t sum;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
  return sum;
}
QVL_DEVICE uint32_t add_fp16x2(uint32_t a, uint32_t b) {
  uint32_t sum;
  asm("add.rn.f16x2 %0, %1, %2;\n" : "=r"(sum) : "r"(a), "r"(b));
  return sum;
}

// (v & mask) | bits, in one instruction.
QVL_DEVICE uint32_t and_or(uint32_t v, uint32_t mask, uint32_t bits) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;\n" : "=r"(result) : "r"(v), "r"(mask), "r"(bits));
  return result;
}

// Four of the eight bytes of (a, b), a's first: byte i of the result is number (selector >> 4i)
// & 7.
QVL_DEVICE uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}

// ---- programmatic dependent launch (sm_90 and later; nothing before) ----
// A kernel prefetches what does not depend on its predecessor, waits, and lets its successor start
// once its own results are all that is missing.

QVL_DEVICE void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
QVL_DEVICE void release_successor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n");
#endif
}

// ---- loads and stores of 16 bytes, and of 8 ----

QVL_DEVICE uint4 load_16(const void* src) { return *reinterpret_cast<const uint4*>(src); }
QVL_DEVICE uint2 load_8(const void* src) { return *reinterpret_cast<const uint2*>(src); }
// To global memory. Spelled out, as those of shared memory below: left to itself the compiler
// splits some 16-byte accesses into four of 4 bytes, which conflict.
QVL_DEVICE void store_16(void* dst, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};\n" ::"l"(__cvta_generic_to_global(dst)),
               "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}
QVL_DEVICE void store_8(void* dst, uint2 v) {
  asm volatile("st.global.v2.u32 [%0], {%1,%2};\n" ::"l"(__cvta_generic_to_global(dst)), "r"(v.x),
               "r"(v.y)
               : "memory");
}
// Of what is read once by the whole device: keeps streamed weights out of L1.
QVL_DEVICE uint4 load_streaming(const void* src) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(src)));
  return v;
}
QVL_DEVICE uint4 load_shared_16(const void* src) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared_address(src))
               : "memory");
  return v;
}

QVL_DEVICE void store_shared_8(void* dst, uint2 v) {
  asm volatile("st.shared.v2.u32 [%0], {%1,%2};\n" ::"r"(shared_address(dst)), "r"(v.x), "r"(v.y)
               : "memory");
}
QVL_DEVICE void store_shared_16(void* dst, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};\n" ::"r"(shared_address(dst)), "r"(v.x),
               "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// ---- between the blocks of a launch ----

// What another block of this launch wrote: never through the non-coherent path or a stale L1 line.
QVL_DEVICE float load_volatile(const float* src) { return __ldcg(src); }
QVL_DEVICE uint4 load_volatile_16(const void* src) {
  return __ldcg(static_cast<const uint4*>(src));
}
QVL_DEVICE unsigned atomic_add_acq_rel(unsigned* p, unsigned v) {
  unsigned old;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;\n"
               : "=r"(old)
               : "l"(p), "r"(v)
               : "memory");
  return old;
}

}  // namespace qvl
