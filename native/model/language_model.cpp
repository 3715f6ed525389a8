#include "model/language_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "common/error.h"
#include "model/rope_table.h"

namespace qvl {
namespace {

/// Equal parts in which a sum over `in_features` is made: see WeightSpec::segments.
int row_parallel_segments(int64_t in_features) {
  for (const int segments : {8, 4, 2}) {
    if (in_features % segments == 0) return segments;
  }
  return 1;
}

void check_step(int64_t num_tokens, int64_t limit) {
  if (num_tokens > 0 && num_tokens <= limit) return;
  throw Error("ERR_INTERNAL", "a step of " + std::to_string(num_tokens) +
                                  " tokens was asked for; it may have 1 to " +
                                  std::to_string(limit) + ": please report this");
}

void check_finite(std::span<const float> logits) {
  // A sum is NaN or infinite when one of its terms is, and takes one pass that vectorises.
  const float sum = std::accumulate(logits.begin(), logits.end(), 0.0f);
  if (std::isfinite(sum)) return;
  if (std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) return;
  throw Error(
      "ERR_NUMERICS",
      "the model computed logits that are not numbers: its weights are damaged or overflow; "
      "download the checkpoint again");
}

}  // namespace

LanguageModel::LanguageModel(const ModelConfig& config, const ModelOptions& options,
                             Backend& backend, WeightLoader& loader)
    : config_(config),
      backend_(backend),
      max_step_tokens_(options.max_step_tokens),
      inv_freq_(inverse_frequencies(config.rope_theta, config.head_dim())) {
  const int64_t hidden = config.hidden_size;
  const int64_t queries = config.num_heads * config.head_dim();
  const int64_t keys = config.num_kv_heads * config.head_dim();
  const int64_t inner = config.intermediate_size;
  embedding_ = loader.matrix({{"model.embed_tokens.weight", config.vocab_size}}, hidden);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    DecoderLayerWeights weights;
    weights.attention_norm = loader.vector({{layer + "input_layernorm.weight", hidden}});
    weights.qkv = loader.matrix({{attention + "q_proj.weight", queries},
                                 {attention + "k_proj.weight", keys},
                                 {attention + "v_proj.weight", keys}},
                                hidden);
    weights.qkv_bias = loader.vector({{attention + "q_proj.bias", queries},
                                      {attention + "k_proj.bias", keys},
                                      {attention + "v_proj.bias", keys}});
    weights.output = loader.matrix({{attention + "o_proj.weight", hidden}}, queries,
                                   row_parallel_segments(queries));
    weights.mlp_norm = loader.vector({{layer + "post_attention_layernorm.weight", hidden}});
    weights.gate_up = loader.matrix(
        {{layer + "mlp.gate_proj.weight", inner}, {layer + "mlp.up_proj.weight", inner}}, hidden);
    weights.down = loader.matrix({{layer + "mlp.down_proj.weight", hidden}}, inner,
                                 row_parallel_segments(inner));
    layers_.push_back(std::move(weights));
  }
  final_norm_ = loader.vector({{"model.norm.weight", hidden}});
  if (!config.tie_word_embeddings) {
    head_ = loader.matrix({{"lm_head.weight", config.vocab_size}}, hidden);
  }
  kv_cache_ = backend.create_kv_cache({config.num_layers, config.num_kv_heads, config.head_dim(),
                                       options.num_kv_blocks, options.kv_dtype});

  const int64_t tokens = max_step_tokens_;
  hidden_ = TensorBuffer(backend, tokens, hidden);
  normed_ = TensorBuffer(backend, tokens, hidden);
  qkv_ = TensorBuffer(backend, tokens, queries + 2 * keys);
  attended_ = TensorBuffer(backend, tokens, queries);
  gate_up_ = TensorBuffer(backend, tokens, 2 * inner);
  inner_ = TensorBuffer(backend, tokens, inner);
  cos_ = TensorBuffer(backend, tokens, config.head_dim() / 2);
  sin_ = TensorBuffer(backend, tokens, config.head_dim() / 2);
}

std::span<const float> LanguageModel::forward(std::span<const StepSequence> sequences,
                                              const std::function<bool()>& should_stop) {
  const StepLayout layout = lay_out(sequences);
  embed(sequences, layout);
  upload_rope_table(sequences, layout);
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    if (should_stop && should_stop()) throw Cancelled{};
    run_layer(i, layout);
  }
  return compute_logits(layout);
}

LanguageModel::StepLayout LanguageModel::lay_out(std::span<const StepSequence> sequences) const {
  StepLayout layout;
  for (const StepSequence& sequence : sequences) {
    const auto count = static_cast<int64_t>(sequence.token_ids.size());
    layout.spans.push_back({layout.num_tokens, count, sequence.num_cached, sequence.blocks});
    const int64_t end = layout.num_tokens + count;
    const int64_t first_logit = sequence.logits == LogitsWanted::kAll    ? layout.num_tokens
                                : sequence.logits == LogitsWanted::kLast ? end - 1
                                                                         : end;
    for (int64_t row = first_logit; row < end; ++row) {
      layout.logit_rows.push_back(static_cast<int32_t>(row));
    }
    layout.num_tokens = end;
  }
  check_step(layout.num_tokens, max_step_tokens_);
  return layout;
}

void LanguageModel::embed(std::span<const StepSequence> sequences, const StepLayout& layout) {
  const Tensor hidden = hidden_.first_rows(layout.num_tokens);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const int64_t first_row = layout.spans[i].first_row;
    backend_.embed(hidden.slice(first_row, layout.spans[i].num_tokens), *embedding_,
                   sequences[i].token_ids);
    for (const VisionSpan& vision : sequences[i].vision) {
      std::vector<int32_t> to(static_cast<size_t>(vision.count));
      std::vector<int32_t> from(static_cast<size_t>(vision.count));
      std::iota(to.begin(), to.end(), static_cast<int32_t>(first_row + vision.first_token));
      std::iota(from.begin(), from.end(), static_cast<int32_t>(vision.first_row));
      backend_.copy_rows(hidden, to, vision.embedding->rows, from);
    }
  }
}

void LanguageModel::upload_rope_table(std::span<const StepSequence> sequences,
                                      const StepLayout& layout) {
  const size_t row_bytes = inv_freq_.size() * sizeof(float);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const StepSequence& sequence = sequences[i];
    const RopeTable table = mrope_table(inv_freq_, config_.mrope_section, sequence.pos_t,
                                        sequence.pos_h, sequence.pos_w);
    const size_t bytes = sequence.token_ids.size() * row_bytes;
    const int64_t first_row = layout.spans[i].first_row;
    const int64_t count = layout.spans[i].num_tokens;
    backend_.upload(cos_.tensor().slice(first_row, count).data, table.cos.data(), bytes);
    backend_.upload(sin_.tensor().slice(first_row, count).data, table.sin.data(), bytes);
  }
}

// h = h + o_proj(attention(norm(h)));  h = h + down(silu(gate(y)) * up(y)) with y = norm(h)
void LanguageModel::run_layer(int64_t index, const StepLayout& layout) {
  const DecoderLayerWeights& layer = layers_[static_cast<size_t>(index)];
  const int64_t tokens = layout.num_tokens;
  const int64_t head_dim = config_.head_dim();
  const int64_t queries = config_.num_heads * head_dim;
  const int64_t keys = config_.num_kv_heads * head_dim;
  const float eps = config_.rms_norm_eps;
  const Tensor hidden = hidden_.first_rows(tokens);
  const Tensor normed = normed_.first_rows(tokens);
  const Tensor qkv = qkv_.first_rows(tokens);
  const Tensor attended = attended_.first_rows(tokens);

  backend_.rms_norm(normed, hidden, *layer.attention_norm, eps);
  backend_.linear(qkv, normed, *layer.qkv, {.bias = layer.qkv_bias.get()});
  backend_.rope(qkv.columns(0, queries + keys), head_dim, cos_.first_rows(tokens),
                sin_.first_rows(tokens));
  backend_.append_kv(*kv_cache_, index, qkv.columns(queries, keys),
                     qkv.columns(queries + keys, keys), layout.spans);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  backend_.attention(attended, qkv.columns(0, queries), *kv_cache_, index, layout.spans, scale);
  backend_.linear(hidden, attended, *layer.output, {.residual = &hidden});

  const Tensor inner = inner_.first_rows(tokens);
  backend_.rms_norm(normed, hidden, *layer.mlp_norm, eps);
  backend_.linear(gate_up_.first_rows(tokens), normed, *layer.gate_up, {});
  backend_.swiglu(inner, gate_up_.first_rows(tokens));
  backend_.linear(hidden, inner, *layer.down, {.residual = &hidden});
}

std::span<const float> LanguageModel::compute_logits(const StepLayout& layout) {
  const auto rows = static_cast<int64_t>(layout.logit_rows.size());
  if (rows == 0) return {};
  if (logits_.rows() < rows) logits_ = TensorBuffer(backend_, rows, config_.vocab_size);
  // After the gather into `normed_` the values of `hidden_` are no longer needed: the norm's result
  // goes there.
  std::vector<int32_t> targets(layout.logit_rows.size());
  std::iota(targets.begin(), targets.end(), 0);
  const Tensor gathered = normed_.first_rows(rows);
  const Tensor normed = hidden_.first_rows(rows);
  backend_.copy_rows(gathered, targets, hidden_.first_rows(layout.num_tokens), layout.logit_rows);
  backend_.rms_norm(normed, gathered, *final_norm_, config_.rms_norm_eps);
  const Tensor logits = logits_.first_rows(rows);
  backend_.linear(logits, normed, head_ != nullptr ? *head_ : *embedding_, {});

  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(config_.vocab_size);
  if (host_logits_.size() < count) host_logits_.resize(count);
  backend_.download(host_logits_.data(), logits.data, count * sizeof(float));
  const std::span<const float> result(host_logits_.data(), count);
  check_finite(result);
  return result;
}

}  // namespace qvl
