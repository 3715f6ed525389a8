// The kernels for AArch64 with FEAT_DotProd: those for Advanced SIMD, and products of integers with
// sdot.

#if defined(__aarch64__) || defined(_M_ARM64)

#define QVL_HAS_DOT_PRODUCT
#include "kernels/cpu/integers_neon.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/linear_int8_simd.h"

namespace qvl::kernels {

const KernelTable* neon_kernels();

const KernelTable* neon_dotprod_kernels() {
  static constexpr const char* kFeatures[] = {"neon", "dotprod", nullptr};
  static const KernelTable table =
      neon::with_int8_kernels(*neon_kernels(), "neon_dotprod", kFeatures);
  return &table;
}

}  // namespace qvl::kernels

#endif  // AArch64
