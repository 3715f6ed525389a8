#pragma once

// A loaded model as the addon holds it, and the thread that frees it.

#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "constraint/vocabulary.h"
#include "engine/engine.h"

namespace qvl::addon {

/// Shared by the JavaScript model object and by every generation that runs on it, so that a model
/// which JavaScript has dropped lives until its last answer is complete. All references are
/// released on the JavaScript thread.
struct ModelHandle {
  std::unique_ptr<Engine> engine;
  DeviceInfo device;
  std::weak_ptr<Backend> backend;  // the engine's, which gives it up when it ends
  int64_t vocab_size = 0;
  std::shared_ptr<const Vocabulary> vocabulary;  // once JavaScript has passed it
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;  // in memory
};

/// Frees models that JavaScript has let go without dispose(). Ending an engine waits for its
/// current step and returns gigabytes, which garbage collection must not do on the JavaScript
/// thread; the destructor waits, so that nothing outlives the environment.
class Reaper {
 public:
  ~Reaper();
  /// Drops one reference; if it is the last, the model is freed on another thread.
  void release(std::shared_ptr<ModelHandle> model);

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

}  // namespace qvl::addon
