#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

namespace scalar {
void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row);
}
namespace avx2 {
void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row);
}

}  // namespace qvl::kernels
