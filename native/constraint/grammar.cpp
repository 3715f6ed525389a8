#include "constraint/grammar.h"

#include <utility>

#include "common/error.h"

namespace qvl {
namespace {

constexpr uint32_t kLastCodePoint = 0x10ffff;

/// Where a symbol stands, for messages.
struct Place {
  size_t rule = 0, sequence = 0, symbol = 0;
};

[[noreturn]] void refuse(const Place& at, const std::string& message) {
  const std::string path = "grammar.rules[" + std::to_string(at.rule) + "][" +
                           std::to_string(at.sequence) + "][" + std::to_string(at.symbol) + "]";
  throw Error("ERR_INVALID_ARGUMENT", path + " " + message,
              {{"path", path}, {"rule", static_cast<int64_t>(at.rule)}});
}

void check(const CharSymbol& symbol, const Place& at) {
  for (const CharRange& range : symbol.ranges) {
    if (range.first <= range.last && range.last <= kLastCodePoint) continue;
    refuse(at, "has the range " + std::to_string(range.first) + " to " +
                   std::to_string(range.last) +
                   "; a range goes upward and ends at 1114111, the last code point");
  }
}

void check(const RuleSymbol& symbol, const Place& at, size_t num_rules) {
  if (symbol.rule >= num_rules) {
    refuse(at, "names rule " + std::to_string(symbol.rule) + "; the grammar has " +
                   std::to_string(num_rules) + " rules: define it");
  }
  const uint32_t largest = symbol.max.value_or(symbol.min);
  if (symbol.min > largest) {
    refuse(at, "repeats at least " + std::to_string(symbol.min) + " and at most " +
                   std::to_string(largest) + " times; the first must not be larger");
  }
  if (largest > kMaxRepetition) {
    refuse(at, "repeats " + std::to_string(largest) + " times; at most " +
                   std::to_string(kMaxRepetition) + " are supported: leave the bound away");
  }
}

size_t size_of(const GrammarSymbol& symbol) {
  if (const auto* chars = std::get_if<CharSymbol>(&symbol)) return 1 + chars->ranges.size();
  if (const auto* text = std::get_if<TextSymbol>(&symbol)) return 1 + text->text.size();
  return 1;
}

void check_size(const Grammar& grammar) {
  size_t size = grammar.rules.size();
  for (const GrammarRule& rule : grammar.rules) {
    size += rule.size();
    for (const GrammarSequence& sequence : rule) {
      for (const GrammarSymbol& symbol : sequence) size += size_of(symbol);
    }
  }
  for (const std::string& trigger : grammar.triggers) size += trigger.size();
  if (size <= kMaxGrammarSize) return;
  throw Error("ERR_INVALID_ARGUMENT",
              "the grammar has " + std::to_string(size) +
                  " rules, alternatives, symbols, ranges and bytes of text; at most " +
                  std::to_string(kMaxGrammarSize) +
                  " are supported: share what occurs often as a rule",
              {{"path", std::string("grammar")}});
}

}  // namespace

void check_grammar(const Grammar& grammar) {
  if (grammar.rules.empty()) {
    throw Error("ERR_INVALID_ARGUMENT", "the grammar has no rules; it needs at least one",
                {{"path", std::string("grammar.rules")}});
  }
  for (const std::string& trigger : grammar.triggers) {
    if (!trigger.empty()) continue;
    throw Error("ERR_INVALID_ARGUMENT",
                "a trigger of the grammar is empty: leave triggers away to constrain all text",
                {{"path", std::string("grammar.triggers")}});
  }
  check_size(grammar);
  Place at;
  for (at.rule = 0; at.rule < grammar.rules.size(); ++at.rule) {
    const GrammarRule& rule = grammar.rules[at.rule];
    for (at.sequence = 0; at.sequence < rule.size(); ++at.sequence) {
      const GrammarSequence& sequence = rule[at.sequence];
      for (at.symbol = 0; at.symbol < sequence.size(); ++at.symbol) {
        const GrammarSymbol& symbol = sequence[at.symbol];
        if (const auto* chars = std::get_if<CharSymbol>(&symbol)) check(*chars, at);
        if (const auto* call = std::get_if<RuleSymbol>(&symbol)) {
          check(*call, at, grammar.rules.size());
        }
      }
    }
  }
}

}  // namespace qvl
