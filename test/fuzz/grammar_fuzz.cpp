// Makes a grammar of arbitrary bytes, and follows a text through it. Whatever compiles must allow
// exactly the tokens that it then takes; whatever does not must be refused with a documented code.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/error.h"
#include "constraint/grammar_matcher.h"

namespace {

using namespace qvl;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

/// Numbers out of the input; zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool is_empty() const { return at_ >= size_; }
  uint32_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  uint32_t number() { return byte() < 0xf0 ? byte() : byte() << 16 | byte() << 8 | byte(); }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

GrammarSymbol read_symbol(Input& input) {
  switch (input.byte() % 4) {
    case 0: {
      CharSymbol chars;
      for (uint32_t count = input.byte() % 4; count > 0; --count) {
        const uint32_t first = input.number();
        chars.ranges.push_back({first, first + input.number()});
      }
      return chars;
    }
    case 1: {
      TextSymbol text;
      for (uint32_t count = input.byte() % 5; count > 0; --count) {
        text.text += static_cast<char>(static_cast<uint8_t>(input.byte()));
      }
      return text;
    }
    case 2:
      return RuleSymbol{input.byte() % 8, 1, 1};
    default: {
      RuleSymbol rule{input.byte() % 8, input.number(), std::nullopt};
      if (input.byte() % 2 == 0) rule.max = rule.min + input.number();
      return rule;
    }
  }
}

Grammar read_grammar(Input& input) {
  Grammar grammar;
  grammar.rules.resize(input.byte() % 9);
  for (GrammarRule& rule : grammar.rules) {
    rule.resize(input.byte() % 4);
    for (GrammarSequence& sequence : rule) {
      for (uint32_t count = input.byte() % 4; count > 0; --count) {
        sequence.push_back(read_symbol(input));
      }
    }
  }
  const uint32_t flags = input.byte();
  if (flags % 4 == 1) grammar.triggers = {"a", "(b"};
  grammar.repeat = flags % 8 == 5;
  return grammar;
}

std::shared_ptr<const Vocabulary> vocabulary() {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> lengths = {0};
  const auto add = [&](const std::string& token) {
    bytes.insert(bytes.end(), token.begin(), token.end());
    lengths.push_back(static_cast<int32_t>(token.size()));
  };
  for (int byte = 0; byte < 256; ++byte) add({static_cast<char>(static_cast<uint8_t>(byte))});
  for (const char* token : {"aa", "ab", "aaaaaaaa", "(b)", "\xc3\xa9", "\xe7\x8c", "\xab", "aa"}) {
    add(token);
  }
  return std::make_shared<const Vocabulary>(bytes, lengths, 300);
}

void follow(GrammarMatcher& matcher, Input& input) {
  GrammarMatcher::Cursor cursor(&matcher);
  for (int step = 0; step < 64 && !input.is_empty(); ++step) {
    const TokenSet allowed = cursor.allowed();
    if (cursor.is_complete()) require(!allowed.contains(1 + 'a'), "nothing follows a whole text");
    const auto token = static_cast<int32_t>(input.byte() + (input.byte() % 2) * 9);
    const bool was_allowed = allowed.contains(token);
    require(cursor.advance(token) == was_allowed, "the mask says what may come");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const Vocabulary> tokens = vocabulary();
  Input input(data, size);
  const Grammar grammar = read_grammar(input);
  try {
    AutomatonLimits limits;
    limits.max_work = 300'000;
    limits.max_depth = 50;
    limits.keep_bytes = input.byte() % 2 == 0 ? 0 : 1 << 20;
    GrammarMatcher matcher(grammar, tokens, limits);
    follow(matcher, input);
  } catch (const Error& error) {
    const bool is_known =
        error.code() == "ERR_INVALID_ARGUMENT" || error.code() == "ERR_GRAMMAR_TOO_COMPLEX";
    require(is_known, "the code is a documented one");
    require(std::string(error.what()).size() < 2000, "messages stay short");
  }
  return 0;
}
