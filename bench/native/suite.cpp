#include "suite.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "backend/cpu/cpu_backend.h"

namespace qvl::bench {
namespace {

double seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

void print_numbers(const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.6g", i == 0 ? "" : ",", values[i]);
}

}  // namespace

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
    const double start = seconds();
    do {
      const double begin = seconds();
      body();
      passes.push_back(seconds() - begin);
    } while (seconds() - start < options_.seconds);
    // As with the limits, a good pass: the shortest may be an error of the clock.
    const auto good = passes.begin() + static_cast<std::ptrdiff_t>(passes.size() / 5);
    std::nth_element(passes.begin(), good, passes.end());
    rounds.push_back(*good);
  }
  measure(limits);
  std::printf("{\"kernel\":\"%s\",\"bytes\":%.6g,\"fp32\":%.6g,\"int8\":%.6g,", which.name.c_str(),
              which.bytes, which.fp32, which.int8);
  std::printf("\"seconds\":[");
  print_numbers(rounds);
  std::printf("],\"limits\":[");
  for (const Limit& limit : limits) {
    std::printf("%s{\"name\":\"%s\",\"rates\":[", &limit == &limits[0] ? "" : ",",
                limit.name.c_str());
    print_numbers(limit.rates);
    std::printf("]}");
  }
  std::printf("]}\n");
  std::fflush(stdout);
}

void Suite::print_machine() const {
  const DeviceInfo& device = backend_->device();
  std::printf("{\"processor\":\"%s\",\"instructionSet\":\"%s\",\"threads\":%d}\n",
              device.name.c_str(), device.instruction_set.c_str(), device.threads);
}

std::vector<float> numbers(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.2f;
  }
  return values;
}

Tensor tensor(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}

int copies_beyond_caches(double bytes) { return std::max(1, static_cast<int>(300e6 / bytes)); }

}  // namespace qvl::bench
