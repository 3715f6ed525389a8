#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels::scalar {

void rope(const RopeArgs& args, int64_t first_row, int64_t last_row);

}  // namespace qvl::kernels::scalar
