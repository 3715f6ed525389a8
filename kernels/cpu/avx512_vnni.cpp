// The kernels for AVX-512 with VNNI: those for AVX-512, and products of integers with vpdpbusd.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/integers_avx512.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/linear_int8_simd.h"

namespace qvl::kernels {

const KernelTable* avx512_kernels();

const KernelTable* avx512_vnni_kernels() {
  static constexpr const char* kFeatures[] = {"avx512f",  "avx512bw",    "avx512dq",
                                              "avx512vl", "avx512_vnni", nullptr};
  static const KernelTable table =
      avx512::with_int8_kernels(*avx512_kernels(), "avx512_vnni", kFeatures);
  return &table;
}

}  // namespace qvl::kernels

#endif  // x86-64
