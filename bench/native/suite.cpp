#include "suite.h"

#include <algorithm>
#include <cstdio>

#include "backend/cpu/cpu_backend.h"

namespace qvl::bench {

Suite::Suite(const Options& options)
    : options_(options),
      backend_(create_cpu_backend(
          {.threads = options.threads, .instruction_set = options.instruction_set})),
      machine_(backend_->device().threads) {}

bool Suite::wants(const std::string& name) const {
  return name.find(options_.filter) != std::string::npos;
}

void Suite::measure(std::vector<Limit>& limits) {
  for (Limit& limit : limits) {
    // The arithmetic rates need no more than a few passes in cache.
    const double time = limit.name == "read" ? options_.seconds : options_.seconds / 6;
    limit.rates.push_back(machine_.measure(limit.name, time));
  }
}

void Suite::run(const Case& which, const std::function<void()>& body) {
  if (!wants(which.name)) return;
  body();  // touches its memory for the first time
  std::vector<Limit> limits;
  for (const std::string& name : MachineLimits::names()) limits.push_back({name, {}});
  std::vector<double> rounds;
  for (int round = 0; round < options_.rounds; ++round) {
    measure(limits);
    std::vector<double> passes;
    const double start = now();
    do {
      const double begin = now();
      body();
      passes.push_back(now() - begin);
    } while (now() - start < options_.seconds);
    // As with the limits, a good pass: the shortest may be an error of the clock.
    const auto good = passes.begin() + static_cast<std::ptrdiff_t>(passes.size() / 5);
    std::nth_element(passes.begin(), good, passes.end());
    rounds.push_back(*good);
  }
  measure(limits);
  print_case(which, rounds, limits);
}

void Suite::print_machine() const {
  const DeviceInfo& device = backend_->device();
  std::printf("{\"processor\":\"%s\",\"instructionSet\":\"%s\",\"threads\":%d}\n",
              device.name.c_str(), device.instruction_set.c_str(), device.threads);
}

Tensor tensor(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}

int copies_beyond_caches(double bytes) { return std::max(1, static_cast<int>(300e6 / bytes)); }

}  // namespace qvl::bench
