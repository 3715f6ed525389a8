#pragma once

// The KernelTable of an instruction set: its <set>.cpp includes its vector_<set>.h and then this.

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/linear_simd.h"
#include "kernels/cpu/norm_simd.h"
#include "kernels/cpu/rope_simd.h"
#include "kernels/cpu/swiglu_simd.h"
// Where the instruction set has the vocabulary of integers; elsewhere their products are scalar.
#ifdef QVL_HAS_INTEGERS
#include "kernels/cpu/linear_quantized_simd.h"
#else
#include "kernels/cpu/linear_quantized.h"
#endif

namespace qvl::kernels::QVL_ISA {
namespace {

constexpr KernelTable kTable = {
    .name = kSetName,
    .processor_features = kProcessorFeatures,
    .has_scalar_bits = kHasScalarBits,
    .linear = linear,
    .max_unpacked_rows = kMaxUnpackedRows,
    .pack_rows = pack_rows,
    .num_row_tiles = num_row_tiles,
    .linear_packed = linear_packed,
    .linear_scratch_floats = kLinearScratchFloats,
    .panels_at_once = kPanelsAtOnce,
#ifdef QVL_HAS_INTEGERS
    .linear_quantized = linear_quantized,
    .max_unpacked_quantized_rows = kMaxQuantizedRows,
    .linear_quantized_packed = linear_quantized_packed,
    .quantize_rows = quantize_rows,
    .linear_int8 = linear_int8,
    .max_int8_rows = kMaxInt8Rows,
#else
    .linear_quantized = scalar::linear,
    .max_unpacked_quantized_rows = INT64_MAX,
    .linear_quantized_packed = nullptr,
    .quantize_rows = scalar::quantize_rows,
    .linear_int8 = scalar::linear_int8,
    .max_int8_rows = scalar::kMaxInt8Rows,
#endif
    .attention = attention,
    .attention_parts = attention_parts,
    .merge_attention = merge_attention,
    .max_attention_rows = kMaxAttentionRows,
    .attention_scratch_floats = attention_scratch_floats,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .swiglu = swiglu,
    .rope = rope,
};

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
