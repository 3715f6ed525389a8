// The kernels for AVX-512 (F, BW, DQ, VL).

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/integers_avx512.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/table_simd.h"

namespace qvl::kernels {

const KernelTable* avx512_kernels() { return &avx512::kTable; }

}  // namespace qvl::kernels

#endif  // x86-64
