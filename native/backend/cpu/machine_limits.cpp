#include "backend/cpu/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <sstream>

#include "backend/cpu/cpu_features.h"
#include "common/error.h"
#include "kernels/cpu/peak.h"

namespace qvl {
namespace {

constexpr const char* kRead = "read";
// More than the caches of the cores that one process runs on.
constexpr size_t kReadBytes = size_t{512} << 20;
// About a tenth of a millisecond: short beside what else the system may want the core for.
constexpr int64_t kPeakSteps = 20000;

// Takes the results of the loops, so that they are not left out.
std::atomic<float> sink;

bool has_all(const CpuFeatures& processor, const char* features) {
  std::istringstream words(features);
  for (std::string word; words >> word;) {
    const auto& sets = processor.instruction_sets;
    if (std::find(sets.begin(), sets.end(), word) == sets.end()) return false;
  }
  return true;
}

/// The time of a good pass in seconds: a fifth of them, at least five in all, are shorter. Not the
/// shortest, since a virtual machine's clock is at times wrong by more than what is measured; nor
/// the median, since new threads may share a core until the system has spread them.
template <class Pass>
double good_pass(double seconds, const Pass& pass) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  const Clock::time_point start = Clock::now();
  std::vector<double> times;
  while (times.size() < 5 || Seconds(Clock::now() - start).count() < seconds) {
    const Clock::time_point begin = Clock::now();
    pass();
    times.push_back(Seconds(Clock::now() - begin).count());
  }
  const auto good = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 5);
  std::nth_element(times.begin(), good, times.end());
  return *good;
}

}  // namespace

MachineLimits::MachineLimits(int threads)
    : pool_(threads > 0 ? threads : usable_physical_cores()) {}

std::vector<std::string> MachineLimits::names() {
  const CpuFeatures processor = detect_cpu_features();
  std::vector<std::string> names = {kRead};
  for (const kernels::PeakRate& rate : kernels::peak_rates()) {
    if (has_all(processor, rate.features)) names.emplace_back(rate.name);
  }
  return names;
}

double MachineLimits::measure(std::string_view name, double seconds) {
  if (name == kRead) return measure_read(seconds);
  const CpuFeatures processor = detect_cpu_features();
  for (const kernels::PeakRate& rate : kernels::peak_rates()) {
    if (name != rate.name || !has_all(processor, rate.features)) continue;
    const auto compute = [&] {
      pool_.run_static(pool_.num_threads(), 1, [&](int64_t, int64_t, int) {
        sink.store(rate.run(kPeakSteps), std::memory_order_relaxed);
      });
    };
    const double steps = static_cast<double>(kPeakSteps) * pool_.num_threads();
    return rate.operations_per_step * steps / good_pass(seconds, compute);
  }
  std::string message = "'";
  message += name;
  message += "' is no limit of this machine; it has";
  for (const std::string& each : names()) message += " '" + each + "'";
  throw Error("ERR_INVALID_ARGUMENT", message + ".");
}

double MachineLimits::measure_read(double seconds) {
  if (memory_.size_bytes() == 0) {
    memory_ = PageMemory(kReadBytes, PageUse::kHuge, "the measurement of the memory bandwidth");
    pool_.run_static(kReadBytes, 4096, [&](int64_t begin, int64_t end, int) {
      std::memset(static_cast<char*>(memory_.data()) + begin, 0, static_cast<size_t>(end - begin));
    });
  }
  const CpuFeatures processor = detect_cpu_features();
  const auto loops = kernels::read_loops();
  const auto loop = std::find_if(loops.begin(), loops.end(), [&](const kernels::ReadLoop& each) {
    return has_all(processor, each.features);
  });
  const auto* data = static_cast<const float*>(memory_.data());
  const auto read = [&] {
    pool_.run_static(kReadBytes / sizeof(float), 4096, [&](int64_t begin, int64_t end, int) {
      sink.store(loop->run(data + begin, end - begin), std::memory_order_relaxed);
    });
  };
  return static_cast<double>(kReadBytes) / good_pass(seconds, read);
}

}  // namespace qvl
