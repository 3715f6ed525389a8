#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

/// The instruction sets that the processor has and whose registers the operating system saves:
/// "sse2", "sse4_2", "avx2", "fma", "f16c", "avx512f" and so on, as Linux names them;
/// "neon" and "dotprod" on arm64.
const std::vector<std::string>& processor_features();

/// The tables of compiled_kernels() that this processor can run, fastest first.
const std::vector<const KernelTable*>& available_kernels();

}  // namespace qvl::kernels
