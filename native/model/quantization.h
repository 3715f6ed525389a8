#pragma once

// Which matrices become integers while they are read, and how.

#include <cstdint>
#include <string_view>

#include "backend/backend.h"

namespace qvl {

/// What a part of the model is quantised to.
enum class QuantizationMode : uint8_t { kNone, kInt8, kInt4 };

struct QuantizationOptions {
  QuantizationMode language = QuantizationMode::kNone;
  QuantizationMode vision = QuantizationMode::kNone;  // kNone or kInt8
  /// See Quantization::int8_activations.
  bool int8_activations = false;
};

/// How the matrix of this published name is kept.
Quantization quantization_of(std::string_view name, const QuantizationOptions& options);

/// The most segments, at most `wanted`, whose borders are borders of what shares a scale.
int quantized_segments(int wanted, int64_t in_features, const Quantization& quantization);

/// Bytes of a matrix of so many numbers: its codes and scales.
int64_t quantized_bytes(int64_t numbers, int64_t in_features, const Quantization& quantization);

}  // namespace qvl
