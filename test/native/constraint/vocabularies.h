#pragma once

// Vocabularies for tests, and short ways to write grammars.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "constraint/grammar.h"
#include "constraint/grammar_matcher.h"
#include "constraint/vocabulary.h"

namespace qvl::test {

/// Ids in order; an empty string is an id that is no text.
inline std::shared_ptr<const Vocabulary> make_vocabulary(const std::vector<std::string>& tokens,
                                                         int64_t vocab_size = 0) {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> lengths;
  for (const std::string& token : tokens) {
    bytes.insert(bytes.end(), token.begin(), token.end());
    lengths.push_back(static_cast<int32_t>(token.size()));
  }
  if (vocab_size == 0) vocab_size = static_cast<int64_t>(tokens.size());
  return std::make_shared<const Vocabulary>(bytes, lengths, vocab_size);
}

/// Token id = byte.
inline std::shared_ptr<const Vocabulary> byte_vocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back({static_cast<char>(static_cast<uint8_t>(byte))});
  }
  return make_vocabulary(tokens);
}

inline GrammarSymbol text_symbol(std::string text) { return TextSymbol{std::move(text)}; }
inline GrammarSymbol chars_symbol(std::vector<CharRange> ranges) {
  return CharSymbol{std::move(ranges)};
}
inline GrammarSymbol rule_symbol(uint32_t rule) { return RuleSymbol{rule, 1, 1}; }
inline GrammarSymbol repeat_symbol(uint32_t rule, uint32_t min,
                                   std::optional<uint32_t> max = std::nullopt) {
  return RuleSymbol{rule, min, max};
}

inline Grammar with_rules(std::vector<GrammarRule> rules) {
  Grammar grammar;
  grammar.rules = std::move(rules);
  return grammar;
}

/// JSON values, as RFC 8259 has them.
inline Grammar json_grammar() {
  enum : uint32_t {
    kValue,
    kObject,
    kMembers,
    kMoreMembers,
    kMember,
    kArray,
    kMoreValues,
    kString,
    kChar,
    kHex,
    kNumber,
    kInteger,
    kDigit,
    kFraction,
    kExponent,
    kSign,
    kSpace,
    kBlank
  };
  const auto t = text_symbol;
  const auto r = rule_symbol;
  Grammar grammar;
  grammar.rules.resize(kBlank + 1);
  grammar.rules[kValue] = {{r(kObject)}, {r(kArray)},  {r(kString)}, {r(kNumber)},
                           {t("true")},  {t("false")}, {t("null")}};
  grammar.rules[kObject] = {{t("{"), r(kSpace), repeat_symbol(kMembers, 0, 1), t("}")}};
  grammar.rules[kMembers] = {{r(kMember), repeat_symbol(kMoreMembers, 0)}};
  grammar.rules[kMoreMembers] = {{t(","), r(kSpace), r(kMember)}};
  grammar.rules[kMember] = {{r(kString), r(kSpace), t(":"), r(kSpace), r(kValue), r(kSpace)}};
  grammar.rules[kArray] = {
      {t("["), r(kSpace), t("]")},
      {t("["), r(kSpace), r(kValue), r(kSpace), repeat_symbol(kMoreValues, 0), t("]")}};
  grammar.rules[kMoreValues] = {{t(","), r(kSpace), r(kValue), r(kSpace)}};
  grammar.rules[kString] = {{t("\""), repeat_symbol(kChar, 0), t("\"")}};
  grammar.rules[kChar] = {{chars_symbol({{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}})},
                          {t("\\"), chars_symbol({{'"', '"'},
                                                  {'\\', '\\'},
                                                  {'/', '/'},
                                                  {'b', 'b'},
                                                  {'f', 'f'},
                                                  {'n', 'n'},
                                                  {'r', 'r'},
                                                  {'t', 't'}})},
                          {t("\\u"), repeat_symbol(kHex, 4, 4)}};
  grammar.rules[kHex] = {{chars_symbol({{'0', '9'}, {'a', 'f'}, {'A', 'F'}})}};
  grammar.rules[kNumber] = {{repeat_symbol(kSign, 0, 1), r(kInteger),
                             repeat_symbol(kFraction, 0, 1), repeat_symbol(kExponent, 0, 1)}};
  grammar.rules[kSign] = {{t("-")}};
  grammar.rules[kInteger] = {{t("0")}, {chars_symbol({{'1', '9'}}), repeat_symbol(kDigit, 0)}};
  grammar.rules[kDigit] = {{chars_symbol({{'0', '9'}})}};
  grammar.rules[kFraction] = {{t("."), repeat_symbol(kDigit, 1)}};
  grammar.rules[kExponent] = {{chars_symbol({{'e', 'e'}, {'E', 'E'}}), repeat_symbol(kDigit, 1)},
                              {chars_symbol({{'e', 'e'}, {'E', 'E'}}),
                               chars_symbol({{'+', '+'}, {'-', '-'}}), repeat_symbol(kDigit, 1)}};
  grammar.rules[kSpace] = {{repeat_symbol(kBlank, 0)}};
  grammar.rules[kBlank] = {{chars_symbol({{' ', ' '}, {'\n', '\n'}, {'\r', '\r'}, {'\t', '\t'}})}};
  return grammar;
}

/// Reads `text` byte by byte: whether it begins a text of the grammar, and is one.
struct Reading {
  bool begins = true;
  bool accepts = false;
};

/// `matcher` is one over byte_vocabulary().
inline Reading read(GrammarMatcher& matcher, const std::string& text) {
  GrammarMatcher::Cursor cursor(&matcher);
  for (const char c : text) {
    if (!cursor.advance(static_cast<uint8_t>(c))) return {false, false};
  }
  return {true, cursor.is_accepting()};
}

}  // namespace qvl::test
