#pragma once

// Test pictures by formula: the counterpart of test/golden/resample/patterns.py.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "io/image.h"

namespace qvl::test {

inline uint32_t hash32(uint64_t index, uint64_t seed) {
  auto h = static_cast<uint32_t>((index + 1) * 2654435761u + (seed + 1) * 40503u);
  h ^= h >> 15;
  h *= 2246822519u;
  return h ^ (h >> 13);
}

inline uint64_t pattern_value(std::string_view pattern, uint64_t seed, uint64_t width, uint64_t x,
                              uint64_t y, uint64_t c) {
  if (pattern == "noise") return hash32((y * width + x) * 3 + c, seed) >> 24;
  if (pattern == "checker") return (x / 3 + y / 3 + c + seed) % 2 * 255;
  if (pattern == "stripes") return ((c == 1 ? y : x) + seed) % 2 * 255;
  if (pattern == "gradient") {
    return x * 255 / std::max<uint64_t>(width - 1, 1) * (c + 1) + y + seed;
  }
  if (pattern == "waves") {
    x += 9 * seed;
    return c == 0 ? 7 * x + 3 * y : c == 1 ? 5 * x + 11 * y + 40 : x * x + y;
  }
  if (pattern == "dots") return (x * 5 + y * 3 + c + seed) % 17 == 0 ? 255 : 0;
  throw std::invalid_argument("no such pattern");
}

inline RgbImage picture(std::string_view pattern, int width, int height, uint64_t seed = 0) {
  RgbImage image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        image.pixels.push_back(static_cast<uint8_t>(
            pattern_value(pattern, seed, static_cast<uint64_t>(width), static_cast<uint64_t>(x),
                          static_cast<uint64_t>(y), static_cast<uint64_t>(c))));
      }
    }
  }
  return image;
}

/// FNV-1a, 64 bits.
class Fnv1a {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    for (size_t i = 0; i < size; ++i) value_ = (value_ ^ bytes[i]) * 0x100000001B3u;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325u;
};

/// The lines of a recording, without comments.
inline std::vector<std::istringstream> recorded_cases(const std::string& path) {
  std::ifstream file(std::string(QVL_TEST_DIR) + "/golden/" + path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<std::istringstream> cases;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line[0] != '#') cases.emplace_back(line);
  }
  return cases;
}

}  // namespace qvl::test
