#pragma once

// Loads models and takes sequences through them, as the engine does.

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "model/formula_checkpoint.h"
#include "model/model.h"

namespace qvl::test {

struct LoadSettings {
  ModelOptions options{64, DType::kF32, 512, false, DType::kBF16};
  CpuBackendOptions cpu{1, ""};
};

inline std::unique_ptr<Model> load_model(const std::vector<std::string>& paths,
                                         const ModelConfig& config,
                                         const LoadSettings& settings = {}) {
  return load_qwen2_vl(Checkpoint::open(paths), config, create_cpu_backend(settings.cpu),
                       settings.options, {}, nullptr);
}

/// Writes the tensors to a file and loads that.
inline std::unique_ptr<Model> load_model(const std::vector<StoredTensor>& tensors,
                                         const ModelConfig& config,
                                         const LoadSettings& settings = {}) {
  const TempFolder folder;
  write_safetensors(folder.path("model.safetensors"), tensors);
  return load_model(std::vector{folder.path("model.safetensors")}, config, settings);
}

inline VisionEmbedding encode(Model& model, const VisionItem& item) {
  const std::unique_ptr<VisionEncoding> encoding = model.begin_vision(item);
  while (!encoding->advance()) {
  }
  return encoding->take_result();
}

/// The rows of an embedding end to end. The CPU backend's memory is the host's.
inline std::vector<float> values_of(const VisionEmbedding& embedding) {
  std::vector<float> values;
  for (int64_t row = 0; row < embedding.rows.rows; ++row) {
    const float* data = embedding.rows.f32() + row * embedding.rows.row_stride;
    values.insert(values.end(), data, data + embedding.rows.cols);
  }
  return values;
}

inline VisionItem make_image(RgbImage image) {
  return {{std::make_shared<const RgbImage>(std::move(image))}, false};
}

inline VisionItem make_video(std::vector<RgbImage> frames) {
  VisionItem item{{}, true};
  for (RgbImage& frame : frames) {
    item.frames.push_back(std::make_shared<const RgbImage>(std::move(frame)));
  }
  return item;
}

struct Prompt {
  std::vector<int32_t> token_ids;
  std::vector<VisionItem> items;
};

/// `count` KV blocks from `first` on, in an order that a pool would hand out after a while.
inline std::vector<int32_t> scattered_blocks(int32_t first, int32_t count) {
  std::vector<int32_t> blocks(static_cast<size_t>(count));
  std::iota(blocks.begin(), blocks.end(), first);
  std::reverse(blocks.begin(), blocks.begin() + count / 2);
  return blocks;
}

/// Runs a step; the logits of all rows that it wants, end to end.
inline std::vector<float> logits_of(Model& model, std::span<const StepSequence> sequences,
                                    const std::function<bool()>& should_stop = {}) {
  model.forward(sequences, should_stop);
  size_t num_rows = 0;
  for (const StepSequence& sequence : sequences) {
    if (sequence.logits == LogitsWanted::kLast) ++num_rows;
    if (sequence.logits == LogitsWanted::kAll) num_rows += sequence.token_ids.size();
  }
  std::vector<float> logits;
  for (const NextToken& next : model.sample(std::vector<TokenChoice>(num_rows))) {
    logits.insert(logits.end(), next.logits.begin(), next.logits.end());
  }
  return logits;
}

/// A prompt and what was generated after it, on its way through steps of the model.
class Sequence {
 public:
  Sequence(Model& model, const Prompt& prompt, std::vector<int32_t> blocks)
      : token_ids_(prompt.token_ids), blocks_(std::move(blocks)) {
    std::vector<VisionGrid> grids;
    for (const VisionItem& item : prompt.items) {
      grids.push_back({item.grid_t(), item.grid_h(), item.grid_w(), item.is_video});
      embeddings_.push_back(encode(model, item));
    }
    const ModelConfig& config = model.config();
    positions_ = compute_positions(token_ids_, grids, config.image_token_id, config.video_token_id);
    find_runs(prompt.items, config);
  }

  /// Drops M-RoPE: T = H = W = index.
  void use_plain_positions() {
    for (auto* axis : {&positions_.t, &positions_.h, &positions_.w}) {
      std::iota(axis->begin(), axis->end(), 0);
    }
    positions_.delta = 0;
  }

  /// A generated token: text, whatever its id.
  void append(int32_t token) {
    const auto position = static_cast<int32_t>(token_ids_.size()) + positions_.delta;
    token_ids_.push_back(token);
    for (auto* axis : {&positions_.t, &positions_.h, &positions_.w}) axis->push_back(position);
  }

  int64_t num_waiting() const { return static_cast<int64_t>(token_ids_.size()) - num_cached_; }

  /// The next `count` tokens as part of a step; valid until the next call. They count as cached
  /// from the next call on.
  StepSequence take(int64_t count, LogitsWanted logits) {
    spans_.clear();
    for (size_t i = 0; i < runs_.size(); ++i) {
      const int64_t first = std::max(runs_[i].first, num_cached_);
      const int64_t end = std::min(runs_[i].first + runs_[i].second, num_cached_ + count);
      if (first >= end) continue;
      spans_.push_back({first - num_cached_, end - first, &embeddings_[i], first - runs_[i].first});
    }
    const auto part = [&](const std::vector<int32_t>& all) {
      return std::span(all).subspan(static_cast<size_t>(num_cached_), static_cast<size_t>(count));
    };
    StepSequence step{part(token_ids_),
                      part(positions_.t),
                      part(positions_.h),
                      part(positions_.w),
                      num_cached_,
                      blocks_,
                      spans_,
                      logits};
    num_cached_ += count;
    return step;
  }

  /// Back to `num_cached` tokens, as after a step that was stopped.
  void rewind(int64_t num_cached) { num_cached_ = num_cached; }

  int32_t delta() const { return positions_.delta; }

 private:
  void find_runs(const std::vector<VisionItem>& items, const ModelConfig& config) {
    runs_.resize(items.size());
    for (const bool is_video : {false, true}) {
      const int32_t pad = is_video ? config.video_token_id : config.image_token_id;
      auto at = token_ids_.begin();
      for (size_t i = 0; i < items.size(); ++i) {
        if (items[i].is_video != is_video) continue;
        at = std::find(at, token_ids_.end(), pad);
        runs_[i] = {at - token_ids_.begin(), items[i].num_tokens()};
        at += items[i].num_tokens();
      }
    }
  }

  std::vector<int32_t> token_ids_;
  MropePositions positions_;
  std::vector<int32_t> blocks_;
  std::vector<VisionEmbedding> embeddings_;
  std::vector<std::pair<int64_t, int64_t>> runs_;  // first token and length of each item
  std::vector<VisionSpan> spans_;
  int64_t num_cached_ = 0;
};

/// Logits of all waiting tokens, `chunk` tokens a step.
inline std::vector<float> prefill(Model& model, Sequence& sequence, int64_t chunk = 1 << 20) {
  std::vector<float> logits;
  chunk = std::min(chunk, model.max_step_tokens());
  while (sequence.num_waiting() > 0) {
    const StepSequence step =
        sequence.take(std::min(chunk, sequence.num_waiting()), LogitsWanted::kAll);
    const std::vector<float> rows = logits_of(model, {&step, 1});
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

inline int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// The next `count` tokens of every sequence, all in the same steps, the prompts included.
inline std::vector<std::vector<int32_t>> greedy(Model& model, std::vector<Sequence*> sequences,
                                                int64_t count) {
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  std::vector<std::vector<int32_t>> answers(sequences.size());
  for (int64_t i = 0; i < count; ++i) {
    std::vector<StepSequence> step;
    for (Sequence* sequence : sequences) {
      step.push_back(sequence->take(sequence->num_waiting(), LogitsWanted::kLast));
    }
    const std::vector<float> logits = logits_of(model, step);
    for (size_t s = 0; s < sequences.size(); ++s) {
      answers[s].push_back(argmax(std::span(logits).subspan(s * vocab, vocab)));
      sequences[s]->append(answers[s].back());
    }
  }
  return answers;
}

}  // namespace qvl::test
