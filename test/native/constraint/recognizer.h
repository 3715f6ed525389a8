#pragma once

// The meaning of a grammar, by the book: a recursive recogniser that tries all ways to read a text.
// It knows code points, not bytes, and no states: slow, and unlike what it judges.

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "constraint/grammar.h"

namespace qvl::test {

/// The code points of well-formed UTF-8.
inline std::vector<uint32_t> code_points(const std::string& text) {
  std::vector<uint32_t> result;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x80) {
      result.push_back(byte);
    } else if (byte < 0xc0) {
      result.back() = (result.back() << 6) | (byte & 0x3f);
    } else {
      result.push_back(byte < 0xe0 ? byte & 0x1f : byte < 0xf0 ? byte & 0x0f : byte & 0x07);
    }
  }
  return result;
}

inline std::string to_utf8(uint32_t code_point) {
  const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  const auto tail = [&](int shift) { return byte(0x80 | ((code_point >> shift) & 0x3f)); };
  if (code_point < 0x80) return {byte(code_point)};
  if (code_point < 0x800) return {byte(0xc0 | (code_point >> 6)), tail(0)};
  if (code_point < 0x10000) return {byte(0xe0 | (code_point >> 12)), tail(6), tail(0)};
  return {byte(0xf0 | (code_point >> 18)), tail(12), tail(6), tail(0)};
}

/// What a grammar says of one text.
class Recognizer {
 public:
  Recognizer(const Grammar& grammar, const std::string& text)
      : grammar_(grammar), text_(code_points(text)), productive_(grammar.rules.size()) {
    // As often as there are rules: each round finds one at least, or there are no more.
    for (size_t round = 0; round < grammar.rules.size(); ++round) {
      for (size_t rule = 0; rule < grammar.rules.size(); ++rule) {
        for (const auto& sequence : grammar.rules[rule]) {
          if (can_match(sequence, 0)) productive_[rule] = true;
        }
      }
    }
  }

  bool matches_any_text() const { return productive_[0]; }
  /// The whole text is one of the grammar.
  bool accepts() { return ends(0, 0).at.count(text_.size()) > 0; }
  /// The text is one of the grammar, or begins one.
  bool begins() { return accepts() || ends(0, 0).runs_out; }

 private:
  /// Where a match may end; whether one needs more than there is.
  struct Ends {
    std::set<size_t> at;
    bool runs_out = false;
  };

  bool can_match(const GrammarSymbol& symbol) const {
    if (const auto* chars = std::get_if<CharSymbol>(&symbol)) {
      for (const CharRange& range : chars->ranges) {
        for (uint32_t c = range.first; c <= range.last; ++c) {
          if (c < 0xd800 || c > 0xdfff) return true;
        }
      }
      return false;
    }
    const auto* call = std::get_if<RuleSymbol>(&symbol);
    return call == nullptr || call->min == 0 || productive_[call->rule];
  }

  bool can_match(const GrammarSequence& sequence, size_t first) const {
    return std::all_of(sequence.begin() + static_cast<std::ptrdiff_t>(first), sequence.end(),
                       [&](const GrammarSymbol& symbol) { return can_match(symbol); });
  }

  Ends match(const CharSymbol& symbol, size_t from) const {
    if (from == text_.size()) return {{}, can_match(GrammarSymbol(symbol))};
    const uint32_t c = text_[from];
    if (c >= 0xd800 && c <= 0xdfff) return {};
    for (const CharRange& range : symbol.ranges) {
      if (c >= range.first && c <= range.last) return {{from + 1}, false};
    }
    return {};
  }

  Ends match(const TextSymbol& symbol, size_t from) const {
    for (const uint32_t c : code_points(symbol.text)) {
      if (from == text_.size()) return {{}, true};
      if (text_[from++] != c) return {};
    }
    return {{from}, false};
  }

  Ends match(const RuleSymbol& symbol, size_t from) {
    Ends result;
    std::set<size_t> reached = {from};
    std::set<std::set<size_t>> seen;  // beyond the minimum: the same again
    for (uint32_t count = 0;; ++count) {
      if (count >= symbol.min) {
        result.at.insert(reached.begin(), reached.end());
        if (!seen.insert(reached).second) break;
      }
      if (reached.empty() || (symbol.max && count == *symbol.max)) break;
      std::set<size_t> next;
      for (const size_t place : reached) {
        const Ends once = ends(symbol.rule, place);
        next.insert(once.at.begin(), once.at.end());
        result.runs_out |= once.runs_out;
      }
      reached = std::move(next);
    }
    return result;
  }

  Ends match(const GrammarSequence& sequence, size_t from) {
    Ends result{{from}, false};
    for (size_t i = 0; i < sequence.size(); ++i) {
      Ends next;
      next.runs_out = result.runs_out;
      for (const size_t place : result.at) {
        const Ends once =
            std::visit([&](const auto& symbol) { return match(symbol, place); }, sequence[i]);
        next.at.insert(once.at.begin(), once.at.end());
        next.runs_out |= once.runs_out;
      }
      result = std::move(next);
    }
    return result;
  }

  const Ends& ends(uint32_t rule, size_t from) {
    const auto known = known_.find({rule, from});
    if (known != known_.end()) return known->second;
    Ends result;
    for (const GrammarSequence& sequence : grammar_.rules[rule]) {
      if (!can_match(sequence, 0)) continue;
      const Ends one = match(sequence, from);
      result.at.insert(one.at.begin(), one.at.end());
      result.runs_out |= one.runs_out;
    }
    return known_[{rule, from}] = result;
  }

  const Grammar& grammar_;
  const std::vector<uint32_t> text_;
  std::vector<bool> productive_;
  std::map<std::pair<uint32_t, size_t>, Ends> known_;
};

}  // namespace qvl::test
