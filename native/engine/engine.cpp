#include "engine/engine.h"

#include <limits>
#include <string>
#include <utility>

#include "engine/engine_impl.h"

namespace qvl {
namespace {

void check_options(const EngineOptions& options) {
  const auto check = [](const char* name, int64_t value, int64_t lowest) {
    // Positions and counts of one sequence are 32-bit.
    constexpr int64_t kHighest = std::numeric_limits<int32_t>::max();
    if (value >= lowest && value <= kHighest) return;
    throw Error("ERR_INVALID_ARGUMENT",
                std::string(name) + " is " + std::to_string(value) + "; it must be between " +
                    std::to_string(lowest) + " and " + std::to_string(kHighest),
                {{"path", std::string(name)}});
  };
  check("maxSequences", options.max_sequences, 1);
  check("maxQueue", options.max_queue, 0);
  check("maxContext", options.max_context, 2);
  check("prefillChunk", options.prefill_chunk, 1);
  check("maxDraftRows", options.max_draft_rows, 0);
  if (options.image_cache_bytes < 0) {
    throw Error("ERR_INVALID_ARGUMENT",
                "imageCacheBytes is " + std::to_string(options.image_cache_bytes) +
                    "; it must be 0 (keep none) or a number of bytes",
                {{"path", std::string("imageCacheBytes")}});
  }
}

}  // namespace

// ---- from any thread ----

void Engine::Impl::refuse_if_closed() const {
  if (shutdown_) throw disposed_error();
  const int64_t live = static_cast<int64_t>(live_.size());
  if (live - options_.max_sequences < options_.max_queue) return;
  throw Error("ERR_QUEUE_FULL",
              std::to_string(live) +
                  " requests are running or waiting; maxConcurrency and maxQueue "
                  "allow " +
                  std::to_string(options_.max_sequences + options_.max_queue) +
                  ": try again later or raise maxQueue",
              {{"queued", live}, {"limit", options_.max_sequences + options_.max_queue}});
}

uint64_t Engine::Impl::submit(GenerationRequest request,
                              std::shared_ptr<GenerationListener> listener) {
  {
    const std::lock_guard lock(mutex_);
    refuse_if_closed();
  }
  auto generation =
      std::make_unique<Generation>(std::move(request), std::move(listener), config_, limits_);
  const std::lock_guard lock(mutex_);
  refuse_if_closed();
  const uint64_t id = next_id_++;
  generation->id = id;
  inbox_.push_back(generation.get());
  live_.emplace(id, std::move(generation));
  wake_.notify_one();
  return id;
}

void Engine::Impl::cancel(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(id);
  if (found == live_.end()) return;
  found->second->cancelled = true;
  cancels_pending_ = true;
  wake_.notify_one();
}

EngineMetrics Engine::Impl::metrics() const {
  const std::lock_guard lock(mutex_);
  EngineMetrics result = metrics_;
  result.waiting += static_cast<int64_t>(inbox_.size());
  result.image_cache = embeddings_.metrics();
  return result;
}

void Engine::Impl::clear_cache() {
  std::unique_lock lock(mutex_);
  const uint64_t asked = ++clears_asked_;
  wake_.notify_one();
  cleared_.wait(lock, [&] { return clears_done_ >= asked || has_ended_; });
  if (!has_ended_ && clear_error_ != nullptr) std::rethrow_exception(clear_error_);
}

void Engine::Impl::shutdown() {
  {
    const std::lock_guard lock(mutex_);
    shutdown_ = true;
    wake_.notify_one();
  }
  if (std::this_thread::get_id() == thread_id_) return;  // in a callback: cannot wait for itself
  const std::lock_guard lock(join_mutex_);  // a second caller waits here until the first has joined
  if (thread_.joinable()) thread_.join();
}

void Engine::Impl::abandon() {
  if (thread_.joinable()) thread_.detach();
}
// ---- Engine ----

Engine::Engine(std::unique_ptr<Model> model, const EngineOptions& options) {
  check_options(options);
  if (model == nullptr) throw Error("ERR_INVALID_ARGUMENT", "the engine needs a model");
  impl_ = std::make_shared<Impl>(std::move(model), options);
  impl_->start(impl_);
}

Engine::~Engine() {
  if (impl_ == nullptr) return;
  impl_->shutdown();
  impl_->abandon();
}

uint64_t Engine::submit(GenerationRequest request, std::shared_ptr<GenerationListener> listener) {
  return impl_->submit(std::move(request), std::move(listener));
}

void Engine::cancel(uint64_t id) { impl_->cancel(id); }

void Engine::shutdown() { impl_->shutdown(); }

void Engine::clear_cache() { impl_->clear_cache(); }

void Engine::pin(const ContentHash& item) { impl_->embeddings().pin(item); }

void Engine::unpin(const ContentHash& item) { impl_->embeddings().unpin(item); }

EngineMetrics Engine::metrics() const { return impl_->metrics(); }

}  // namespace qvl
