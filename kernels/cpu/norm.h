#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels::scalar {

void rms_norm(const RowsArgs& args, const float* weight, float eps, int64_t first_row,
              int64_t last_row);
void layer_norm(const RowsArgs& args, const float* weight, const float* bias, float eps,
                int64_t first_row, int64_t last_row);

}  // namespace qvl::kernels::scalar
