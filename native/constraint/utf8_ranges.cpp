#include "constraint/utf8_ranges.h"

#include <algorithm>

namespace qvl {
namespace {

/// Code points that are encoded in equally many bytes.
struct LengthClass {
  uint32_t first, last;
  int length;
};

// The surrogates, U+D800 to U+DFFF, are between two of them.
constexpr LengthClass kLengthClasses[] = {{0, 0x7f, 1},
                                          {0x80, 0x7ff, 2},
                                          {0x800, 0xd7ff, 3},
                                          {0xe000, 0xffff, 3},
                                          {0x10000, 0x10ffff, 4}};

constexpr uint8_t kLeadBits[] = {0, 0x00, 0xc0, 0xe0, 0xf0};

uint8_t encoded_byte(uint32_t code_point, int length, int index) {
  const uint32_t bits = code_point >> (6 * (length - 1 - index));
  if (index > 0) return static_cast<uint8_t>(0x80 | (bits & 0x3f));
  return static_cast<uint8_t>(kLeadBits[length] | bits);
}

/// Cuts the range until, in each piece, the bytes behind the first one that differs take all their
/// 64 values: a piece is then one product of byte ranges.
void add_range(CharRange range, int length, std::vector<ByteRangeSequence>& result) {
  for (int low_bits = 6; low_bits < 6 * length; low_bits += 6) {
    const uint32_t low = (uint32_t{1} << low_bits) - 1;
    if ((range.first & ~low) == (range.last & ~low)) break;  // they differ in the low bits only
    if ((range.first & low) != 0) {
      add_range({range.first, range.first | low}, length, result);
      add_range({(range.first | low) + 1, range.last}, length, result);
      return;
    }
    if ((range.last & low) != low) {
      add_range({range.first, (range.last & ~low) - 1}, length, result);
      add_range({range.last & ~low, range.last}, length, result);
      return;
    }
  }
  ByteRangeSequence sequence;
  sequence.length = length;
  for (int i = 0; i < length; ++i) {
    sequence.ranges[static_cast<size_t>(i)] = {encoded_byte(range.first, length, i),
                                               encoded_byte(range.last, length, i)};
  }
  result.push_back(sequence);
}

/// Sorted, without overlaps or neighbours that could be one.
std::vector<CharRange> merged(std::span<const CharRange> ranges) {
  std::vector<CharRange> sorted(ranges.begin(), ranges.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const CharRange& a, const CharRange& b) { return a.first < b.first; });
  std::vector<CharRange> result;
  for (const CharRange& range : sorted) {
    if (result.empty() || range.first > result.back().last + 1) {
      result.push_back(range);
    } else {
      result.back().last = std::max(result.back().last, range.last);
    }
  }
  return result;
}

}  // namespace

std::vector<ByteRangeSequence> utf8_sequences(std::span<const CharRange> ranges) {
  std::vector<ByteRangeSequence> result;
  for (const CharRange& range : merged(ranges)) {
    for (const LengthClass& part : kLengthClasses) {
      const CharRange within{std::max(range.first, part.first), std::min(range.last, part.last)};
      if (within.first <= within.last) add_range(within, part.length, result);
    }
  }
  return result;
}

}  // namespace qvl
