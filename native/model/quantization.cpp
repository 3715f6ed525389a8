#include "model/quantization.h"

#include <algorithm>

namespace qvl {
namespace {

constexpr int64_t kInt4GroupSize = 32;
constexpr int64_t kInt8GroupSize = 128;

Quantization quantization_in(QuantizationMode mode, bool int8_activations) {
  switch (mode) {
    case QuantizationMode::kInt8:
      return {8, kInt8GroupSize, int8_activations};
    case QuantizationMode::kInt4:
      return {4, kInt4GroupSize, int8_activations};
    case QuantizationMode::kNone:
      break;
  }
  return {};
}

}  // namespace

Quantization quantization_of(std::string_view name, const QuantizationOptions& options) {
  const bool int8_activations = options.int8_activations;
  // The patch embedding is a convolution, and one part in two hundred of the tower's work.
  if (name.starts_with("visual.patch_embed.")) return {};
  if (name.starts_with("visual.")) return quantization_in(options.vision, int8_activations);
  if (name.starts_with("model.layers.")) return quantization_in(options.language, int8_activations);
  // The embedding table and the head, which are one matrix in small models.
  const bool is_plain = options.language == QuantizationMode::kNone;
  return is_plain ? Quantization{} : quantization_in(QuantizationMode::kInt8, int8_activations);
}

int quantized_segments(int wanted, int64_t in_features, const Quantization& quantization) {
  const int64_t group = quantization.group_size;
  const int64_t block = group == 0 ? kActivationBlock : std::min(group, kActivationBlock);
  int segments = wanted;
  while (segments > 1 && in_features % (segments * block) != 0) segments /= 2;
  return segments;
}

int64_t quantized_bytes(int64_t numbers, int64_t in_features, const Quantization& quantization) {
  constexpr int64_t kScaleBytes = 2;
  const int64_t group = quantization.group_size == 0 ? in_features : quantization.group_size;
  const int64_t groups = numbers / in_features * ((in_features + group - 1) / group);
  return numbers * quantization.bits / 8 + groups * kScaleBytes;
}

}  // namespace qvl
