// What the automaton takes: time, memory, and what it does at its limits.

#include "constraint/automaton.h"

#include "check.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

const auto t = text_symbol;
const auto r = rule_symbol;

StateId run(Automaton& automaton, StateId state, const std::string& text) {
  for (const char c : text) state = automaton.next(state, static_cast<uint8_t>(c));
  return state;
}

std::string times(size_t count, const std::string& text, std::string result = "") {
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

constexpr uint32_t kHorizon = 16;

}  // namespace

TEST(a_bounded_repetition_counts_exactly) {
  for (const auto& [min, max] : {std::pair{0u, 10'000u}, {10'000u, 10'000u}, {9'990u, 10'000u}}) {
    Automaton automaton(
        compile_grammar(with_rules({{{t("<"), repeat_symbol(1, min, max), t(">")}}, {{t("a")}}})),
        kHorizon);
    StateId state = run(automaton, automaton.start(), "<");
    for (uint32_t count = 0; count <= 10'001; ++count) {
      CHECK_EQ(automaton.next(state, '>') != kDeadState, count >= min && count <= max);
      CHECK_EQ(automaton.next(state, 'a') != kDeadState, count < max);
      state = automaton.next(state, 'a');
    }
  }
}

TEST(a_large_bound_takes_no_memory_of_its_own) {
  const auto size_with_bound = [](uint32_t bound) {
    const auto program = compile_grammar(with_rules(
        {{{repeat_symbol(1, 0, bound)}}, {{t("["), repeat_symbol(2, bound), t("]")}}, {{t("a")}}}));
    Automaton automaton(program, kHorizon);
    run(automaton, automaton.start(), "[aaaa");
    return program->num_nodes() + automaton.size_bytes();
  };
  CHECK_EQ(size_with_bound(1'000'000'000), size_with_bound(100));
}

TEST(a_repetition_without_bound_comes_back_to_the_same_state) {
  Automaton automaton(compile_grammar(json_grammar()), kHorizon);
  const StateId inside = run(automaton, automaton.start(), "{\"a\": [\"");
  const StateId later = run(automaton, inside, "some text, 猫\\u00e9");
  CHECK_EQ(run(automaton, later, "and more"), later);
  const size_t num_states = automaton.num_states();
  run(automaton, later, times(10'000, "text 猫"));
  CHECK_EQ(automaton.num_states(), num_states);
  // Nor do the elements of a list make a difference.
  const StateId third = run(automaton, later, "\", 1, \"x\", \"");
  CHECK_EQ(run(automaton, third, "\", 2, \"y\", \""), third);
}

TEST(counts_are_alike_while_the_bound_is_beyond_the_horizon) {
  Automaton automaton(compile_grammar(with_rules({{{repeat_symbol(1, 0, 1000)}}, {{t("a")}}})),
                      kHorizon);
  const StateId one = run(automaton, automaton.start(), "a");
  const StateId many = run(automaton, one, times(900, "a"));
  CHECK(one != many);
  CHECK_EQ(automaton.canonical(one), automaton.canonical(many));
  const StateId near = run(automaton, many, times(90, "a"));
  CHECK(automaton.canonical(near) != automaton.canonical(many));
}

TEST(lists_written_as_right_recursion_need_no_stack) {
  Automaton direct(compile_grammar(with_rules({{{t("a"), r(0)}, {t("b")}}})), kHorizon);
  const StateId state = run(direct, direct.start(), "aaaa");
  CHECK_EQ(run(direct, state, times(100'000, "a")), state);
  Automaton optional(
      compile_grammar(with_rules({{{t("a"), repeat_symbol(1, 0, 1)}}, {{t(","), r(0)}}})),
      kHorizon);
  const StateId item = run(optional, optional.start(), "a,a");
  CHECK_EQ(run(optional, item, times(100'000, ",a")), item);
}

TEST(nesting_ends_at_the_depth_limit) {
  AutomatonLimits limits;
  limits.max_depth = 100;
  // One return for the closing bracket, each.
  Automaton automaton(compile_grammar(with_rules({{{t("["), r(0), t("]")}, {t("x")}}})), kHorizon,
                      limits);
  const StateId deepest = run(automaton, automaton.start(), times(100, "["));
  CHECK(deepest != kDeadState);
  CHECK(automaton.next(deepest, 'x') != kDeadState);
  const StateId whole = run(automaton, deepest, times(100, "]", "x"));
  CHECK(automaton.is_accepting(whole));
  const StateId beyond = automaton.next(deepest, '[');
  CHECK(beyond == kDeadState);
}

TEST(a_hundred_thousand_brackets_take_bounded_memory) {
  Automaton automaton(compile_grammar(json_grammar()), kHorizon);
  StateId state = automaton.start();
  for (int i = 0; i < 100'000; ++i) state = automaton.next(state, '[');
  CHECK_EQ(state, kDeadState);
  CHECK(automaton.size_bytes() < 8u << 20);
}

TEST(many_ways_to_read_a_text_are_shared) {
  // Each pair of brackets may be one of two: 2^n stacks, but one frame a level.
  Automaton automaton(
      compile_grammar(with_rules({{{t("("), r(0), t(")")}, {t("("), r(0), t("]")}, {}}})),
      kHorizon);
  const StateId open = run(automaton, automaton.start(), times(1000, "("));
  CHECK(automaton.size_bytes() < 4u << 20);
  CHECK(automaton.is_accepting(run(automaton, open, times(500, ")]"))));
}

TEST(work_and_memory_beyond_the_limits_are_refused) {
  // Each of the words may be cut anywhere: the open returns grow with the text.
  const Grammar ambiguous = with_rules(
      {{{t("("), r(1), t(")")}}, {{r(2), r(1), t("x")}, {r(2)}}, {{t("a")}, {t("a"), r(2)}}});
  AutomatonLimits little_work;
  little_work.max_work = 10'000;
  Automaton busy(compile_grammar(ambiguous), kHorizon, little_work);
  const std::string message =
      CHECK_ERROR("ERR_GRAMMAR_TOO_COMPLEX", run(busy, busy.start(), times(10'000, "a", "(")));
  CHECK(message.find("too much work") != std::string::npos);
  // What is left of it does no harm.
  busy.begin_work();
  CHECK(run(busy, busy.start(), "(aa") != kDeadState);

  AutomatonLimits little_memory;
  little_memory.max_bytes = 200'000;
  Automaton large(compile_grammar(ambiguous), kHorizon, little_memory);
  CHECK_ERROR("ERR_GRAMMAR_TOO_COMPLEX", run(large, large.start(), times(10'000, "a", "(")));
}

TEST(collecting_keeps_what_live_states_need) {
  Automaton automaton(compile_grammar(json_grammar()), kHorizon);
  StateId first = run(automaton, automaton.start(), "{\"a\": [[[1, {\"b\": \"c");
  StateId second = run(automaton, automaton.start(), "[");
  run(automaton, automaton.start(), times(1000, "["));
  const size_t before = automaton.size_bytes();
  StateId* live[] = {&first, &second};
  automaton.collect(live);
  CHECK(automaton.size_bytes() * 4 < before);
  CHECK(automaton.is_accepting(run(automaton, first, "\"}]]]}")));
  CHECK_EQ(run(automaton, first, "\"}]]}"), kDeadState);
  CHECK(automaton.is_accepting(run(automaton, second, "]")));
  CHECK(automaton.is_accepting(run(automaton, automaton.start(), "\"text\"")));
}
