#pragma once

// Makes AWQ and GPTQ matrices of plain ones, by rounding to nearest with a scale for every output
// and group of inputs.

#include <cstdint>
#include <vector>

#include "backend/tensor.h"
#include "model/stored_quantization.h"

namespace qvl {

/// As a checkpoint stores it; see quantized_tensor.h for the shapes.
struct QuantizedMatrix {
  std::vector<uint32_t> qweight;
  std::vector<uint32_t> qzeros;
  std::vector<uint16_t> scales;  // fp16
};

/// `rows` [out_features, in_features] of `dtype`, of no alignment. AWQ in 4 bits has zero points
/// and GPTQ in 8 bits has none (they are 128). Widths must fill words. Throws
/// Error(ERR_CHECKPOINT_QUANTIZATION) for numbers that are not finite or too large for fp16 scales.
QuantizedMatrix quantize_matrix(const void* rows, DType dtype, int64_t out_features,
                                int64_t in_features, const StoredQuantization& format);

}  // namespace qvl
