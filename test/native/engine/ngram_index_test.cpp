#include "engine/ngram_index.h"

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"

using namespace qvl;

namespace {

std::vector<int32_t> tokens_of(const std::string& text) { return {text.begin(), text.end()}; }

/// How an index over the letters of `text` goes on behind it; '#' and '%' are barriers.
std::string continuation(const std::string& text, size_t count) {
  NgramIndex index('#', '%');
  const std::vector<int32_t> tokens = tokens_of(text);
  index.extend(tokens);
  std::string result;
  for (const int32_t token : index.continuation(tokens, count)) {
    result.push_back(static_cast<char>(token));
  }
  return result;
}

/// The same by definition: the longest run of last letters, then its latest earlier occurrence.
std::string searched(const std::string& text, size_t count) {
  for (size_t length = 4; length >= 2; --length) {
    if (text.size() <= length) continue;
    const std::string last = text.substr(text.size() - length);
    const size_t at = text.rfind(last, text.size() - length - 1);
    if (at == std::string::npos) continue;
    std::string all = text;
    for (size_t i = 0; i < count; ++i) all.push_back(all[at + length + i]);
    return all.substr(text.size());
  }
  return "";
}

}  // namespace

TEST(goes_on_as_behind_the_latest_occurrence_of_the_longest_match) {
  CHECK_EQ(continuation("abcdefgh-abcd", 3), "efg");
  CHECK_EQ(continuation("abcdX abcdY abcd", 1), "Y");      // the latest of two
  CHECK_EQ(continuation("abcdX bcdY cdZ -abcd", 1), "X");  // the longest of three
  CHECK_EQ(continuation("abcdX bcdY cdZ -bcd", 1), "Y");
  CHECK_EQ(continuation("abcdX bcdY cdZ -cd", 1), "Z");
  CHECK_EQ(continuation("abcdX bcdY cdZ -d", 1), "");  // one letter tells nothing
  CHECK_EQ(continuation("abcdefgh", 4), "");
  CHECK_EQ(continuation("", 4), "");
  CHECK_EQ(continuation("ab", 4), "");
}

TEST(a_repetition_goes_on_beyond_the_end_of_the_text) {
  CHECK_EQ(continuation("xyyy", 5), "yyyyy");
  CHECK_EQ(continuation("-abcabc", 7), "abcabca");
  CHECK_EQ(continuation("-abcdeabc", 7), "deabcde");
}

TEST(nothing_is_found_across_a_barrier_nor_goes_on_into_one) {
  CHECK_EQ(continuation("abcd#efgh abcd", 4), "");
  CHECK_EQ(continuation("abcdef#gh abcd", 4), "ef");
  CHECK_EQ(continuation("abcdef%gh abcd", 4), "ef");
  CHECK_EQ(continuation("ab#cdX abcd", 1), "X");  // "cd" alone
  CHECK_EQ(continuation("########", 4), "");
  CHECK_EQ(continuation("a#b#a#b#a", 4), "");
}

TEST(is_what_a_search_finds_however_the_text_arrives) {
  // Texts of few letters, so that matches of all lengths abound, long enough to grow the tables.
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    uint32_t state = seed;
    std::string text;
    NgramIndex index('#', '%');
    for (int i = 0; i < 400; ++i) {
      state = state * 1664525u + 1013904223u;
      text.push_back(static_cast<char>('a' + (state >> 24) % (2 + seed)));
      if ((state >> 8) % 3 == 0) continue;  // several tokens at once, as a draft brings them
      const std::vector<int32_t> tokens = tokens_of(text);
      index.extend(tokens);
      std::string found;
      for (const int32_t token : index.continuation(tokens, 6)) {
        found.push_back(static_cast<char>(token));
      }
      CHECK_EQ(found, searched(text, 6));
    }
  }
}

TEST(memory_is_bounded_by_the_tokens) {
  std::vector<int32_t> tokens;
  NgramTable table(2);
  for (int32_t i = 0; i < 10'000; ++i) {
    tokens.push_back(i);
    if (i >= 2) table.insert(tokens, tokens.size() - 1);
  }
  CHECK(table.num_slots() <= 4 * tokens.size());
  const size_t before = table.num_slots();
  std::vector<int32_t> same(20'000, 7);  // one n-gram, over and over
  NgramTable repeated(2);
  for (size_t i = 2; i < same.size(); ++i) repeated.insert(same, i);
  CHECK_EQ(repeated.num_slots(), 64u);
  CHECK(before > 64u);
}
