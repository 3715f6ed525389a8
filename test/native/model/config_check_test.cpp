// Configurations that contradict themselves or the weights are refused before anything is computed.

#include "model/config_check.h"

#include <cmath>
#include <functional>
#include <limits>

#include "check.h"
#include "model/formula_checkpoint.h"

namespace qvl {
namespace {

using test::StoredTensor;
using test::tiny_config;

TEST(the_published_sizes_are_accepted) {
  ModelConfig config;  // 2B
  config.hidden_size = 1536;
  config.intermediate_size = 8960;
  config.num_layers = 28;
  config.num_heads = 12;
  config.num_kv_heads = 2;
  config.vocab_size = 151936;
  config.tie_word_embeddings = true;
  config.vision.out_dim = 1536;
  check_config(config);
  config.hidden_size = 8192;  // 72B, quantised
  config.intermediate_size = 29696;
  config.num_layers = 80;
  config.num_heads = 64;
  config.num_kv_heads = 8;
  config.vocab_size = 152064;
  config.vision.out_dim = 8192;
  check_config(config);
  check_config(tiny_config());
}

void check_refused(const std::function<void(ModelConfig&)>& change, std::string_view expected) {
  ModelConfig config = tiny_config();
  change(config);
  const std::string message = CHECK_ERROR("ERR_CHECKPOINT_CONFIG", check_config(config));
  if (message.find(expected) == std::string::npos) CHECK_EQ(message, std::string(expected));
}

TEST(sizes_must_be_positive_and_not_absurd) {
  using Size = int64_t ModelConfig::*;
  const std::pair<Size, const char*> sizes[] = {
      {&ModelConfig::hidden_size, "hidden_size is "},
      {&ModelConfig::intermediate_size, "intermediate_size is "},
      {&ModelConfig::num_layers, "num_hidden_layers is "},
      {&ModelConfig::num_heads, "num_attention_heads is "},
      {&ModelConfig::num_kv_heads, "num_key_value_heads is "},
      {&ModelConfig::vocab_size, "vocab_size is "},
  };
  for (const auto& [size, name] : sizes) {
    for (const int64_t value :
         {int64_t{0}, int64_t{-64}, int64_t{1} << 40, std::numeric_limits<int64_t>::max(),
          std::numeric_limits<int64_t>::min()}) {
      const Size member = size;
      check_refused([&](ModelConfig& config) { config.*member = value; },
                    name + std::to_string(value) + ", expected 1 to ");
    }
  }
}

TEST(vision_sizes_must_be_positive_and_not_absurd) {
  using Size = int64_t VisionConfig::*;
  for (const Size size : {&VisionConfig::depth, &VisionConfig::embed_dim, &VisionConfig::num_heads,
                          &VisionConfig::mlp_dim}) {
    for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) {
      check_refused([&](ModelConfig& config) { config.vision.*size = value; },
                    "is " + std::to_string(value) + ", expected 1 to ");
    }
  }
}

TEST(heads_must_divide_the_width) {
  check_refused([](ModelConfig& config) { config.num_heads = 5; },
                "hidden_size 64 is not a multiple of num_attention_heads 5");
  check_refused([](ModelConfig& config) { config.num_kv_heads = 3; },
                "num_attention_heads 4 is not a multiple of num_key_value_heads 3");
  check_refused([](ModelConfig& config) { config.num_heads = config.num_kv_heads = 64; },
                "head size 1");
  check_refused([](ModelConfig& config) { config.vision.num_heads = 3; },
                "vision_config.embed_dim");
  check_refused([](ModelConfig& config) { config.vision.num_heads = 16; }, "vision head size 2");
}

TEST(sections_must_cover_the_frequencies) {
  check_refused(
      [](ModelConfig& config) {
        config.mrope_section = {16, 24, 24};
      },
      "[16, 24, 24] adds up to 64, expected half of the head size, 8");
  check_refused([](ModelConfig& config) { config.mrope_section = {2, 3, 2}; }, "adds up to 7");
  check_refused(
      [](ModelConfig& config) {
        config.mrope_section = {12, -2, -2};
      },
      "mrope_section holds -2");
  check_refused(
      [](ModelConfig& config) { config.mrope_section.fill(std::numeric_limits<int>::max()); },
      "adds up to 6442450941");
}

TEST(numbers_must_be_numbers) {
  const double not_a_number = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {not_a_number, infinity, 0.0, -1.0}) {
    const auto narrow = static_cast<float>(value);
    check_refused([&](ModelConfig& config) { config.rope_theta = value; }, "rope_theta is");
    check_refused([&](ModelConfig& config) { config.rms_norm_eps = narrow; }, "rms_norm_eps is");
    check_refused([&](ModelConfig& config) { config.vision.norm_eps = narrow; }, "epsilon is");
    check_refused([&](ModelConfig& config) { config.vision.rope_theta = narrow; }, "theta is");
    check_refused([&](ModelConfig& config) { config.image_std[1] = value; }, "image_std");
  }
  for (const double value : {not_a_number, infinity}) {
    check_refused([&](ModelConfig& config) { config.image_mean[2] = value; }, "image_mean");
    check_refused([&](ModelConfig& config) { config.rescale_factor = value; }, "rescale_factor");
  }
}

TEST(visual_tokens_must_have_the_width_of_the_language_model) {
  check_refused([](ModelConfig& config) { config.vision.out_dim = 32; },
                "vision_config.hidden_size 32 differs from hidden_size 64");
}

TEST(placeholders_must_be_two_tokens_of_the_vocabulary) {
  check_refused([](ModelConfig& config) { config.image_token_id = 64; },
                "image_token_id is 64, outside the vocabulary of 64");
  check_refused([](ModelConfig& config) { config.video_token_id = -1; }, "video_token_id is -1");
  check_refused([](ModelConfig& config) { config.video_token_id = 60; }, "are both 60");
}

TEST(options_must_be_in_range) {
  check_options({.num_kv_blocks = 1, .max_step_tokens = 1});
  for (const int64_t value : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::max()}) {
    CHECK_ERROR("ERR_INVALID_ARGUMENT", check_options({.num_kv_blocks = value}));
    CHECK_ERROR("ERR_INVALID_ARGUMENT",
                check_options({.num_kv_blocks = 1, .max_step_tokens = value}));
  }
}

// ---- the names in the weight files ----

/// Checks a checkpoint that has, beside those of the tiny model, a tensor of this name.
void check_names_with(const std::string& name) {
  const test::TempFolder folder;
  std::vector<StoredTensor> tensors = test::formula_tensors(tiny_config());
  if (!name.empty()) tensors.push_back({name, "F32", {1}, std::string(4, '\0')});
  write_safetensors(folder.path("w.safetensors"), tensors);
  check_tensor_names(*Checkpoint::open({folder.path("w.safetensors")}), tiny_config());
}

TEST(names_of_the_model_and_buffers_are_accepted) {
  check_names_with("");
  check_names_with("model.layers.0.self_attn.rotary_emb.inv_freq");
  check_names_with("model.layers.x.weight");
  check_names_with("model.layers.");
  check_names_with("model.layers.7");
}

TEST(a_quantised_checkpoint_is_refused_by_name) {
  const std::string message = CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED",
                                          check_names_with("model.layers.0.mlp.up_proj.qweight"));
  CHECK(message.find("model.layers.0.mlp.up_proj.qweight") != std::string::npos);
}

TEST(weights_of_more_layers_than_configured_are_refused) {
  for (const char* name :
       {"model.layers.2.mlp.up_proj.weight", "model.language_model.layers.2.mlp.up_proj.weight",
        "model.layers.99999999999999999999.mlp.up_proj.weight"}) {
    const std::string message = CHECK_ERROR("ERR_CHECKPOINT_CONFIG", check_names_with(name));
    CHECK(message.find("num_hidden_layers is 2") != std::string::npos);
  }
  for (const char* name : {"visual.blocks.2.norm1.weight", "model.visual.blocks.2.norm1.weight"}) {
    const std::string message = CHECK_ERROR("ERR_CHECKPOINT_CONFIG", check_names_with(name));
    CHECK(message.find("vision_config.depth is 2") != std::string::npos);
  }
}

}  // namespace
}  // namespace qvl
