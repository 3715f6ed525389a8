#include "machine.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "block_runner.h"
#include "checker.h"
#include "report.h"

namespace qvl::sim {
namespace {

constexpr size_t kSharedLimit = 227 * 1024;

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

// Serials across launches; launches are run one at a time.
struct History {
  std::mutex mutex;
  uint32_t next_block = 1;
  uint32_t unfinished = 1;  // first block of the launches that a programmatic one may overlap
  uint32_t launches = 0;
};
History& history() {
  static auto* h = new History;
  return *h;
}

void check_shape(const Launch& launch) {
  uint64_t threads = 1;
  for (const uint32_t n : launch.block) threads *= n;
  if (threads == 0 || threads > static_cast<uint64_t>(launch.program->max_threads))
    throw KernelError(launch.program->name + ": a block of " + std::to_string(threads) +
                      " threads; the kernel's limit is " +
                      std::to_string(launch.program->max_threads));
  if (launch.shared_bytes > kSharedLimit)
    throw KernelError(launch.program->name + ": " + std::to_string(launch.shared_bytes) +
                      " bytes of shared memory; no supported GPU has more than " +
                      std::to_string(kSharedLimit));
  if (launch.grid[1] > 65535 || launch.grid[2] > 65535)
    throw KernelError("grid y or z exceeds 65535");
}

std::vector<uint64_t> block_order(const Options& options, uint64_t total) {
  std::vector<uint64_t> order(total);
  for (uint64_t i = 0; i < total; ++i)
    order[i] = options.order == Order::kReverse ? total - 1 - i : i;
  if (options.order == Order::kRandom) {
    std::mt19937_64 random(options.seed);
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

// Runs `work` on several threads, each with a function that hands it block after block. Rethrows
// the first failure.
void run_in_parallel(const std::vector<uint64_t>& order, size_t num_threads,
                     const std::function<void(const std::function<bool(uint64_t*)>&)>& work) {
  std::atomic<size_t> taken{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const std::function<bool(uint64_t*)> next = [&](uint64_t* i) {
    const size_t at = taken++;
    if (at >= order.size()) return false;
    *i = order[at];
    return true;
  };
  std::vector<std::thread> threads;
  for (size_t t = 0; t < num_threads; ++t) {
    threads.emplace_back([&] {
      try {
        work(next);
      } catch (...) {
        taken = order.size();
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Options Options::from_environment() {
  Options o;
  const std::string order = environment("QWEN2_VL_SIM_ORDER", "forward");
  o.order = order == "reverse"  ? Order::kReverse
            : order == "random" ? Order::kRandom
                                : Order::kForward;
  o.copies_early = environment("QWEN2_VL_SIM_COPIES", "late") == "early";
  o.seed = std::strtoull(environment("QWEN2_VL_SIM_SEED", "1").c_str(), nullptr, 10);
  o.check = environment("QWEN2_VL_SIM_CHECK", "1") != "0";
  o.report = environment("QWEN2_VL_SIM_REPORT", "");
  const std::string threads = std::to_string(std::thread::hardware_concurrency());
  o.threads =
      std::strtoul(environment("QWEN2_VL_SIM_THREADS", threads.c_str()).c_str(), nullptr, 10);
  return o;
}

void fail(const Warp& w, const Instruction& in, int lane, const std::string& what,
          KernelError::Kind kind) {
  const Block& block = *w.block;
  const auto& b = block.index;
  throw KernelError(block.program->name + ", block (" + std::to_string(b[0]) + "," +
                        std::to_string(b[1]) + "," + std::to_string(b[2]) + ") thread " +
                        std::to_string(w.index * kLanes + lane) + " at " +
                        block.program->describe(in) + ": " + what,
                    kind);
}

void run_launch(const Launch& launch, const Options& options) {
  check_shape(launch);
  History& h = history();
  std::lock_guard lock(h.mutex);
  const uint64_t total = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  const uint32_t first_block = h.next_block;
  h.next_block += static_cast<uint32_t>(total);
  ++h.launches;
  Checker checker;
  if (options.check) checker.begin_launch(first_block, h.unfinished, launch.programmatic);
  // A launch of the ordinary kind comes after everything before it.
  if (!launch.programmatic) h.unfinished = first_block;

  const std::vector<uint64_t> order = block_order(options, total);
  const auto run = [&](BlockRunner& runner, uint64_t i) {
    const auto& g = launch.grid;
    runner.run({static_cast<uint32_t>(i % g[0]), static_cast<uint32_t>(i / g[0] % g[1]),
                static_cast<uint32_t>(i / g[0] / g[1])},
               first_block + static_cast<uint32_t>(i));
  };
  const size_t threads = std::min<uint64_t>(options.threads, total);
  if (!options.check && options.report.empty() && threads > 1) {
    run_in_parallel(order, threads, [&](const std::function<bool(uint64_t*)>& next) {
      BlockRunner runner(launch, options, nullptr, nullptr, h.launches);
      for (uint64_t i = 0; next(&i);) run(runner, i);
    });
    return;
  }
  std::vector<SiteCounters> counters(options.report.empty() ? 0 : launch.program->code.size());
  BlockRunner runner(launch, options, options.check ? &checker : nullptr,
                     counters.empty() ? nullptr : counters.data(), h.launches);
  for (const uint64_t i : order) run(runner, i);
  if (!counters.empty()) write_report(options.report, launch, counters, runner.touched_sectors());
}

void synchronize_launches() {
  History& h = history();
  std::lock_guard lock(h.mutex);
  h.unfinished = h.next_block;
}

void note_library_kernel(uint64_t address, size_t bytes) {
  History& h = history();
  std::lock_guard lock(h.mutex);
  const uint32_t serial = h.next_block++;
  h.unfinished = serial;
  if (bytes == 0) return;
  DeviceMemory& memory = DeviceMemory::instance();
  GlobalShadow* end = memory.shadow(address + bytes - 1) + 1;
  for (GlobalShadow* s = memory.shadow(address); s != end; ++s) s->writer = serial;
}

}  // namespace qvl::sim
