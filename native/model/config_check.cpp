#include "model/config_check.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "common/error.h"
#include "model/weight_loader.h"

namespace qvl {
namespace {

// Far above any model of the family; keeps every product of two sizes within int64.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxStepTokens = int64_t{1} << 20;
constexpr int64_t kMaxKvBlocks = int64_t{1} << 30;

[[noreturn]] void refuse(const std::string& message) {
  throw Error("ERR_CHECKPOINT_CONFIG",
              "config.json: " + message + ". Compare it with the published file of this model");
}

void check_range(const char* key, int64_t value, int64_t limit) {
  if (value >= 1 && value <= limit) return;
  refuse(std::string(key) + " is " + std::to_string(value) + ", expected 1 to " +
         std::to_string(limit));
}

void check_divides(const char* whole_key, int64_t whole, const char* part_key, int64_t part) {
  if (whole % part == 0) return;
  refuse(std::string(whole_key) + " " + std::to_string(whole) + " is not a multiple of " +
         part_key + " " + std::to_string(part));
}

void check_number(const char* key, double value, bool valid) {
  if (valid && std::isfinite(value)) return;
  refuse(std::string(key) + " is " + std::to_string(value) + ", expected a positive number");
}

void check_finite(const char* key, double value) {
  if (std::isfinite(value)) return;
  refuse(std::string(key) + " is " + std::to_string(value) + ", expected a finite number");
}

void check_token_id(const char* key, int32_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return;
  refuse(std::string(key) + " is " + std::to_string(id) + ", outside the vocabulary of " +
         std::to_string(vocab_size));
}

void check_language(const ModelConfig& config) {
  check_range("hidden_size", config.hidden_size, kMaxWidth);
  check_range("intermediate_size", config.intermediate_size, kMaxWidth);
  check_range("num_hidden_layers", config.num_layers, kMaxLayers);
  check_range("num_attention_heads", config.num_heads, kMaxHeads);
  check_range("num_key_value_heads", config.num_kv_heads, kMaxHeads);
  check_range("vocab_size", config.vocab_size, kMaxVocabulary);
  check_divides("hidden_size", config.hidden_size, "num_attention_heads", config.num_heads);
  check_divides("num_attention_heads", config.num_heads, "num_key_value_heads",
                config.num_kv_heads);
  if (config.head_dim() % 2 != 0) {
    refuse("the head size " + std::to_string(config.head_dim()) +
           " (hidden_size / num_attention_heads) is odd");
  }
  int64_t sum = 0;
  std::string text;
  for (const int section : config.mrope_section) {
    if (section < 0) refuse("mrope_section holds " + std::to_string(section));
    sum += section;
    text += (text.empty() ? "" : ", ") + std::to_string(section);
  }
  if (sum != config.head_dim() / 2) {
    refuse("mrope_section [" + text + "] adds up to " + std::to_string(sum) +
           ", expected half of the head size, " + std::to_string(config.head_dim() / 2));
  }
  check_number("rms_norm_eps", static_cast<double>(config.rms_norm_eps),
               config.rms_norm_eps > 0.0f);
  check_number("rope_theta", config.rope_theta, config.rope_theta > 0.0);
  check_token_id("image_token_id", config.image_token_id, config.vocab_size);
  check_token_id("video_token_id", config.video_token_id, config.vocab_size);
  if (config.image_token_id == config.video_token_id) {
    refuse("image_token_id and video_token_id are both " + std::to_string(config.image_token_id));
  }
}

void check_vision(const ModelConfig& config) {
  const VisionConfig& vision = config.vision;
  check_range("vision_config.depth", vision.depth, kMaxLayers);
  check_range("vision_config.embed_dim", vision.embed_dim, kMaxWidth);
  check_range("vision_config.num_heads", vision.num_heads, kMaxHeads);
  check_range("vision_config embed_dim * mlp_ratio", vision.mlp_dim, kMaxWidth);
  check_divides("vision_config.embed_dim", vision.embed_dim, "vision_config.num_heads",
                vision.num_heads);
  check_divides("the vision head size", vision.head_dim(), "two axes of angle pairs,", 4);
  if (vision.out_dim != config.hidden_size) {
    refuse("vision_config.hidden_size " + std::to_string(vision.out_dim) +
           " differs from hidden_size " + std::to_string(config.hidden_size) +
           " of the language model");
  }
  for (const double value : config.image_std) check_number("image_std", value, value > 0.0);
  for (const double value : config.image_mean) check_finite("image_mean", value);
  check_finite("rescale_factor", config.rescale_factor);
  check_number("the vision norms' epsilon", static_cast<double>(vision.norm_eps),
               vision.norm_eps > 0.0f);
  check_number("the vision rope theta", static_cast<double>(vision.rope_theta),
               vision.rope_theta > 0.0f);
}

/// i of a name "<prefix>i.<rest>", or -1. Saturates.
int64_t layer_index(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return -1;
  name.remove_prefix(prefix.size());
  const size_t end = name.find('.');
  if (end == 0 || end == std::string_view::npos) return -1;
  int64_t index = 0;
  for (const char c : name.substr(0, end)) {
    if (c < '0' || c > '9') return -1;
    index = std::min(index * 10 + (c - '0'), kMaxLayers);
  }
  return index;
}

}  // namespace

void check_config(const ModelConfig& config) {
  check_language(config);
  check_vision(config);
}

void check_options(const ModelOptions& options) {
  const auto check = [](const char* name, int64_t value, int64_t limit) {
    if (value >= 1 && value <= limit) return;
    throw Error("ERR_INVALID_ARGUMENT", std::string(name) + " is " + std::to_string(value) +
                                            ", expected 1 to " + std::to_string(limit));
  };
  check("num_kv_blocks", options.num_kv_blocks, kMaxKvBlocks);
  check("max_step_tokens", options.max_step_tokens, kMaxStepTokens);
}

void check_tensor_names(const Checkpoint& checkpoint, const ModelConfig& config) {
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const bool is_known = config.stored_quantization.method != StoredQuantization::Method::kNone;
    if (name.ends_with(".qweight") && !is_known) {
      throw Error("ERR_CHECKPOINT_UNSUPPORTED",
                  "the checkpoint is quantised (it holds " + name +
                      "), but neither config.json (quantization_config) nor quantize_config.json "
                      "says how: take these files from the published checkpoint",
                  {{"tensor", name}});
    }
    const std::string published = published_name(name);
    const int64_t layer = layer_index(published, "model.layers.");
    const int64_t block = layer_index(published, "visual.blocks.");
    if (layer < config.num_layers && block < config.vision.depth) continue;
    const bool is_layer = layer >= config.num_layers;
    refuse("the weights have tensor " + name + ", but " +
           (is_layer ? "num_hidden_layers is " + std::to_string(config.num_layers)
                     : "vision_config.depth is " + std::to_string(config.vision.depth)));
  }
}

}  // namespace qvl
