#include "model/config_check.h"

#include <cmath>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error("ERR_CHECKPOINT_CONFIG", "config.json is inconsistent: " + message);
}

void check_size(const char* name, int64_t value, int64_t limit) {
  if (value >= 1 && value <= limit) return;
  refuse(std::string(name) + " is " + std::to_string(value) + "; it must be 1 to " +
         std::to_string(limit));
}

void check_divides(const char* name, int64_t value, const char* by_name, int64_t by) {
  if (value % by == 0) return;
  refuse(std::string(name) + " (" + std::to_string(value) + ") is not a multiple of " + by_name +
         " (" + std::to_string(by) + ")");
}

void check_number(const char* name, double value) {
  if (std::isfinite(value) && value > 0) return;
  refuse(std::string(name) + " is " + std::to_string(value) + "; it must be a positive number");
}

void check_vision(const VisionConfig& vision, int64_t hidden_size) {
  check_size("vision_config.depth", vision.depth, 1024);
  check_size("vision_config.embed_dim", vision.embed_dim, 1 << 16);
  check_size("vision_config.num_heads", vision.num_heads, 1024);
  check_size("the vision MLP's width", vision.mlp_dim, 1 << 18);
  check_divides("vision_config.embed_dim", vision.embed_dim, "vision_config.num_heads",
                vision.num_heads);
  // Rows and columns each turn half of a head's rotation pairs.
  check_divides("the vision head size", vision.head_dim(), "4", 4);
  check_number("the vision norm's epsilon", vision.norm_eps);
  check_number("the vision rope theta", vision.rope_theta);
  if (vision.out_dim != hidden_size) {
    refuse("vision_config.hidden_size is " + std::to_string(vision.out_dim) +
           "; it must equal hidden_size, " + std::to_string(hidden_size));
  }
}

}  // namespace

void check_config(const ModelConfig& config) {
  check_size("hidden_size", config.hidden_size, 1 << 17);
  check_size("intermediate_size", config.intermediate_size, 1 << 20);
  check_size("num_hidden_layers", config.num_layers, 4096);
  check_size("num_attention_heads", config.num_heads, 4096);
  check_size("num_key_value_heads", config.num_kv_heads, 4096);
  check_size("vocab_size", config.vocab_size, 1 << 24);
  check_divides("hidden_size", config.hidden_size, "num_attention_heads", config.num_heads);
  check_divides("num_attention_heads", config.num_heads, "num_key_value_heads",
                config.num_kv_heads);
  check_divides("the head size", config.head_dim(), "2", 2);
  check_number("rms_norm_eps", config.rms_norm_eps);
  check_number("rope_theta", config.rope_theta);
  int64_t frequencies = 0;
  for (const int section : config.mrope_section) {
    if (section < 0) refuse("mrope_section holds " + std::to_string(section));
    frequencies += section;
  }
  if (frequencies != config.head_dim() / 2) {
    refuse("mrope_section adds up to " + std::to_string(frequencies) +
           "; it must be half of the head size, " + std::to_string(config.head_dim() / 2));
  }
  check_vision(config.vision, config.hidden_size);
}

void check_tensor_names(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (!name.ends_with(".qweight")) continue;
    throw Error(
        "ERR_CHECKPOINT_UNSUPPORTED",
        "tensor " + name +
            " is of a quantised (AWQ or GPTQ) checkpoint; use the checkpoint in bf16 or fp16",
        {{"tensor", name}});
  }
}

}  // namespace qvl
