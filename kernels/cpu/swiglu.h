#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels::scalar {

void swiglu(const RowsArgs& args, int64_t first_row, int64_t last_row);

}  // namespace qvl::kernels::scalar
