// Qwen2-VL as a Model: the vision tower and the decoder behind one interface.

#include <utility>

#include "model/config_check.h"
#include "model/language_model.h"
#include "model/model.h"
#include "model/vision_tower.h"

namespace qvl {
namespace {

class Qwen2VL final : public Model {
 public:
  Qwen2VL(const ModelConfig& config, const ModelOptions& options, std::shared_ptr<Backend> backend,
          WeightLoader& loader)
      : config_(config),
        options_(options),
        backend_(std::move(backend)),
        vision_(config.vision,
                PixelTable::make(config.image_mean, config.image_std, config.rescale_factor),
                *backend_, loader),
        language_(config, options, *backend_, loader) {}

  const ModelConfig& config() const override { return config_; }
  int64_t num_kv_blocks() const override { return options_.num_kv_blocks; }
  int64_t max_step_tokens() const override { return options_.max_step_tokens; }
  void trim_kv_cache() override { language_.kv_cache().trim(); }

  std::unique_ptr<VisionEncoding> begin_vision(VisionItem item) override {
    return vision_.begin(std::move(item));
  }

  std::span<const float> forward(std::span<const StepSequence> sequences,
                                 const std::function<bool()>& should_stop) override {
    return language_.forward(sequences, should_stop);
  }

 private:
  ModelConfig config_;
  ModelOptions options_;
  std::shared_ptr<Backend> backend_;  // declared before what uses it, so destroyed after
  VisionTower vision_;
  LanguageModel language_;
};

}  // namespace

std::unique_ptr<Model> load_qwen2_vl(std::shared_ptr<const Checkpoint> checkpoint,
                                     const ModelConfig& config, std::shared_ptr<Backend> backend,
                                     const ModelOptions& options,
                                     const std::function<void(const LoadProgress&)>& progress,
                                     const CancellationFlag* cancellation) {
  check_config(config);
  check_tensor_names(*checkpoint);
  WeightLoader loader(*checkpoint, *backend, options);
  auto model = std::make_unique<Qwen2VL>(config, options, backend, loader);
  loader.run(progress, cancellation);
  return model;
}

}  // namespace qvl
