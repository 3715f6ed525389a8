#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "constraint/grammar.h"

namespace qvl {

struct ByteRange {
  uint8_t first = 0;
  uint8_t last = 0;
};

/// The byte strings with one byte of each of the first `length` ranges, in order.
struct ByteRangeSequence {
  std::array<ByteRange, 4> ranges{};
  int length = 0;
};

/// The UTF-8 encodings of all code points in the ranges but surrogates, each exactly once: the
/// sequences are disjoint.
std::vector<ByteRangeSequence> utf8_sequences(std::span<const CharRange> ranges);

}  // namespace qvl
