#pragma once

// One engine, one thread: queue -> schedule -> forward -> sample -> emit.

#include <cstdint>
#include <memory>

#include "engine/embedding_cache.h"
#include "engine/request.h"
#include "model/model.h"

namespace qvl {

struct EngineOptions {
  int64_t max_sequences = 64;  // sequences that may share a step
  /// Requests that may wait behind max_sequences; more are refused with ERR_QUEUE_FULL.
  int64_t max_queue = 1024;
  int64_t max_context = 32768;  // prompt plus answer of one sequence
  int64_t prefill_chunk = 256;  // prefill tokens in a step, so that decoding sequences go on
  int64_t image_cache_bytes = int64_t{256} << 20;  // visual tokens that are kept; 0 = none
  int64_t max_draft_rows = 8;  // decoding rows of a step, drafts included, that drafts may join
};

/// A snapshot for metrics and leak tests.
struct EngineMetrics {
  int64_t running = 0, waiting = 0;
  /// used: by running sequences; cached: by nobody, but with contents that may be found again.
  int64_t kv_blocks_used = 0, kv_blocks_cached = 0, kv_blocks_total = 0;
  int64_t generated_tokens = 0, prompt_tokens = 0, steps = 0, preemptions = 0;
  int64_t cached_prompt_tokens = 0;  // of prompt_tokens, those from the prefix cache
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;  // verified guesses; those that came true
  EmbeddingCacheMetrics image_cache;
};

class Engine {
 public:
  Engine(std::unique_ptr<Model> model, const EngineOptions& options);
  /// Same as shutdown(). May run on the engine's thread (the last owner let go in a callback).
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Queues a request; returns its id. Events go to `listener` until its last one; the first may
  /// come before submit() returns. Throws Error: ERR_CONTEXT_LENGTH, ERR_QUEUE_FULL, ERR_DISPOSED,
  /// ERR_OUT_OF_MEMORY (prompt and max_tokens never fit the KV pool), ERR_PROMPT_VISION_MISMATCH,
  /// ERR_INVALID_ARGUMENT (empty prompt, id outside the vocabulary, option out of range).
  uint64_t submit(GenerationRequest request, std::shared_ptr<GenerationListener> listener);
  /// Ends the request with FinishReason::kCancelled within one step; a no-op when it has ended.
  void cancel(uint64_t id);
  /// Fails every request with ERR_DISPOSED, ends the thread, frees the model. Idempotent, from any
  /// thread, also while a step runs. All is done when it returns, except in a listener's callback:
  /// there it is done when the callback has returned.
  void shutdown();

  /// Forgets all KV blocks and visual tokens that are kept for later requests, pinned ones
  /// excepted. Memory goes back to the system when nothing runs. Returns when it is done, within
  /// one step, or throws what the device failed with; not from a listener's callback.
  void clear_cache();
  /// The visual tokens of the item are kept from their first encode on, whatever the budget of the
  /// image cache, until as many unpin() as pin() were called.
  void pin(const ContentHash& item);
  void unpin(const ContentHash& item);

  EngineMetrics metrics() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace qvl
