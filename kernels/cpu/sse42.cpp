// The kernels for SSE4.2, the least that x86-64 processors of the last fifteen years have.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/vector_sse42.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/table_simd.h"

namespace qvl::kernels {

const KernelTable* sse42_kernels() { return &sse42::kTable; }

}  // namespace qvl::kernels

#endif  // x86-64
