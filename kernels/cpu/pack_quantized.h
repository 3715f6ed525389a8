#pragma once

#include "kernels/cpu/quantized.h"

namespace qvl::kernels {

/// Stores group `group` of outputs [first_row, first_row + num_rows), whose codes are known:
/// [inputs of the group][num_rows], with scales [num_rows] fp16 and zeros [num_rows], null where
/// the layout has none.
void pack_quantized(void* panels, const QuantizedLayout& layout, int64_t group, int64_t first_row,
                    int64_t num_rows, const uint8_t* codes, const uint16_t* scales,
                    const uint8_t* zeros);

}  // namespace qvl::kernels
