#pragma once

// The decoder: ragged steps over a paged key/value cache.

#include <cstdint>
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
  std::unique_ptr<Buffer> input_norm, post_attention_norm;  // [C]
  std::unique_ptr<Weight> qkv;                              // [(H + 2G) * D, C]
  std::unique_ptr<Buffer> qkv_bias;                         // [(H + 2G) * D]
  std::unique_ptr<Weight> o_proj;                           // [C, C]
  std::unique_ptr<Weight> gate_up;                          // [2F, C]
  std::unique_ptr<Weight> down_proj;                        // [C, F]
  // Published models have none of these biases, but quantisers make room for them.
  std::unique_ptr<Buffer> o_proj_bias, down_proj_bias;  // [C] or null
  std::unique_ptr<Buffer> gate_up_bias;                 // [2F] or null
};

struct DecoderWeights {
  std::unique_ptr<Weight> embed_tokens;  // [V, C]
  std::vector<DecoderLayerWeights> layers;
  std::unique_ptr<Buffer> norm;     // [C]
  std::unique_ptr<Weight> lm_head;  // [V, C]; null when tied to embed_tokens

  const Weight& head() const { return lm_head ? *lm_head : *embed_tokens; }

  /// Checks names, shapes and types; values are there after loader.run().
  static DecoderWeights load(const ModelConfig& config, WeightLoader& loader);
};

/// Segments of the sums over in_features that ranks may share: the largest of 8, 4, 2 and 1 that
/// divides in_features.
int shared_segments(int64_t in_features);

/// The decoder with its key/value cache and the memory of one step.
class LanguageModel {
 public:
  LanguageModel(const ModelConfig& config, DecoderWeights weights, std::shared_ptr<Backend> backend,
                const ModelOptions& options);

  /// Model::forward() and sample().
  void forward(std::span<const StepSequence> sequences, const std::function<bool()>& should_stop);
  std::span<const NextToken> sample(std::span<const TokenChoice> choices);

  int64_t num_kv_blocks() const { return cache_->spec().num_blocks; }
  int64_t max_step_tokens() const { return max_step_tokens_; }
  void trim_kv_cache() { cache_->trim(); }
  void release_unused() { backend_->release_unused(); }

 private:
  /// A row of logits and where its token stands.
  struct WantedRow {
    int64_t sequence = 0;  // of the step's
    int64_t position = 0;  // of the token in it
  };
  /// A step's rows: where each sequence's are, and which of them become logits.
  struct Step {
    int64_t num_tokens = 0;               // T
    std::vector<SequenceSpan> sequences;  // all tokens
    std::vector<SequenceSpan> wanted;     // the tokens whose logits are wanted
    std::vector<int32_t> wanted_rows;     // their rows
    std::vector<WantedRow> wanted_tokens;
  };
  /// The step's activations; roles change hands when rows are dropped in the last layer.
  struct Activations {
    Tensor x;         // [T, C] residual stream
    Tensor attended;  // [T, C]
  };

  void check_sequence(const StepSequence& sequence) const;
  Step make_step(std::span<const StepSequence> sequences) const;
  void embed(const Step& step, std::span<const StepSequence> sequences, Tensor x);
  void upload_angles(std::span<const StepSequence> sequences);
  void run_layer(const Step& step, int64_t index, Activations& activations);
  void attend(const Step& step, int64_t index, Activations& activations);
  void keep_wanted_rows(const Step& step, Activations& activations);
  void project(Tensor x);
  void fetch_logits(int64_t first, int64_t count);
  void take_logits(int64_t row);

  RmsNorm norm(const std::unique_ptr<Buffer>& weight) const {
    return {weight.get(), config_.rms_norm_eps};
  }
  int64_t qkv_cols() const {
    return (config_.num_heads + 2 * config_.num_kv_heads) * config_.head_dim();
  }

  ModelConfig config_;
  DecoderWeights weights_;
  std::shared_ptr<Backend> backend_;
  int64_t max_step_tokens_;
  std::vector<float> inv_freq_;  // [D / 2]
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<SequenceBatch> batch_, wanted_batch_;  // of a step's two lists
  TensorBuffer x_, kept_x_, attended_;                   // [max_step_tokens, C] each
  TensorBuffer qkv_;                                     // [max_step_tokens, (H + 2G) * D]
  TensorBuffer inner_;                                   // [max_step_tokens, F]
  TensorBuffer angles_;                                  // [2 * max_step_tokens, D / 2]
  TensorBuffer head_out_;                                // [kHeadRows, V]
  // Of the last step, for sample():
  Tensor wanted_x_;                       // [wanted rows, C]
  std::vector<WantedRow> wanted_tokens_;  // of these rows
  bool is_projected_ = false;             // all their logits are in head_out_
  std::vector<int32_t> ids_;              // of the rows whose logits are in head_out_
  std::vector<float> logits_;             // [wanted rows, V] on the host, where they are needed
  std::vector<NextToken> next_tokens_;
};

}  // namespace qvl
