#pragma once

#include <array>
#include <cstdint>

#include "model/stored_quantization.h"

namespace qvl {

/// The vision tower's hyper-parameters (config.json: vision_config).
struct VisionConfig {
  int64_t depth = 32;
  int64_t embed_dim = 1280;  // E
  int64_t num_heads = 16;
  int64_t mlp_dim = 5120;  // embed_dim * mlp_ratio
  int64_t out_dim = 0;     // width of a visual token = hidden_size of the language model
  float norm_eps = 1e-6f;  // fixed in the reference, not in the file
  float rope_theta = 10000.0f;

  int64_t head_dim() const { return embed_dim / num_heads; }
};

/// Hyper-parameters of a Qwen2-VL checkpoint, read and checked by lib/checkpoint/config.ts.
struct ModelConfig {
  int64_t hidden_size = 0;        // C
  int64_t intermediate_size = 0;  // F
  int64_t num_layers = 0;         // L
  int64_t num_heads = 0;          // H
  int64_t num_kv_heads = 0;       // G
  int64_t vocab_size = 0;         // V
  float rms_norm_eps = 1e-6f;
  double rope_theta = 1e6;
  std::array<int, 3> mrope_section{16, 24, 24};  // frequencies of T, H, W; sum = head_dim / 2
  bool tie_word_embeddings = false;
  int32_t image_token_id = 151655;
  int32_t video_token_id = 151656;
  VisionConfig vision;
  std::array<double, 3> image_mean{0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std{0.26862954, 0.26130258, 0.27577711};
  double rescale_factor = 1.0 / 255.0;
  StoredQuantization stored_quantization{};

  int64_t head_dim() const { return hidden_size / num_heads; }  // D
};

}  // namespace qvl
