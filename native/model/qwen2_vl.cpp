// Qwen2-VL as a Model: the vision tower and the decoder of one checkpoint on one backend.

#include <utility>

#include "model/config_check.h"
#include "model/language_model.h"
#include "model/model.h"
#include "model/rope_table.h"
#include "model/vision_tower.h"
#include "model/weight_loader.h"

namespace qvl {
namespace {

class Qwen2Vl final : public Model {
 public:
  Qwen2Vl(const ModelConfig& config, VisionTower tower, DecoderWeights decoder,
          const std::shared_ptr<Backend>& backend, const ModelOptions& options,
          std::shared_ptr<const CheckpointMapping> mapping)
      : config_(config),
        mapping_(std::move(mapping)),
        tower_(std::move(tower)),
        language_model_(config, std::move(decoder), backend, options) {}

  const ModelConfig& config() const override { return config_; }
  int64_t num_kv_blocks() const override { return language_model_.num_kv_blocks(); }
  int64_t max_step_tokens() const override { return language_model_.max_step_tokens(); }
  void trim_kv_cache() override { language_model_.trim_kv_cache(); }
  void release_unused() override { language_model_.release_unused(); }

  std::unique_ptr<VisionEncoding> begin_vision(VisionItem item) override {
    check_mapping();
    return std::make_unique<TowerEncoding>(tower_, std::move(item));
  }

  void forward(std::span<const StepSequence> sequences,
               const std::function<bool()>& should_stop) override {
    check_mapping();
    language_model_.forward(sequences, should_stop);
  }

  std::span<const NextToken> sample(std::span<const TokenChoice> choices) override {
    return language_model_.sample(choices);
  }

 private:
  /// Better an error than answers from other weights, or the end of the process.
  void check_mapping() const {
    if (mapping_ != nullptr) mapping_->check_unchanged();
  }

  ModelConfig config_;
  std::shared_ptr<const CheckpointMapping> mapping_;  // null: weights are packed
  VisionTower tower_;
  LanguageModel language_model_;
};

}  // namespace

std::unique_ptr<Model> load_qwen2_vl(std::shared_ptr<const Checkpoint> checkpoint,
                                     const ModelConfig& config, std::shared_ptr<Backend> backend,
                                     const ModelOptions& options,
                                     const std::function<void(const LoadProgress&)>& progress,
                                     const CancellationFlag* cancellation) {
  check_config(config);
  check_options(options);
  check_tensor_names(*checkpoint, config);
  std::shared_ptr<const CheckpointMapping> mapping;
  if (options.map_weights) mapping = std::make_shared<CheckpointMapping>(checkpoint);
  WeightLoader loader(*checkpoint, *backend, options, mapping, config.stored_quantization);
  VisionTower tower = VisionTower::load(config, loader, backend);
  DecoderWeights decoder = DecoderWeights::load(config, loader);
  loader.run(progress, cancellation);
  return std::make_unique<Qwen2Vl>(config, std::move(tower), std::move(decoder), backend, options,
                                   std::move(mapping));
}

void check_qwen2_vl(const Checkpoint& checkpoint, const ModelConfig& config) {
  check_config(config);
  check_tensor_names(checkpoint, config);
  WeightLoader loader(checkpoint, config.stored_quantization);
  VisionTower::load(config, loader, nullptr);
  DecoderWeights::load(config, loader);
}

WeightSizes measure_weights(const Checkpoint& checkpoint, const StoredQuantization& stored,
                            const ModelOptions& options) {
  WeightSizes sizes;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const auto stored_bytes = static_cast<int64_t>(tensor.end - tensor.begin);
    if (tensor.dtype == "I32" || name.ends_with(".scales")) {
      // Codes, and what they need: zero points, scales, the groups of inputs.
      const bool is_codes = name.ends_with(".qweight") && stored.bits > 0;
      if (is_codes) sizes.num_parameters += stored_bytes * 8 / stored.bits;
      sizes.size_bytes += stored_bytes;
      continue;
    }
    const int64_t parameters = stored_bytes / (tensor.dtype == "F32" ? 4 : 2);
    const bool is_matrix = tensor.shape.size() > 1;
    const Quantization quantization =
        is_matrix && parameters > 0 ? quantization_of(published_name(name), options.quantization)
                                    : Quantization{};
    sizes.num_parameters += parameters;
    if (quantization.is_quantized()) {
      sizes.size_bytes += quantized_bytes(parameters, parameters / tensor.shape[0], quantization);
    } else if (options.convert_weights && is_matrix) {
      sizes.size_bytes += parameters * static_cast<int64_t>(dtype_size(options.weight_dtype));
    } else {
      sizes.size_bytes += stored_bytes;
    }
  }
  return sizes;
}

}  // namespace qvl
