// What is refused as a grammar, and what compiling leaves out.

#include "constraint/program.h"

#include "check.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

const auto t = text_symbol;
const auto r = rule_symbol;

std::string refusal(const Grammar& grammar) {
  return CHECK_ERROR("ERR_INVALID_ARGUMENT", compile_grammar(grammar));
}

int64_t refused_rule(const Grammar& grammar) {
  try {
    compile_grammar(grammar);
  } catch (const Error& error) {
    for (const auto& [key, value] : error.details()) {
      if (key == "rule") return std::get<int64_t>(value);
    }
  }
  return -1;
}

bool starts_with(const std::string& text, const std::string& begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

}  // namespace

TEST(what_is_not_well_formed_is_refused_with_its_place) {
  CHECK_EQ(refusal({}), "the grammar has no rules; it needs at least one");
  CHECK_EQ(refusal(with_rules({{{t("a")}, {t("b"), r(3)}}})),
           "grammar.rules[0][1][1] names rule 3; the grammar has 1 rules: define it");
  CHECK_EQ(
      refusal(with_rules({{{chars_symbol({{'b', 'a'}})}}})),
      "grammar.rules[0][0][0] has the range 98 to 97; a range goes upward and ends at 1114111, "
      "the last code point");
  CHECK(starts_with(refusal(with_rules({{{chars_symbol({{0, 0x110000}})}}})),
                    "grammar.rules[0][0][0] has the range 0 to 1114112"));
  CHECK_EQ(refusal(with_rules({{{repeat_symbol(0, 3, 2)}}})),
           "grammar.rules[0][0][0] repeats at least 3 and at most 2 times; the first must not be "
           "larger");
  CHECK(starts_with(refusal(with_rules({{{repeat_symbol(0, 0, UINT32_MAX)}}})),
                    "grammar.rules[0][0][0] repeats 4294967295 times; at most 1000000000"));
  Grammar grammar = with_rules({{{t("a")}}});
  grammar.triggers = {"x", ""};
  CHECK_EQ(refusal(grammar),
           "a trigger of the grammar is empty: leave triggers away to constrain all text");
}

TEST(a_grammar_beyond_the_size_limit_is_refused) {
  CHECK(starts_with(refusal(with_rules({{{t(std::string(kMaxGrammarSize, 'a'))}}})),
                    "the grammar has 250003 rules, alternatives, symbols, ranges and bytes"));
  compile_grammar(with_rules({{{t(std::string(kMaxGrammarSize - 3, 'a'))}}}));
}

TEST(a_grammar_that_matches_nothing_is_refused) {
  const std::string expected =
      "the grammar matches no text at all: its start, rule 0, needs an alternative that comes to "
      "an "
      "end";
  CHECK_EQ(refusal(with_rules({{}})), expected);
  CHECK_EQ(refusal(with_rules({{{t("a"), r(0)}}})), expected);  // never ends
  CHECK_EQ(refusal(with_rules({{{chars_symbol({})}}})), expected);
  CHECK_EQ(refusal(with_rules({{{chars_symbol({{0xd800, 0xdbff}})}}})), expected);
  CHECK_EQ(refusal(with_rules({{{repeat_symbol(1, 1)}}, {{r(0)}}})), expected);
}

TEST(left_recursion_is_refused_with_the_rule_that_calls_itself) {
  const std::string rest = "): write left recursion as a repetition";
  const std::string begin = " of the grammar calls itself before it has matched a character (";
  CHECK_EQ(refusal(with_rules({{{r(0), t("a")}, {t("b")}}})), "rule 0" + begin + "0 -> 0" + rest);
  const Grammar indirect =
      with_rules({{{r(1)}}, {{t("x")}, {r(2), t("a")}}, {{r(3)}}, {{r(1), t("b")}, {t("c")}}});
  const int64_t rule = refused_rule(indirect);
  CHECK(rule == 1 || rule == 2 || rule == 3);
  // Hidden behind what may be empty: a rule, a repetition, a repetition of what may be empty.
  CHECK_EQ(refused_rule(with_rules({{{r(1), r(0), t("a")}, {t("b")}}, {{}, {t("c")}}})), 0);
  CHECK_EQ(refused_rule(with_rules({{{repeat_symbol(1, 0), r(0)}, {t("b")}}, {{t("c")}}})), 0);
  CHECK_EQ(refused_rule(with_rules({{{repeat_symbol(1, 4, 4), r(0)}, {t("b")}}, {{}, {t("c")}}})),
           0);
  CHECK_EQ(refused_rule(with_rules({{{repeat_symbol(0, 0, 5)}, {t("b")}}})), 0);
}

TEST(recursion_behind_a_character_is_none) {
  compile_grammar(with_rules({{{t("("), r(0), t(")")}, {}}}));
  compile_grammar(with_rules({{{repeat_symbol(1, 1), r(0)}, {t("b")}}, {{t("c")}}}));
}

TEST(left_recursion_of_rules_that_are_not_used_does_not_matter) {
  compile_grammar(with_rules({{{t("a")}}, {{r(1), t("x")}, {t("y")}}}));
  // Nor of alternatives that cannot match.
  compile_grammar(with_rules({{{t("a")}, {r(0), chars_symbol({})}}}));
}

TEST(long_chains_of_rules_are_no_deep_recursion) {
  Grammar grammar;
  const uint32_t length = 80'000;
  for (uint32_t i = 0; i + 1 < length; ++i) grammar.rules.push_back({{r(i + 1)}});
  grammar.rules.push_back({{t("a")}});
  const auto program = compile_grammar(grammar);
  CHECK_EQ(program->rule(length - 1).rank, length);
  grammar.rules.back() = {{r(0)}, {t("a")}};
  CHECK(refusal(grammar).size() < 1000);
}

TEST(choices_share_what_they_begin_with) {
  Grammar grammar;
  grammar.rules.resize(1);
  for (int i = 0; i < 1000; ++i) grammar.rules[0].push_back({t("choice " + std::to_string(i))});
  CHECK(compile_grammar(grammar)->num_nodes() < 1200);
}

TEST(bytes_that_no_edge_tells_apart_are_one_class) {
  const auto program = compile_grammar(with_rules({{{chars_symbol({{'a', 'z'}}), t("!")}}}));
  CHECK_EQ(program->byte_class('a'), program->byte_class('q'));
  CHECK(program->byte_class('a') != program->byte_class('!'));
  CHECK(program->byte_class('a') != program->byte_class('{'));
  CHECK(program->num_byte_classes() <= 5);
}
