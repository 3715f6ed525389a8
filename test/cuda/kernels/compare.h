#pragma once

// Random inputs of the kernels' tests, and comparisons with double precision.

#include <cmath>
#include <cstdint>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "kernels/gpu.h"

namespace qvl::test {

/// Normally distributed, the same on every machine that has the same library.
inline std::vector<float> random_values(size_t count, unsigned seed, float scale = 1.f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = scale * normal(generator);
  return values;
}

/// As many, each a number of the 16-bit type.
inline std::vector<float> random_halves(size_t count, unsigned seed, Half type, float scale = 1.f) {
  return widen(narrow(random_values(count, seed, scale), type), type);
}

/// Twice the error of rounding a number of size 1 to the type: what an output may be off by, of its
/// own size, when everything before the last rounding is much more precise.
inline double rounding_of(Half type) { return type == Half::kBf16 ? 0x1p-8 : 0x1p-10; }

/// What an element should be, and how far it may be off beyond the rounding of itself. NaN: what
/// the test has put there and the kernel leaves alone.
struct Expected {
  double value = 0.0;
  double slack = 0.0;
};

/// Compares [rows, cols] of 16-bit numbers with what they should be; `where` names the case.
inline void check_rows(const std::vector<float>& actual, size_t stride,
                       const std::vector<Expected>& expected, size_t cols, Half type,
                       const std::string& where) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = actual[i / cols * stride + i % cols];
    if (std::isnan(value) && std::isnan(expected[i].value)) continue;
    const double allowed = expected[i].slack + rounding_of(type) * std::fabs(expected[i].value);
    if (value == expected[i].value || std::fabs(value - expected[i].value) <= allowed) continue;
    std::ostringstream out;
    out << where << ": row " << i / cols << ", column " << i % cols << " is " << value
        << ", expected " << expected[i].value << " within " << allowed;
    fail(__FILE__, __LINE__, out.str());
  }
}

/// What a kernel must leave alone: columns [cols, stride) of each row still hold `bits`.
inline void check_untouched(const std::vector<uint16_t>& actual, size_t stride, size_t cols,
                            uint16_t bits, const std::string& where) {
  for (size_t i = 0; i < actual.size(); ++i) {
    if (i % stride < cols || actual[i] == bits) continue;
    fail(__FILE__, __LINE__,
         where + ": wrote to row " + std::to_string(i / stride) + ", column " +
             std::to_string(i % stride) + ", which is not its output");
  }
}

template <class... T>
std::string describe(const T&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace qvl::test
