#pragma once

// One request inside the engine: its tokens, positions and visual tokens.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "constraint/constraint.h"
#include "engine/drafter.h"
#include "engine/embedding_cache.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace qvl {

/// The pads of one visual item in the prompt.
struct VisionRun {
  int64_t first_token = 0;
  int64_t count = 0;
  size_t item = 0;  // index into GenerationRequest::items
  int64_t grid_t = 0, grid_h = 0, grid_w = 0;
  ContentHash content;  // of the item

  int64_t end() const { return first_token + count; }
};

/// What submit() checks a request against.
struct GenerationLimits {
  int64_t max_context = 0;
  int64_t cache_tokens = 0;  // tokens that the whole KV pool holds
};

using Clock = std::chrono::steady_clock;

/// Belongs to the engine's thread once submitted; only `cancelled` is touched from elsewhere.
struct Generation : Sequence {
  /// Checks the request (see Engine::submit) and works out positions and limits.
  Generation(GenerationRequest submitted, std::shared_ptr<GenerationListener> to,
             const ModelConfig& config, const GenerationLimits& limits);

  /// Adds a sampled token and its position.
  void append(int32_t token);
  /// Guesses what comes next, if the request wants that: `draft`.
  void guess_draft();
  int64_t num_answer() const { return num_tokens - num_prompt; }
  bool is_stop(int32_t token) const;

  BlockContent block_content(int64_t index) const override;

  /// Takes from the cache, or encodes the next piece of, the next item that it needs; true when it
  /// has all that it needs. An item is needed when not all of its tokens are in the KV cache.
  bool advance_vision(Model& model, EmbeddingCache& cache);
  /// Tokens from `first_token` on were computed: those before it and behind what had been computed
  /// so far came from the prefix cache.
  void note_computed(int64_t first_token, int64_t count);
  /// The parts of its visual items in tokens [first, first + count), relative to `first`.
  std::vector<VisionSpan> vision_spans(int64_t first, int64_t count) const;

  GenerationRequest request;  // its prompt and items are moved out
  std::shared_ptr<GenerationListener> listener;
  std::vector<int32_t> tokens;  // prompt, then answer
  MropePositions positions;     // of all tokens
  std::optional<Drafter> drafter;
  std::span<const int32_t> draft;  // num_draft guesses behind `tokens`
  int64_t num_prompt = 0;
  int64_t max_answer = 0;  // max_tokens, or what the context leaves

  std::optional<Constraint> constraint;  // of the answer, where the request has a grammar

  std::vector<VisionRun> vision_runs;  // in prompt order
  std::unique_ptr<VisionEncoding> encoding;
  const VisionRun* encoding_run = nullptr;  // what is being encoded
  std::vector<VisionEmbedding> embeddings;  // by item; without a buffer where it has none

  std::atomic<bool> cancelled{false};

  GenerationStats stats;
  int64_t num_seen = 0;  // tokens that were once computed or taken over
  Clock::time_point submitted_at = Clock::now();
  bool started = false;
  Clock::time_point first_token_at;

 private:
  const VisionRun* next_to_encode() const;
  void take_embedding(const VisionRun& run, VisionEmbedding embedding);
};

}  // namespace qvl
