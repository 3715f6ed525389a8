#pragma once

// The engine behind its interface: what any thread may call is in engine.cpp, what the engine's own
// thread does in engine_thread.cpp.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/error.h"
#include "engine/block_pool.h"
#include "engine/embedding_cache.h"
#include "engine/engine.h"
#include "engine/generation.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/side_thread.h"

namespace qvl {

inline Error disposed_error() {
  return {"ERR_DISPOSED", "the model was disposed; load it again to go on"};
}

/// Everything without a lock below belongs to the engine's thread.
class Engine::Impl {
 public:
  Impl(std::unique_ptr<Model> model, const EngineOptions& options)
      : options_(options),
        config_(model->config()),
        model_(std::move(model)),
        pool_(model_->num_kv_blocks()),
        prefixes_(&pool_),
        embeddings_(options.image_cache_bytes),
        limits_{options.max_context, pool_.num_total() * kKvBlockTokens},
        scheduler_({options.max_sequences, options.prefill_chunk, model_->max_step_tokens(),
                    kKvBlockTokens, options.max_draft_rows, options.max_context},
                   &pool_, &prefixes_),
        sampler_(config_.vocab_size) {
    metrics_.kv_blocks_total = pool_.num_total();
  }

  // ---- from any thread ----
  uint64_t submit(GenerationRequest request, std::shared_ptr<GenerationListener> listener);
  void cancel(uint64_t id);
  EngineMetrics metrics() const;
  void clear_cache();
  EmbeddingCache& embeddings() { return embeddings_; }
  /// Starts the thread, which keeps `self` alive until it ends.
  void start(std::shared_ptr<Impl> self) {
    thread_ = std::thread([self = std::move(self)] { self->run(); });
    thread_id_ = thread_.get_id();
  }
  void shutdown();
  /// After shutdown(): nobody will join.
  void abandon();

 private:
  void run();
  bool take_messages();
  void turn();
  void forget_cached();
  void refuse_if_closed() const;

  void advance_vision(Generation& generation);
  void run_step(std::span<const StepItem> items);
  void begin_masks(std::span<const StepItem> items);
  bool forward(std::span<const StepItem> items, std::exception_ptr* error);
  bool should_stop(std::span<const StepItem> items) const;
  void take_results(std::span<const StepItem> items, std::span<const NextToken> next);
  bool take_rows(const StepItem& item, std::span<const NextToken> next);
  bool take_token(Generation& generation, const NextToken& next);
  int32_t choose(Generation& generation, const NextToken& next);
  void note_start(Generation& generation);
  void note_prefill(std::span<const StepItem> items, Clock::duration duration);
  void free_embeddings();

  template <class Event>
  void notify(Generation& generation, const Event& event);
  template <class Event>
  void end(Generation& generation, const Event& last_event);
  void finish(Generation& generation, FinishReason reason);
  void fail(Generation& generation, const std::exception_ptr& error);
  void fail_all(const std::exception_ptr& error);
  void publish_metrics();

  const EngineOptions options_;
  const ModelConfig config_;
  std::unique_ptr<Model> model_;
  BlockPool pool_;
  PrefixCache prefixes_;
  EmbeddingCache embeddings_;  // has a lock of its own
  const GenerationLimits limits_;
  Scheduler scheduler_;
  Sampler sampler_;
  SideThread mask_thread_;             // works out what grammars allow while the model computes
  EngineMetrics counters_;             // the monotonic part
  std::atomic<bool> shutdown_{false};  // written under mutex_

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Generation>> live_;  // erased by the thread only
  std::vector<Generation*> inbox_;
  bool cancels_pending_ = false;
  uint64_t clears_asked_ = 0, clears_done_ = 0;
  std::exception_ptr clear_error_;  // of the last one done
  bool has_ended_ = false;          // the thread takes no messages any more
  std::condition_variable cleared_;
  EngineMetrics metrics_;

  std::mutex join_mutex_;
  std::thread thread_;
  std::thread::id thread_id_;
};

}  // namespace qvl
