#include "case.h"

#include <chrono>
#include <cstdio>

namespace qvl::bench {
namespace {

void print_numbers(const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.6g", i == 0 ? "" : ",", values[i]);
}

}  // namespace

void print_case(const Case& which, const std::vector<double>& seconds,
                const std::vector<Limit>& limits) {
  std::printf("{\"kernel\":\"%s\",\"bytes\":%.6g,\"fp32\":%.6g,\"int8\":%.6g,", which.name.c_str(),
              which.bytes, which.fp32, which.int8);
  std::printf("\"seconds\":[");
  print_numbers(seconds);
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

double now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
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

}  // namespace qvl::bench
