#include "backend/cpu/thread_pool.h"

#include <chrono>
#include <system_error>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace qvl {
namespace {

// How long a thread spins before it sleeps. Waking a sleeper takes 10 to 50 microseconds; the
// serial stretches between the operations of a step are shorter than this.
constexpr auto kSpinTime = std::chrono::microseconds(50);

// The pool whose task runs on this thread, and the thread's index there.
thread_local const ThreadPool* current_pool = nullptr;
thread_local int current_thread = 0;

void pause_briefly() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  __asm__ volatile("yield");
#else
  std::this_thread::yield();
#endif
}

// True when `done` became true within the spin time.
template <class Done>
bool spin(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// Signals are for the host program's threads: workers are started with all of them blocked.
class BlockSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }

 private:
  sigset_t previous_;
#else
  BlockSignals() {}
#endif
};

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  const BlockSignals block;
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      workers_.emplace_back([this, thread] { work(thread); });
    }
  } catch (const std::system_error&) {
    // The process may have no more threads: go on with those that started.
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true);
    generation_.fetch_add(1);
  }
  job_ready_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_job(const Job& job) {
  if (job.num_tasks <= 0) return;
  if (current_pool == this) return run_serially(job, current_thread);
  const std::lock_guard run_lock(run_mutex_);
  next_task_.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  if (workers_.empty() || job.num_tasks == 1) {
    take_part(job, 0);
  } else {
    active_workers_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    job_ = job;
    {
      const std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    job_ready_.notify_all();
    take_part(job, 0);
    const auto done = [this] { return active_workers_.load(std::memory_order_acquire) == 0; };
    if (!spin(done)) {
      std::unique_lock lock(mutex_);
      job_done_.wait(lock, done);
    }
  }
  if (failed_.load(std::memory_order_relaxed)) {
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::run_serially(const Job& job, int thread) {
  for (int64_t task = 0; task < job.num_tasks; ++task) job.invoke(job.body, task, thread);
}

void ThreadPool::take_part(const Job& job, int thread) {
  const ThreadPool* const outer_pool = std::exchange(current_pool, this);
  const int outer_thread = std::exchange(current_thread, thread);
  try {
    if (job.is_static) {
      if (thread < job.num_tasks) job.invoke(job.body, thread, thread);
    } else {
      while (!failed_.load(std::memory_order_relaxed)) {
        const int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
        if (task >= job.num_tasks) break;
        job.invoke(job.body, task, thread);
      }
    }
  } catch (...) {
    if (!failed_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
  }
  current_pool = outer_pool;
  current_thread = outer_thread;
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  while (wait_for_job(seen)) {
    ++seen;  // run_job waits for every worker, so no job is ever skipped
    take_part(job_, thread);
    if (active_workers_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      // Under the mutex, or the caller could go to sleep between its check and this call.
      const std::lock_guard lock(mutex_);
      job_done_.notify_one();
    }
  }
}

// False when the pool ends.
bool ThreadPool::wait_for_job(uint64_t seen) {
  const auto ready = [&] { return generation_.load(std::memory_order_acquire) != seen; };
  if (!spin(ready)) {
    std::unique_lock lock(mutex_);
    job_ready_.wait(lock, ready);
  }
  return !stopping_.load(std::memory_order_acquire);
}

}  // namespace qvl
