// The kernels for Advanced SIMD, which every AArch64 processor has.

#if defined(__aarch64__) || defined(_M_ARM64)

#include "kernels/cpu/integers_neon.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/table_simd.h"

namespace qvl::kernels {

const KernelTable* neon_kernels() { return &neon::kTable; }

}  // namespace qvl::kernels

#endif  // AArch64
