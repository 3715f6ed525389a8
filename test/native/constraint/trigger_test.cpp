// Free text, triggers, and the grammar behind them, against the definition.

#include <functional>
#include <random>

#include "check.h"
#include "constraint/trigger_table.h"
#include "recognizer.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// What the definition says of a text: free up to the end of the first trigger; the grammar behind;
/// with `repeat`, the same again behind any text of the grammar.
Reading by_definition(const Grammar& grammar, const std::string& text) {
  size_t end = std::string::npos;
  for (const std::string& trigger : grammar.triggers) {
    const size_t found = text.find(trigger);
    if (found != std::string::npos) end = std::min(end, found + trigger.size());
  }
  if (end == std::string::npos) return {true, true};
  const std::string rest = text.substr(end);
  Recognizer recognizer(grammar, rest);
  Reading reading{recognizer.begins(), recognizer.accepts()};
  for (size_t length = 0; grammar.repeat && length <= rest.size(); ++length) {
    if (!Recognizer(grammar, rest.substr(0, length)).accepts()) continue;
    const Reading behind = by_definition(grammar, rest.substr(length));
    reading.begins |= behind.begins;
    reading.accepts |= behind.accepts;
  }
  return reading;
}

std::string random_text(std::mt19937& random, size_t max_length) {
  std::string text;
  const size_t length = 1 + random() % max_length;
  for (size_t i = 0; i < length; ++i) text += "abc"[random() % 3];
  return text;
}

Grammar random_grammar(std::mt19937& random) {
  static const std::vector<std::vector<GrammarRule>> kRules = {
      {{{text_symbol("ab")}, {text_symbol("ba"), rule_symbol(0)}}},
      {{{repeat_symbol(1, 0)}}, {{chars_symbol({{'a', 'b'}})}}},
      {{{text_symbol("c"), repeat_symbol(1, 1, 2)}}, {{text_symbol("ca")}, {text_symbol("c")}}},
      {{{}, {text_symbol("a"), rule_symbol(0), text_symbol("b")}}}};
  Grammar grammar;
  grammar.rules = kRules[random() % kRules.size()];
  const size_t num_triggers = 1 + random() % 3;
  for (size_t i = 0; i < num_triggers; ++i) grammar.triggers.push_back(random_text(random, 4));
  grammar.repeat = random() % 2 == 0;
  return grammar;
}

}  // namespace

TEST(the_first_end_of_any_trigger_is_found) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> triggers(1 + random() % 4);
    for (std::string& trigger : triggers) trigger = random_text(random, 4);
    const TriggerTable table = build_trigger_table(triggers);
    const std::string text = random_text(random, 30);
    size_t expected = std::string::npos;
    for (const std::string& trigger : triggers) {
      const size_t found = text.find(trigger);
      if (found != std::string::npos) expected = std::min(expected, found + trigger.size());
    }
    size_t end = std::string::npos;
    uint32_t state = 0;
    for (size_t i = 0; i < text.size() && end == std::string::npos; ++i) {
      state = table.next[state][static_cast<uint8_t>(text[i])];
      if (state == TriggerTable::kFound) end = i + 1;
    }
    CHECK_EQ(end, expected);
  }
}

TEST(text_is_free_up_to_a_trigger_and_the_grammars_behind) {
  std::mt19937 random(2);
  std::vector<std::string> tokens = {"", "a", "b", "c", "ab", "ca", "abc", "bcab", "cc", "aab"};
  const auto vocabulary = make_vocabulary(tokens);
  int num_constrained = 0;
  for (int round = 0; round < 600; ++round) {
    const Grammar grammar = random_grammar(random);
    GrammarMatcher matcher(grammar, vocabulary);
    GrammarMatcher::Cursor cursor(&matcher);
    std::string text;
    while (text.size() < 16) {
      CHECK_EQ(cursor.is_accepting(), by_definition(grammar, text).accepts);
      const TokenSet& allowed = cursor.allowed();
      std::vector<int32_t> next;
      for (size_t id = 1; id < tokens.size(); ++id) {
        const bool expected = by_definition(grammar, text + tokens[id]).begins;
        if (allowed.contains(static_cast<int32_t>(id)) != expected) {
          fail(__FILE__, __LINE__,
               "round " + std::to_string(round) + ", after '" + text + "', token " + tokens[id]);
        }
        if (expected) next.push_back(static_cast<int32_t>(id));
      }
      num_constrained += next.size() + 1 < tokens.size() ? 1 : 0;
      if (next.empty()) break;
      const int32_t id = next[random() % next.size()];
      CHECK(cursor.advance(id));
      text += tokens[static_cast<size_t>(id)];
    }
  }
  CHECK(num_constrained > 500);
}

TEST(free_text_may_have_any_bytes_and_tokens_that_are_no_text) {
  Grammar grammar;
  grammar.rules = {{{text_symbol("x")}}};
  grammar.triggers = {"<go>"};
  const auto vocabulary = make_vocabulary({"", "\xff\x80", "<", "go>", "x", "go>y", "go>x", "xy"});
  GrammarMatcher matcher(grammar, vocabulary);
  GrammarMatcher::Cursor cursor(&matcher);
  for (const int32_t id : {0, 1, 0, 2}) {
    CHECK(cursor.is_accepting());
    CHECK(cursor.allowed().contains(0));
    CHECK(cursor.advance(id));
  }
  // A token may go on behind the end of the trigger only as the grammar does.
  CHECK(cursor.allowed().contains(3) && cursor.allowed().contains(6));
  CHECK(!cursor.allowed().contains(5));
  // What is no text comes between the parts of a trigger without breaking it.
  CHECK(cursor.advance(0));
  CHECK(cursor.advance(3));
  CHECK(!cursor.is_accepting());
  CHECK(!cursor.allowed().contains(0));
  CHECK(!cursor.advance(0));
  CHECK(cursor.allowed().contains(4) && !cursor.allowed().contains(7));
  CHECK(cursor.advance(4));
  CHECK(cursor.is_accepting() && cursor.is_complete());
}
