#pragma once

#include <atomic>

namespace qvl {

/// Set from any thread to ask a long operation to stop; polled by the operation.
class CancellationFlag {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

/// Thrown by an operation that noticed its CancellationFlag. Never crosses the addon's edge as an
/// error: the caller who cancelled knows why.
struct Cancelled {};

}  // namespace qvl
