#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace qvl {

/// Runs one task at a time beside its owner's thread. The thread begins with the first task.
class SideThread {
 public:
  SideThread() = default;
  ~SideThread();
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  /// Begins a task, which must not throw; runs it at once where the system gives no thread. What
  /// the caller did before is seen by the task.
  void start(std::function<void()> task);
  /// Returns when the task has ended, at once if there is none. What it did is then seen.
  void wait();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> task_;  // guarded by mutex_; empty when it has ended
  bool is_closing_ = false;     // guarded by mutex_
  std::thread thread_;
};

}  // namespace qvl
