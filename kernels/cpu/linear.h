#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

/// x = gelu(x). Kept out of the vector kernels: erf is the C library's.
void gelu_in_place(float* x /* [count] */, int64_t count);

namespace scalar {
void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel);
/// Writes the panel's columns of out[row] from the finished sums [32].
void finish_row(const LinearArgs& args, int64_t row, int64_t panel, const float* sums);
}  // namespace scalar

}  // namespace qvl::kernels
