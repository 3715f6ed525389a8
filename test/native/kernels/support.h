#pragma once

// Random inputs and the instruction sets to test, for the tests of kernels and backend.

#include <algorithm>
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

/// The versions that this processor can run, the scalar one first: its bits are expected of all.
inline std::vector<const kernels::KernelTable*> all_kernels() {
  std::vector<const kernels::KernelTable*> tables = kernels::available_kernels();
  std::reverse(tables.begin(), tables.end());
  return tables;
}

/// Without the scalar one.
inline std::vector<const kernels::KernelTable*> vector_kernels() {
  std::vector<const kernels::KernelTable*> tables = all_kernels();
  tables.erase(tables.begin());
  return tables;
}

constexpr kernels::Format kFormats[] = {kernels::Format::kF32, kernels::Format::kBF16,
                                        kernels::Format::kF16};

inline std::string name_of(kernels::Format format) {
  return format == kernels::Format::kF32    ? "F32"
         : format == kernels::Format::kBF16 ? "BF16"
                                            : "F16";
}

}  // namespace qvl::test
