#pragma once

// Random inputs and the instruction sets to test, for the tests of kernels and backend.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/processor.h"

namespace qvl::test {

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    // Four uniform numbers are normal enough, and the same on every standard library.
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(generator() >> 8) * 0x1p-24f - 0.5f;
    value = sum * 1.7f * deviation;
  }
  return values;
}

/// `values` rounded to `format`, as stored bytes.
inline std::vector<char> as_format(const std::vector<float>& values, kernels::Format format) {
  std::vector<char> bytes(values.size() * kernels::format_size(format));
  for (size_t i = 0; i < values.size(); ++i) {
    kernels::store(bytes.data(), format, static_cast<int64_t>(i), values[i]);
  }
  return bytes;
}

/// What stored numbers are worth.
inline std::vector<float> as_floats(const std::vector<char>& bytes, kernels::Format format) {
  std::vector<float> values(bytes.size() / kernels::format_size(format));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = kernels::load(bytes.data(), format, static_cast<int64_t>(i));
  }
  return values;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// The kernels over vector_generic.h: only the tests have them.
const kernels::KernelTable& generic_kernels();

/// The versions that this processor can run, the scalar one first.
inline std::vector<const kernels::KernelTable*> all_kernels() {
  std::vector<const kernels::KernelTable*> tables = kernels::available_kernels();
  std::reverse(tables.begin(), tables.end());
  tables.push_back(&generic_kernels());
  return tables;
}

/// Without the scalar one.
inline std::vector<const kernels::KernelTable*> vector_kernels() {
  std::vector<const kernels::KernelTable*> tables = all_kernels();
  tables.erase(tables.begin());
  return tables;
}

/// That `actual`, from `table`, is what the scalar kernels gave: bit for bit; or, of a set without
/// fused multiply-adds, within `tolerance` of it (of one, where it is smaller).
inline bool agrees(const kernels::KernelTable& table, const std::vector<float>& actual,
                   const std::vector<float>& expected, double tolerance = 1e-5) {
  if (table.has_scalar_bits) return same_bits(actual, expected);
  return std::equal(actual.begin(), actual.end(), expected.begin(), expected.end(),
                    [&](double a, double b) {
                      return std::fabs(a - b) <= tolerance * std::max(1.0, std::fabs(b));
                    });
}

constexpr kernels::Format kFormats[] = {kernels::Format::kF32, kernels::Format::kBF16,
                                        kernels::Format::kF16};

inline std::string name_of(kernels::Format format) {
  return format == kernels::Format::kF32    ? "F32"
         : format == kernels::Format::kBF16 ? "BF16"
                                            : "F16";
}

}  // namespace qvl::test
