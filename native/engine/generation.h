#pragma once

// One request inside the engine: its tokens, positions and visual tokens.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace qvl {

/// The pads of one visual item in the prompt.
struct VisionRun {
  int64_t first_token = 0;
  int64_t count = 0;
  size_t item = 0;  // index into GenerationRequest::items
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
  int64_t num_answer() const { return num_tokens - num_prompt; }
  bool is_stop(int32_t token) const;

  /// Encodes the next piece of the next item; true when all items are encoded.
  bool advance_vision(Model& model);
  /// The parts of its visual items in tokens [first, first + count), relative to `first`.
  std::vector<VisionSpan> vision_spans(int64_t first, int64_t count) const;

  GenerationRequest request;  // its prompt and items are moved out
  std::shared_ptr<GenerationListener> listener;
  std::vector<int32_t> tokens;  // prompt, then answer
  MropePositions positions;     // of all tokens
  int64_t num_prompt = 0;
  int64_t max_answer = 0;  // max_tokens, or what the context leaves

  std::vector<VisionRun> vision_runs;  // in prompt order
  std::unique_ptr<VisionEncoding> encoding;
  std::vector<VisionEmbedding> embeddings;  // by item

  std::atomic<bool> cancelled{false};

  GenerationStats stats;
  Clock::time_point submitted_at = Clock::now();
  bool started = false;
  Clock::time_point first_token_at;
};

}  // namespace qvl
