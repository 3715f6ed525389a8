#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace qvl {

/// The threads that share the work of one backend. The calling thread takes part. Workers wait for
/// the next job by spinning shortly (the operations of a decode step follow each other within
/// microseconds) and then sleep, so an idle pool costs nothing.
///
/// Jobs may be started from any thread and run one after the other; a job started from inside a
/// task runs serially on that task's thread. The first exception of a task ends the job early and
/// is rethrown to the caller.
class ThreadPool {
 public:
  /// `num_threads` includes the caller; when the system refuses more threads, the pool has fewer.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Cuts [0, count) into one contiguous range per thread, with borders at multiples of `grain`,
  /// and calls body(begin, end, thread) for each that is not empty. For regular work: the same
  /// thread gets the same range every time.
  template <class Body>
  void run_static(int64_t count, int64_t grain, const Body& body) {
    if (count <= 0) return;
    const int64_t grains = (count + grain - 1) / grain;
    const int64_t parts = grains < num_threads() ? grains : num_threads();
    auto part = [&](int64_t index, int thread) {
      const int64_t begin = grains * index / parts * grain;
      const int64_t end = grains * (index + 1) / parts * grain;
      body(begin, end < count ? end : count, thread);
    };
    run(parts, true, part);
  }

  /// Calls body(task, thread) for every task in [0, num_tasks); threads take the next task as they
  /// become free. For work of different sizes.
  template <class Body>
  void run_dynamic(int64_t num_tasks, const Body& body) {
    run(num_tasks, false, body);
  }

 private:
  using Invoke = void (*)(const void* body, int64_t task, int thread);
  struct Job {
    Invoke invoke = nullptr;
    const void* body = nullptr;
    int64_t num_tasks = 0;
    bool is_static = false;  // task i belongs to thread i
  };

  template <class Body>
  void run(int64_t num_tasks, bool is_static, const Body& body) {
    Job job;
    job.invoke = [](const void* object, int64_t task, int thread) {
      (*static_cast<const Body*>(object))(task, thread);
    };
    job.body = &body;
    job.num_tasks = num_tasks;
    job.is_static = is_static;
    run_job(job);
  }

  void run_job(const Job& job);
  void run_serially(const Job& job, int thread);
  void take_part(const Job& job, int thread);
  void work(int thread);
  bool wait_for_job(uint64_t seen);

  std::vector<std::thread> workers_;
  std::mutex run_mutex_;  // held by the thread whose job runs

  std::mutex mutex_;  // with the condition variables: sleeping
  std::condition_variable job_ready_;
  std::condition_variable job_done_;
  std::atomic<uint64_t> generation_{0};  // counts jobs; a change wakes the workers
  std::atomic<bool> stopping_{false};
  Job job_;  // written before generation_ changes

  alignas(64) std::atomic<int64_t> next_task_{0};
  alignas(64) std::atomic<int> active_workers_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;  // written by the thread that set failed_
};

}  // namespace qvl
