#pragma once

// A context-free grammar over Unicode text, as callers describe it.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace qvl {

/// Code points [first, last]. Surrogates among them match nothing.
struct CharRange {
  uint32_t first = 0;
  uint32_t last = 0;
};

/// One code point out of any of the ranges.
struct CharSymbol {
  std::vector<CharRange> ranges;
};

/// The text itself, in UTF-8; may be empty.
struct TextSymbol {
  std::string text;
};

/// What the rule matches, `min` to `max` times; no `max` = any number of times.
struct RuleSymbol {
  uint32_t rule = 0;
  uint32_t min = 1;
  std::optional<uint32_t> max = 1;
};

using GrammarSymbol = std::variant<CharSymbol, TextSymbol, RuleSymbol>;
using GrammarSequence = std::vector<GrammarSymbol>;  // empty = the empty string
using GrammarRule = std::vector<GrammarSequence>;    // alternatives

struct Grammar {
  std::vector<GrammarRule> rules;  // rule 0 is the start
  /// When given, the text is free until it contains one of these; the grammar says what follows.
  std::vector<std::string> triggers;
  /// Whether free text, and further triggers, may follow what the grammar has matched.
  bool repeat = false;
};

/// The most a grammar may consist of: rules, alternatives, symbols, ranges and bytes of text, all
/// counted alike.
inline constexpr size_t kMaxGrammarSize = 250'000;
/// How many times a repetition may be asked for.
inline constexpr uint32_t kMaxRepetition = 1'000'000'000;

/// Throws Error(ERR_INVALID_ARGUMENT), whose details name the rule, for a grammar that is not
/// well-formed: an undefined rule, a range or repetition that runs backwards, an empty trigger, a
/// size beyond the limits.
void check_grammar(const Grammar& grammar);

}  // namespace qvl
