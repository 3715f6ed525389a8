#include "constraint/utf8_ranges.h"

#include <random>

#include "check.h"
#include "recognizer.h"

using namespace qvl;
using namespace qvl::test;

namespace {

bool contains(const ByteRangeSequence& sequence, const std::string& bytes) {
  if (bytes.size() != static_cast<size_t>(sequence.length)) return false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (byte < sequence.ranges[i].first || byte > sequence.ranges[i].last) return false;
  }
  return true;
}

uint64_t num_strings(const std::vector<ByteRangeSequence>& sequences) {
  uint64_t total = 0;
  for (const ByteRangeSequence& sequence : sequences) {
    uint64_t product = 1;
    for (int i = 0; i < sequence.length; ++i) {
      const auto [first, last] = sequence.ranges[static_cast<size_t>(i)];
      CHECK(first <= last);
      product *= uint64_t{last} - first + 1;
    }
    total += product;
  }
  return total;
}

bool in_ranges(uint32_t c, const std::vector<CharRange>& ranges) {
  if (c >= 0xd800 && c <= 0xdfff) return false;
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const CharRange& range) { return c >= range.first && c <= range.last; });
}

/// Each code point of the ranges is there once, and there are no strings but those.
void check_exact(const std::vector<CharRange>& ranges) {
  const auto sequences = utf8_sequences(ranges);
  uint64_t expected = 0;
  for (uint32_t c = 0; c <= 0x10ffff; ++c) {
    if (!in_ranges(c, ranges)) continue;
    ++expected;
    const std::string bytes = to_utf8(c);
    CHECK_EQ(std::count_if(sequences.begin(), sequences.end(),
                           [&](const auto& sequence) { return contains(sequence, bytes); }),
             1);
  }
  CHECK_EQ(num_strings(sequences), expected);
}

}  // namespace

TEST(ranges_at_the_borders_of_encoding_lengths_are_exact) {
  check_exact({{0, 0x10ffff}});
  check_exact({{0x7f, 0x80}, {0x7ff, 0x800}, {0xffff, 0x10000}});
  check_exact({{0xd7ff, 0xe000}});
  check_exact({{0x10ffff, 0x10ffff}});
}

TEST(surrogates_have_no_encoding) {
  CHECK(utf8_sequences(std::vector<CharRange>{{0xd800, 0xdfff}}).empty());
  CHECK(utf8_sequences({}).empty());
}

TEST(all_of_unicode_takes_few_sequences) {
  CHECK(utf8_sequences(std::vector<CharRange>{{0, 0x10ffff}}).size() <= 9);
}

TEST(random_ranges_are_exact) {
  std::mt19937 random(1);
  for (int round = 0; round < 12; ++round) {
    std::vector<CharRange> ranges(1 + random() % 4);
    for (CharRange& range : ranges) {
      const uint32_t bound = round % 3 == 0 ? 0x110000 : round % 3 == 1 ? 0x900 : 0x11000;
      range.first = static_cast<uint32_t>(random() % bound);
      const auto length = static_cast<uint32_t>(random() % (bound / 4));
      range.last = std::min<uint32_t>(0x10ffff, range.first + length);
    }
    check_exact(ranges);
  }
}
