// The vectorised kernels compiled over vector_generic.h, for the tests.

#include "kernels/vector_generic.h"
// After the vocabulary that it is written in.
#include "kernels/cpu/table_simd.h"
#include "kernels/support.h"

namespace qvl::test {

const kernels::KernelTable& generic_kernels() { return kernels::generic::kTable; }

}  // namespace qvl::test
