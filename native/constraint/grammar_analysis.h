#pragma once

#include <vector>

#include "constraint/grammar.h"

namespace qvl {

/// Facts about the rules of a checked grammar, by rule.
struct GrammarFacts {
  std::vector<bool> nullable;    // it matches the empty string
  std::vector<bool> productive;  // it matches anything at all
};

GrammarFacts analyze_grammar(const Grammar& grammar);

/// Whether a sequence with this symbol can match, given which rules are productive.
bool is_productive(const GrammarSymbol& symbol, const std::vector<bool>& productive);

}  // namespace qvl
