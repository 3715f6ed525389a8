// Masks against a recogniser that tries everything, over random grammars.

#include "constraint/grammar_matcher.h"

#include <cstdio>
#include <random>

#include "check.h"
#include "recognizer.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr uint32_t kCharacters[] = {'a', 'a', 'b', 'c', 0xe9, 0x4e2d, 0x1f600};

/// Grammars over a few characters of 1 to 4 bytes, so that all that is odd happens often.
class RandomGrammar {
 public:
  explicit RandomGrammar(uint32_t seed) : random_(seed) {}

  Grammar make() {
    Grammar grammar;
    grammar.rules.resize(1 + below(5));
    for (GrammarRule& rule : grammar.rules) {
      rule.resize(below(12) == 0 ? 0 : 1 + below(3));
      for (GrammarSequence& sequence : rule) {
        const size_t length = below(5);
        for (size_t i = 0; i < length; ++i) {
          sequence.push_back(symbol(static_cast<uint32_t>(grammar.rules.size())));
        }
      }
    }
    return grammar;
  }

  std::string text(size_t max_length) {
    std::string result;
    const size_t length = 1 + below(max_length);
    for (size_t i = 0; i < length; ++i) result += to_utf8(character());
    return result;
  }

  size_t below(size_t bound) { return random_() % bound; }

 private:
  uint32_t character() { return kCharacters[below(std::size(kCharacters))]; }

  GrammarSymbol symbol(uint32_t num_rules) {
    const auto rule = static_cast<uint32_t>(below(num_rules));
    switch (below(8)) {
      case 0:
      case 1:
        return text_symbol(below(6) == 0 ? "" : text(2));
      case 2:
      case 3: {
        std::vector<CharRange> ranges;
        const size_t count = below(10) == 0 ? 0 : 1 + below(2);
        for (size_t i = 0; i < count; ++i) {
          const uint32_t first = character();
          ranges.push_back({first, std::max(first, character())});
        }
        return chars_symbol(ranges);
      }
      case 4: {
        const auto min = static_cast<uint32_t>(below(4));
        if (below(2) == 0) return repeat_symbol(rule, min);
        return repeat_symbol(rule, min, min + static_cast<uint32_t>(below(4)));
      }
      default:
        return rule_symbol(rule);
    }
  }

  std::mt19937 random_;
};

/// All characters' bytes alone, and texts of up to three characters, some with a part of one.
std::vector<std::string> random_tokens(RandomGrammar& random) {
  std::vector<std::string> tokens = {"", "a", "b", "c"};
  for (const uint32_t c : {0xe9u, 0x4e2du, 0x1f600u}) {
    for (const char byte : to_utf8(c)) tokens.push_back({byte});
  }
  for (int i = 0; i < 12; ++i) tokens.push_back(random.text(3));
  for (int i = 0; i < 4; ++i) {
    const std::string text = random.text(3);
    tokens.push_back(text.substr(random.below(text.size())));
    tokens.push_back(text.substr(0, 1 + random.below(text.size())));
  }
  tokens.push_back(tokens.back());  // two ids, the same bytes
  return tokens;
}

bool is_continuation(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

/// Bytes as whole characters and the begin of one more.
struct Split {
  std::string whole, rest;
  bool is_possible = true;  // the whole ones are UTF-8
};

Split split(const std::string& bytes) {
  Split result;
  for (size_t i = 0; i < bytes.size();) {
    const auto lead = static_cast<uint8_t>(bytes[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    const std::string character = bytes.substr(i, length);
    result.is_possible &= length > 0;
    for (size_t k = 1; k < character.size(); ++k) {
      result.is_possible &= is_continuation(character[k]);
    }
    if (!result.is_possible) return result;
    (character.size() == length ? result.whole : result.rest) += character;
    i += length;
  }
  return result;
}

/// Characters that begin with these bytes: the first, and those that the grammars use. Since their
/// ranges end at such characters, a range has one of these or none.
const std::vector<uint32_t>& completions(const std::string& bytes) {
  static std::map<std::string, std::vector<uint32_t>> known;
  const auto [found, is_new] = known.try_emplace(bytes);
  for (uint32_t c = 0x80; is_new && c <= 0x10ffff; ++c) {
    if ((c >= 0xd800 && c <= 0xdfff) || to_utf8(c).compare(0, bytes.size(), bytes) != 0) continue;
    const bool is_used =
        std::find(std::begin(kCharacters), std::end(kCharacters), c) != std::end(kCharacters);
    if (is_used || found->second.empty()) found->second.push_back(c);
  }
  return found->second;
}

/// Whether the bytes begin a text of the grammar.
bool begins(const Grammar& grammar, const std::string& bytes) {
  const auto [whole, rest, is_possible] = split(bytes);
  if (!is_possible) return false;
  if (rest.empty()) return Recognizer(grammar, whole).begins();
  for (const uint32_t c : completions(rest)) {
    if (Recognizer(grammar, whole + to_utf8(c)).begins()) return true;
  }
  return false;
}

}  // namespace

TEST(masks_are_those_of_a_recognizer_that_tries_everything) {
  int num_grammars = 0, num_recursive = 0, num_empty = 0, num_states = 0, num_allowed = 0;
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    RandomGrammar random(seed);
    const Grammar grammar = random.make();
    const std::vector<std::string> tokens = random_tokens(random);
    std::unique_ptr<GrammarMatcher> matcher;
    try {
      AutomatonLimits limits;
      if (seed % 2 == 1) limits.keep_bytes = 0;  // forgets, and finds again, all the time
      matcher = std::make_unique<GrammarMatcher>(grammar, make_vocabulary(tokens), limits);
    } catch (const Error& error) {
      CHECK_EQ(error.code(), "ERR_INVALID_ARGUMENT");
      const bool is_recursive = std::string(error.what()).find("calls itself") != std::string::npos;
      ++(is_recursive ? num_recursive : num_empty);
      if (!is_recursive) CHECK(!Recognizer(grammar, "").matches_any_text());
      continue;
    }
    ++num_grammars;
    for (int walk = 0; walk < 2; ++walk) {
      GrammarMatcher::Cursor cursor(matcher.get());
      std::string text;
      while (text.size() < 12) {
        ++num_states;
        const TokenSet allowed = cursor.allowed();
        std::vector<int32_t> next;
        for (size_t id = 0; id < tokens.size(); ++id) {
          const bool expected = !tokens[id].empty() && begins(grammar, text + tokens[id]);
          if (allowed.contains(static_cast<int32_t>(id)) != expected) {
            fail(__FILE__, __LINE__,
                 "seed " + std::to_string(seed) + ", after '" + text + "', token '" + tokens[id] +
                     "': expected " + std::to_string(expected));
          }
          if (expected) next.push_back(static_cast<int32_t>(id));
        }
        num_allowed += static_cast<int>(next.size());
        const Split read = split(text);
        const bool accepts = read.rest.empty() && Recognizer(grammar, read.whole).accepts();
        CHECK_EQ(cursor.is_accepting(), accepts);
        if (next.empty()) break;
        const int32_t id = next[random.below(next.size())];
        CHECK(cursor.advance(id));
        text += tokens[static_cast<size_t>(id)];
      }
    }
  }
  std::printf("%d grammars, %d left-recursive, %d empty; %d states, %d tokens allowed\n",
              num_grammars, num_recursive, num_empty, num_states, num_allowed);
  CHECK(num_grammars > 1000 && num_allowed > 10000);
}
