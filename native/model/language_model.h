#pragma once

// The decoder: Qwen2 layers with M-RoPE over ragged batches and a paged KV cache.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/model.h"
#include "model/tensor_buffer.h"
#include "model/weight_loader.h"

namespace qvl {

struct DecoderLayerWeights {
  std::unique_ptr<Buffer> attention_norm;  // [C]
  std::unique_ptr<Weight> qkv;             // [(H + 2 G) D, C]: queries, keys, values
  std::unique_ptr<Buffer> qkv_bias;        // [(H + 2 G) D]
  std::unique_ptr<Weight> output;          // [C, H D]
  std::unique_ptr<Buffer> mlp_norm;        // [C]
  std::unique_ptr<Weight> gate_up;         // [2 F, C]: gate, up
  std::unique_ptr<Weight> down;            // [C, F]
};

class LanguageModel {
 public:
  /// Asks the loader for the weights; they are there after its run().
  LanguageModel(const ModelConfig& config, const ModelOptions& options, Backend& backend,
                WeightLoader& loader);

  KvCache& kv_cache() const { return *kv_cache_; }

  /// See Model::forward.
  std::span<const float> forward(std::span<const StepSequence> sequences,
                                 const std::function<bool()>& should_stop);

 private:
  /// Where the step's sequences lie in its tensors.
  struct StepLayout {
    int64_t num_tokens = 0;
    std::vector<SequenceSpan> spans;
    std::vector<int32_t> logit_rows;  // rows that go through the head
  };

  StepLayout lay_out(std::span<const StepSequence> sequences) const;
  void embed(std::span<const StepSequence> sequences, const StepLayout& layout);
  void upload_rope_table(std::span<const StepSequence> sequences, const StepLayout& layout);
  void run_layer(int64_t index, const StepLayout& layout);
  std::span<const float> compute_logits(const StepLayout& layout);

  ModelConfig config_;
  Backend& backend_;
  int64_t max_step_tokens_;
  std::vector<float> inv_freq_;

  std::unique_ptr<Weight> embedding_;  // [V, C]
  std::vector<DecoderLayerWeights> layers_;
  std::unique_ptr<Buffer> final_norm_;  // [C]
  std::unique_ptr<Weight> head_;        // [V, C]; null when tied to the embedding
  std::unique_ptr<KvCache> kv_cache_;

  // Workspace of a step of max_step_tokens tokens.
  TensorBuffer hidden_;     // [T, C]
  TensorBuffer normed_;     // [T, C]
  TensorBuffer qkv_;        // [T, (H + 2 G) D]
  TensorBuffer attended_;   // [T, H D]
  TensorBuffer gate_up_;    // [T, 2 F]
  TensorBuffer inner_;      // [T, F]
  TensorBuffer cos_, sin_;  // [T, D / 2]
  TensorBuffer logits_;     // [R, V], grown as needed
  std::vector<float> host_logits_;
};

}  // namespace qvl
