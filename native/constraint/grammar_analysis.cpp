#include "constraint/grammar_analysis.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace qvl {
namespace {

/// What a property of a symbol depends on.
enum class Holds : uint8_t { kNever, kAlways, kIfRuleDoes };

bool has_code_point(const CharSymbol& symbol) {
  return std::any_of(symbol.ranges.begin(), symbol.ranges.end(), [](const CharRange& range) {
    return range.first < 0xd800 || range.last > 0xdfff;
  });
}

Holds when_productive(const GrammarSymbol& symbol) {
  if (const auto* chars = std::get_if<CharSymbol>(&symbol)) {
    return has_code_point(*chars) ? Holds::kAlways : Holds::kNever;
  }
  const auto* call = std::get_if<RuleSymbol>(&symbol);
  return call == nullptr || call->min == 0 ? Holds::kAlways : Holds::kIfRuleDoes;
}

Holds when_nullable(const GrammarSymbol& symbol) {
  if (std::holds_alternative<CharSymbol>(symbol)) return Holds::kNever;
  if (const auto* text = std::get_if<TextSymbol>(&symbol)) {
    return text->text.empty() ? Holds::kAlways : Holds::kNever;
  }
  return std::get<RuleSymbol>(symbol).min == 0 ? Holds::kAlways : Holds::kIfRuleDoes;
}

/// The smallest set of rules that have an alternative whose symbols all hold. Each alternative
/// counts the symbols that it waits for, so that the whole takes linear time.
std::vector<bool> solve(const Grammar& grammar, Holds (*when)(const GrammarSymbol&)) {
  struct Alternative {
    size_t rule;
    size_t missing = 0;
  };
  std::vector<Alternative> alternatives;
  std::vector<std::vector<size_t>> waiting(grammar.rules.size());  // alternatives, by rule
  std::vector<bool> holds(grammar.rules.size());
  std::vector<size_t> found;
  const auto add = [&](size_t rule) {
    if (holds[rule]) return;
    holds[rule] = true;
    found.push_back(rule);
  };
  for (size_t rule = 0; rule < grammar.rules.size(); ++rule) {
    for (const GrammarSequence& sequence : grammar.rules[rule]) {
      const size_t index = alternatives.size();
      alternatives.push_back({rule});
      bool is_possible = true;
      for (const GrammarSymbol& symbol : sequence) {
        const Holds holds_when = when(symbol);
        is_possible &= holds_when != Holds::kNever;
        if (holds_when != Holds::kIfRuleDoes) continue;
        ++alternatives[index].missing;
        waiting[std::get<RuleSymbol>(symbol).rule].push_back(index);
      }
      if (!is_possible) ++alternatives[index].missing;  // waits for ever
      if (alternatives[index].missing == 0) add(rule);
    }
  }
  while (!found.empty()) {
    const size_t rule = found.back();
    found.pop_back();
    for (const size_t index : waiting[rule]) {
      if (--alternatives[index].missing == 0) add(alternatives[index].rule);
    }
  }
  return holds;
}

}  // namespace

GrammarFacts analyze_grammar(const Grammar& grammar) {
  return {solve(grammar, when_nullable), solve(grammar, when_productive)};
}

bool is_productive(const GrammarSymbol& symbol, const std::vector<bool>& productive) {
  const Holds when = when_productive(symbol);
  if (when != Holds::kIfRuleDoes) return when == Holds::kAlways;
  return productive[std::get<RuleSymbol>(symbol).rule];
}

}  // namespace qvl
