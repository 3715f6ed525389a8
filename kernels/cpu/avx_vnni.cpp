// The kernels for AVX2 with AVX-VNNI: those for AVX2, and products of integers with vpdpbusd.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/integers_avx2.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/linear_int8_simd.h"

namespace qvl::kernels {

const KernelTable* avx2_kernels();

const KernelTable* avx_vnni_kernels() {
  static constexpr const char* kFeatures[] = {"avx2", "fma", "f16c", "avx_vnni", nullptr};
  static const KernelTable table = avx2::with_int8_kernels(*avx2_kernels(), "avx_vnni", kFeatures);
  return &table;
}

}  // namespace qvl::kernels

#endif  // x86-64
