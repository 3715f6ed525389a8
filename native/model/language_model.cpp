#include "model/language_model.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <string>
#include <utility>

#include "common/error.h"
#include "model/rope_table.h"

namespace qvl {
namespace {

/// Rows of logits made at a time: bounds the device memory when all positions are wanted.
constexpr int64_t kHeadRows = 32;
/// Far above any context; keeps sums of token counts within int64.
constexpr int64_t kMaxTokens = int64_t{1} << 40;

[[noreturn]] void refuse(const std::string& message) {
  throw Error("ERR_INVALID_ARGUMENT", "forward(): " + message);
}

/// Without branches, so that a row of 150,000 logits costs little.
bool all_finite(std::span<const float> values) {
  uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  }
  return largest < 0x7f800000u;
}

std::string layer_name(int64_t index) { return "model.layers." + std::to_string(index) + "."; }

}  // namespace

int shared_segments(int64_t in_features) {
  int segments = 8;
  while (in_features % segments != 0) segments /= 2;
  return segments;
}

DecoderWeights DecoderWeights::load(const ModelConfig& config, WeightLoader& loader) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t kv = config.num_kv_heads * config.head_dim();
  DecoderWeights weights;
  weights.embed_tokens =
      loader.matrix({{"model.embed_tokens.weight", {config.vocab_size, hidden}}});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = layer_name(i);
    const std::string attn = layer + "self_attn.";
    const std::string mlp = layer + "mlp.";
    weights.layers.push_back({
        loader.vector({{layer + "input_layernorm.weight", {hidden}}}),
        loader.vector({{layer + "post_attention_layernorm.weight", {hidden}}}),
        loader.matrix({{attn + "q_proj.weight", {hidden, hidden}},
                       {attn + "k_proj.weight", {kv, hidden}},
                       {attn + "v_proj.weight", {kv, hidden}}},
                      1, config.head_dim() / 2),
        loader.vector({{attn + "q_proj.bias", {hidden}},
                       {attn + "k_proj.bias", {kv}},
                       {attn + "v_proj.bias", {kv}}}),
        loader.matrix({{attn + "o_proj.weight", {hidden, hidden}}}, shared_segments(hidden)),
        loader.matrix({{mlp + "gate_proj.weight", {inner, hidden}},
                       {mlp + "up_proj.weight", {inner, hidden}}},
                      1, inner),
        loader.matrix({{mlp + "down_proj.weight", {hidden, inner}}}, shared_segments(inner)),
        loader.optional_vector({{attn + "o_proj.bias", {hidden}}}),
        loader.optional_vector({{mlp + "down_proj.bias", {hidden}}}),
        loader.optional_vector(
            {{mlp + "gate_proj.bias", {inner}}, {mlp + "up_proj.bias", {inner}}}),
    });
  }
  weights.norm = loader.vector({{"model.norm.weight", {hidden}}});
  if (!config.tie_word_embeddings) {
    weights.lm_head = loader.matrix({{"lm_head.weight", {config.vocab_size, hidden}}});
  }
  return weights;
}

LanguageModel::LanguageModel(const ModelConfig& config, DecoderWeights weights,
                             std::shared_ptr<Backend> backend, const ModelOptions& options)
    : config_(config),
      weights_(std::move(weights)),
      backend_(std::move(backend)),
      max_step_tokens_(options.max_step_tokens),
      inv_freq_(inverse_frequencies(config.rope_theta, config.head_dim())) {
  cache_ = backend_->create_kv_cache({config.num_layers, config.num_kv_heads, config.head_dim(),
                                      options.num_kv_blocks, options.kv_dtype});
  batch_ = backend_->create_sequence_batch(max_step_tokens_, options.num_kv_blocks);
  wanted_batch_ = backend_->create_sequence_batch(max_step_tokens_, options.num_kv_blocks);
  const auto f32 = [&](int64_t cols) { return TensorBuffer(*backend_, max_step_tokens_, cols); };
  const auto activations = [&](int64_t cols) {
    return TensorBuffer(*backend_, max_step_tokens_, cols, backend_->activation_dtype());
  };
  x_ = f32(config.hidden_size);
  kept_x_ = f32(config.hidden_size);
  attended_ = activations(config.hidden_size);
  qkv_ = activations(qkv_cols());
  inner_ = activations(config.intermediate_size);
  angles_ = TensorBuffer(*backend_, 2 * max_step_tokens_, config.head_dim() / 2);
  head_out_ = TensorBuffer(*backend_, std::min(kHeadRows, max_step_tokens_), config.vocab_size);
}

// ---- the step's rows ----

void LanguageModel::check_sequence(const StepSequence& sequence) const {
  const size_t count = sequence.token_ids.size();
  if (count == 0) refuse("a sequence without new tokens");
  if (sequence.pos_t.size() != count || sequence.pos_h.size() != count ||
      sequence.pos_w.size() != count) {
    refuse("a sequence of " + std::to_string(count) + " tokens needs as many positions");
  }
  for (const int32_t id : sequence.token_ids) {
    if (id >= 0 && id < config_.vocab_size) continue;
    refuse("token id " + std::to_string(id) + " is outside the vocabulary of " +
           std::to_string(config_.vocab_size));
  }
  const auto tokens = static_cast<int64_t>(count);
  if (sequence.num_cached < 0 || sequence.num_cached > kMaxTokens) {
    refuse("num_cached is " + std::to_string(sequence.num_cached));
  }
  const int64_t blocks = (sequence.num_cached + tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  if (static_cast<int64_t>(sequence.blocks.size()) < blocks) {
    refuse("a block table of " + std::to_string(sequence.blocks.size()) + " blocks; " +
           std::to_string(blocks) + " are needed");
  }
  for (const int32_t block : sequence.blocks.first(static_cast<size_t>(blocks))) {
    if (block >= 0 && block < num_kv_blocks()) continue;
    refuse("KV block " + std::to_string(block) + " of " + std::to_string(num_kv_blocks()));
  }
  for (const VisionSpan& span : sequence.vision) {
    const bool valid = span.embedding != nullptr && span.first_token >= 0 && span.count >= 0 &&
                       span.first_row >= 0 && span.first_token <= tokens &&
                       span.count <= tokens - span.first_token &&
                       span.first_row <= span.embedding->rows.rows &&
                       span.count <= span.embedding->rows.rows - span.first_row &&
                       span.embedding->rows.cols == config_.hidden_size;
    if (!valid) refuse("a vision span outside its sequence or its embedding");
  }
}

LanguageModel::Step LanguageModel::make_step(std::span<const StepSequence> sequences) const {
  Step step;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const StepSequence& sequence = sequences[i];
    check_sequence(sequence);
    const auto tokens = static_cast<int64_t>(sequence.token_ids.size());
    if (tokens > max_step_tokens_ - step.num_tokens) {
      refuse("a step of more than " + std::to_string(max_step_tokens_) + " tokens");
    }
    const SequenceSpan all{step.num_tokens, tokens, sequence.num_cached, sequence.blocks};
    const int64_t wanted = sequence.logits == LogitsWanted::kNone   ? 0
                           : sequence.logits == LogitsWanted::kLast ? 1
                                                                    : tokens;
    const int64_t skipped = tokens - wanted;
    step.sequences.push_back(all);
    if (wanted > 0) {
      step.wanted.push_back(
          {all.first_row + skipped, wanted, all.num_cached + skipped, sequence.blocks});
    }
    for (int64_t token = skipped; token < tokens; ++token) {
      step.wanted_rows.push_back(static_cast<int32_t>(all.first_row + token));
      step.wanted_tokens.push_back({static_cast<int64_t>(i), all.num_cached + token});
    }
    step.num_tokens += tokens;
  }
  return step;
}

void LanguageModel::embed(const Step& step, std::span<const StepSequence> sequences, Tensor x) {
  std::vector<int32_t> ids;
  for (const StepSequence& sequence : sequences) {
    ids.insert(ids.end(), sequence.token_ids.begin(), sequence.token_ids.end());
  }
  backend_->embed(x, *weights_.embed_tokens, ids);
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (const VisionSpan& span : sequences[i].vision) {
      std::vector<int32_t> rows(static_cast<size_t>(span.count));
      std::vector<int32_t> source(rows.size());
      std::iota(rows.begin(), rows.end(),
                static_cast<int32_t>(step.sequences[i].first_row + span.first_token));
      std::iota(source.begin(), source.end(), static_cast<int32_t>(span.first_row));
      backend_->copy_rows(x, rows, span.embedding->rows, source);
    }
  }
}

void LanguageModel::upload_angles(std::span<const StepSequence> sequences) {
  std::vector<float> all;  // [2, T, D / 2]: cosines, then sines, to go up in one copy
  std::vector<float> sines;
  for (const StepSequence& sequence : sequences) {
    const RopeTable table = mrope_table(inv_freq_, config_.mrope_section, sequence.pos_t,
                                        sequence.pos_h, sequence.pos_w);
    all.insert(all.end(), table.cos.begin(), table.cos.end());
    sines.insert(sines.end(), table.sin.begin(), table.sin.end());
  }
  all.insert(all.end(), sines.begin(), sines.end());
  backend_->upload(angles_.tensor().data, all.data(), all.size() * sizeof(float));
}

// ---- the layers ----

void LanguageModel::forward(std::span<const StepSequence> sequences,
                            const std::function<bool()>& should_stop) {
  wanted_tokens_.clear();
  Step step = make_step(sequences);
  if (step.num_tokens == 0) return;
  const auto check_stop = [&] {
    if (should_stop && should_stop()) throw Cancelled{};
  };
  Activations activations{x_.first_rows(step.num_tokens), attended_.first_rows(step.num_tokens)};
  embed(step, sequences, activations.x);
  upload_angles(sequences);
  batch_->assign(step.sequences);
  const auto num_wanted = static_cast<int64_t>(step.wanted_rows.size());
  if (num_wanted < step.num_tokens) wanted_batch_->assign(step.wanted);
  // Where every row becomes logits, steps differ in nothing but the contents of buffers.
  const bool is_repeatable = num_wanted == step.num_tokens && num_wanted <= head_out_.rows();
  backend_->run_step(*batch_, is_repeatable, [&] {
    for (int64_t index = 0; index < config_.num_layers; ++index) {
      check_stop();
      run_layer(step, index, activations);
    }
    if (is_repeatable) project(activations.x);
  });
  if (num_wanted == 0) return;
  check_stop();
  wanted_x_ = activations.x;
  is_projected_ = num_wanted <= head_out_.rows();
  if (is_projected_ && !is_repeatable) project(wanted_x_);
  wanted_tokens_ = std::move(step.wanted_tokens);
}

void LanguageModel::run_layer(const Step& step, int64_t index, Activations& activations) {
  const DecoderLayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  attend(step, index, activations);
  if (index == config_.num_layers - 1) {
    // Nothing reads the other rows any more: they are in the cache.
    if (step.wanted_rows.empty()) return;
    keep_wanted_rows(step, activations);
  }
  const Tensor x = activations.x;
  backend_->linear(x, activations.attended, *layer.o_proj, {layer.o_proj_bias.get(), &x});
  const Tensor inner = inner_.first_rows(x.rows);
  backend_->linear(
      inner, x, *layer.gate_up,
      {layer.gate_up_bias.get(), nullptr, Activation::kSwiGlu, norm(layer.post_attention_norm)});
  backend_->linear(x, inner, *layer.down_proj, {layer.down_proj_bias.get(), &x});
}

/// From x to attended; in the last layer only the wanted rows of it.
void LanguageModel::attend(const Step& step, int64_t index, Activations& activations) {
  const DecoderLayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const int64_t tokens = step.num_tokens;
  const Tensor qkv = qkv_.first_rows(tokens);
  const Tensor angles = angles_.first_rows(2 * tokens);
  const AttentionInput input{activations.x,
                             norm(layer.input_norm),
                             layer.qkv.get(),
                             layer.qkv_bias.get(),
                             /*cos=*/angles.slice(0, tokens),
                             /*sin=*/angles.slice(tokens, tokens)};
  backend_->attention_input(qkv, input, *cache_, index, *batch_);
  const bool last = index == config_.num_layers - 1;
  if (last && step.wanted.empty()) return;
  const bool drops_rows = last && static_cast<int64_t>(step.wanted_rows.size()) < tokens;
  backend_->attention(activations.attended, qkv.columns(0, config_.hidden_size), *cache_, index,
                      drops_rows ? *wanted_batch_ : *batch_, attention_scale(config_.head_dim()));
}

/// Makes x and attended dense matrices of the wanted rows.
void LanguageModel::keep_wanted_rows(const Step& step, Activations& activations) {
  const auto count = static_cast<int64_t>(step.wanted_rows.size());
  if (count == step.num_tokens) return;
  std::vector<int32_t> rows(step.wanted_rows.size());
  std::iota(rows.begin(), rows.end(), 0);
  const Tensor x = kept_x_.first_rows(count);
  const Tensor attended = qkv_.reshaped(count, config_.hidden_size);
  backend_->copy_rows(x, rows, activations.x, step.wanted_rows);
  backend_->copy_rows(attended, rows, activations.attended, step.wanted_rows);
  activations = {x, attended};
}

// ---- the head ----

/// The logits of at most head_out_.rows() rows of x.
void LanguageModel::project(Tensor x) {
  backend_->linear(head_out_.first_rows(x.rows), x, weights_.head(),
                   {nullptr, nullptr, Activation::kNone, norm(weights_.norm)});
}

std::span<const NextToken> LanguageModel::sample(std::span<const TokenChoice> choices) {
  const auto count = static_cast<int64_t>(wanted_tokens_.size());
  if (static_cast<int64_t>(choices.size()) != count) {
    throw Error("ERR_INTERNAL", "sample(): " + std::to_string(choices.size()) + " choices for " +
                                    std::to_string(count) + " rows of logits");
  }
  next_tokens_.assign(choices.size(), {});
  for (int64_t first = 0; first < count; first += head_out_.rows()) {
    const int64_t rows = std::min(head_out_.rows(), count - first);
    if (!is_projected_) project(wanted_x_.slice(first, rows));
    ids_.resize(static_cast<size_t>(rows));
    backend_->sample(ids_, head_out_.first_rows(rows),
                     choices.subspan(static_cast<size_t>(first), static_cast<size_t>(rows)));
    for (int64_t row = 0; row < rows; ++row) {
      next_tokens_[static_cast<size_t>(first + row)].id = ids_[static_cast<size_t>(row)];
    }
    fetch_logits(first, rows);
  }
  return next_tokens_;
}

/// Brings those rows of head_out_, rows [first, first + count) of all, to the host that no token
/// was chosen from; neighbours in one copy.
void LanguageModel::fetch_logits(int64_t first, int64_t count) {
  const int64_t vocab = config_.vocab_size;
  const auto is_wanted = [&](int64_t row) {
    return row < count && ids_[static_cast<size_t>(row)] == kNotChosen;
  };
  for (int64_t row = 0; row < count; ++row) {
    int64_t end = row;
    while (is_wanted(end)) ++end;
    if (end == row) continue;
    logits_.resize(next_tokens_.size() * static_cast<size_t>(vocab));
    backend_->download(logits_.data() + (first + row) * vocab,
                       head_out_.first_rows(count).slice(row, end - row).data,
                       static_cast<size_t>((end - row) * vocab) * sizeof(float));
    for (; row < end; ++row) take_logits(first + row);
  }
}

void LanguageModel::take_logits(int64_t row) {
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  const auto index = static_cast<size_t>(row);
  const auto logits = std::span<const float>(logits_).subspan(index * vocab, vocab);
  next_tokens_[index].logits = logits;
  if (all_finite(logits)) return;
  const auto& [sequence, position] = wanted_tokens_[index];
  throw Error("ERR_NUMERICS",
              "the logits of token " + std::to_string(position) +
                  " are not finite: the weights or the input hold values that are not numbers. "
                  "Check the checkpoint's files",
              {{"sequence", sequence}, {"position", position}});
}

}  // namespace qvl
