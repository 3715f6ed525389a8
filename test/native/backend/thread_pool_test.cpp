#include "backend/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>

#include "check.h"

namespace qvl {

constexpr int kThreadCounts[] = {1, 2, 3, 5};

TEST(dynamic_jobs_run_every_task_once) {
  for (const int threads : kThreadCounts) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.num_threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> thread_is_valid{true};
      pool.run_dynamic(tasks, [&](int64_t task, int thread) {
        ++runs[static_cast<size_t>(task)];
        if (thread < 0 || thread >= threads) thread_is_valid = false;
      });
      for (const auto& count : runs) CHECK_EQ(count.load(), 1);
      CHECK(thread_is_valid);
    }
  }
}

TEST(static_jobs_cover_the_range_in_contiguous_parts_with_borders_at_the_grain) {
  for (const int threads : kThreadCounts) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 3, 4, 5, 8, 97, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      std::atomic<int> parts{0};
      std::atomic<bool> borders_are_valid{true};
      pool.run_static(count, 4, [&](int64_t begin, int64_t end, int thread) {
        ++parts;
        if (begin % 4 != 0 || (end % 4 != 0 && end != count) || begin >= end || thread >= threads) {
          borders_are_valid = false;
        }
        for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
      });
      for (const auto& n : runs) CHECK_EQ(n.load(), 1);
      CHECK(borders_are_valid);
      CHECK_EQ(parts.load(), std::min<int64_t>(threads, (count + 3) / 4));
    }
  }
}

TEST(an_exception_of_a_task_reaches_the_caller_and_the_pool_goes_on) {
  for (const int threads : kThreadCounts) {
    ThreadPool pool(threads);
    for (int round = 0; round < 20; ++round) {
      bool caught = false;
      try {
        pool.run_dynamic(50, [&](int64_t task, int) {
          if (task == 17) throw std::runtime_error("task 17");
        });
      } catch (const std::runtime_error& error) {
        caught = std::string(error.what()) == "task 17";
      }
      CHECK(caught);
      caught = false;
      try {
        pool.run_static(8, 1, [&](int64_t, int64_t end, int) {
          if (end == 8) throw std::runtime_error("the last part");
        });
      } catch (const std::runtime_error&) {
        caught = true;
      }
      CHECK(caught);
      std::atomic<int> runs{0};
      pool.run_dynamic(10, [&](int64_t, int) { ++runs; });
      CHECK_EQ(runs.load(), 10);
    }
  }
}

TEST(a_job_inside_a_task_runs_on_the_tasks_thread) {
  ThreadPool pool(3);
  std::atomic<int> runs{0};
  std::atomic<bool> same_thread{true};
  pool.run_dynamic(6, [&](int64_t, int outer) {
    const auto id = std::this_thread::get_id();
    pool.run_dynamic(5, [&](int64_t, int inner) {
      ++runs;
      if (inner != outer || std::this_thread::get_id() != id) same_thread = false;
    });
    pool.run_static(
        5, 1, [&](int64_t begin, int64_t end, int) { runs += static_cast<int>(end - begin); });
  });
  CHECK_EQ(runs.load(), 60);
  CHECK(same_thread);
}

TEST(jobs_of_several_callers_run_one_after_the_other) {
  ThreadPool pool(2);
  std::atomic<int> inside{0};
  std::atomic<int> total{0};
  std::atomic<bool> overlapped{false};
  int64_t unprotected = 0;  // for the thread sanitizer: only one task of one job at a time
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        pool.run_dynamic(1, [&](int64_t, int) {
          if (++inside != 1) overlapped = true;
          ++unprotected;
          ++total;
          --inside;
        });
        pool.run_dynamic(4, [&](int64_t, int) { ++total; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(!overlapped);
  CHECK_EQ(unprotected, 200);
  CHECK_EQ(total.load(), 4 * 50 * 5);
}

TEST(what_tasks_wrote_is_seen_by_the_caller_after_sleeping_and_spinning) {
  ThreadPool pool(4);
  std::vector<int64_t> values(1000);
  for (int round = 1; round <= 30; ++round) {
    // Long enough, at times, for the workers to fall asleep.
    if (round % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.run_static(1000, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] += i;
    });
    for (int64_t i = 0; i < 1000; ++i) CHECK_EQ(values[static_cast<size_t>(i)], i * round);
  }
}

#if !defined(_WIN32)
TEST(idle_pools_leave_the_processor_to_others) {
  // Two models in one process, both just used: what they use of the processor while nobody asks.
  ThreadPool first(3);
  ThreadPool second(3);
  for (ThreadPool* pool : {&first, &second}) pool->run_dynamic(10, [](int64_t, int) {});
  const std::clock_t before = std::clock();  // of the process, all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  CHECK(used < 0.1);  // four workers that spin would have used up to 0.2 of every processor
}
#endif

TEST(pools_run_at_the_same_time_without_waiting_for_each_other) {
  // A task of one pool ends only when the other pool's job has run: they share nothing.
  ThreadPool first(2);
  ThreadPool second(2);
  std::atomic<bool> second_ran{false};
  std::thread caller([&] {
    first.run_dynamic(2, [&](int64_t, int) {
      while (!second_ran) std::this_thread::yield();
    });
  });
  second.run_dynamic(8, [](int64_t, int) {});
  second_ran = true;
  caller.join();
}

TEST(a_pool_that_never_ran_anything_ends) {
  for (int round = 0; round < 20; ++round) {
    const ThreadPool pool(3);
    CHECK_EQ(pool.num_threads(), 3);
  }
}

}  // namespace qvl
