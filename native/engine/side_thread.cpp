#include "engine/side_thread.h"

#include <system_error>
#include <utility>

namespace qvl {

SideThread::~SideThread() {
  {
    const std::lock_guard lock(mutex_);
    is_closing_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void SideThread::start(std::function<void()> task) {
  wait();
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      return task();
    }
  }
  const std::lock_guard lock(mutex_);
  task_ = std::move(task);
  changed_.notify_all();
}

void SideThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !task_; });
}

void SideThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return task_ || is_closing_; });
    if (!task_) return;
    lock.unlock();
    task_();  // stays as it is: the owner only waits for its end
    lock.lock();
    task_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace qvl
