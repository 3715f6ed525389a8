#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

/// x = gelu(x). Kept out of the vector kernels: erf is the C library's.
void gelu_in_place(float* x /* [count] */, int64_t count);

namespace scalar {
void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel);
}

namespace avx2 {
// Measured: beyond, reading x with its row stride costs more than packing it.
constexpr int64_t kMaxUnpackedRows = 32;
extern const int64_t kLinearScratchFloats;
void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel);
void pack_rows(float* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile);
int64_t num_row_tiles(int64_t rows);
void linear_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                   int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch);
}  // namespace avx2

}  // namespace qvl::kernels
