// The kernels for AVX2 + FMA + F16C.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/integers_avx2.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/table_simd.h"

namespace qvl::kernels {

const KernelTable* avx2_kernels() { return &avx2::kTable; }

}  // namespace qvl::kernels

#endif  // x86-64
