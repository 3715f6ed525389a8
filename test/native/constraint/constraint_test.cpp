#include "constraint/constraint.h"

#include "check.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr int32_t kStop = 0;

std::shared_ptr<GrammarMatcher> make_matcher(std::vector<GrammarRule> rules,
                                             const std::vector<std::string>& tokens) {
  Grammar grammar;
  grammar.rules = std::move(rules);
  return std::make_shared<GrammarMatcher>(grammar, make_vocabulary(tokens));
}

std::string ids(std::span<const uint64_t> mask) {
  std::string result;
  for (int id = 0; id < 64; ++id) {
    if ((mask[0] >> id & 1) != 0) result += std::to_string(id) + " ";
  }
  return result;
}

}  // namespace

TEST(the_stop_id_is_allowed_exactly_where_the_grammar_may_end) {
  Constraint constraint(
      make_matcher({{{text_symbol("a"), repeat_symbol(1, 0, 1)}}, {{text_symbol("b")}}},
                   {"", "a", "b", "ab"}),
      {kStop});
  CHECK_EQ(ids(constraint.mask()), "1 3 ");
  constraint.accept(1);
  CHECK_EQ(ids(constraint.mask()), "0 2 ");
  constraint.accept(2);
  CHECK_EQ(ids(constraint.mask()), "0 ");
  CHECK(!constraint.is_complete());  // the stop id says so
  constraint.accept(kStop);
}

TEST(a_stop_id_that_is_text_may_come_at_the_end_only) {
  Constraint constraint(make_matcher({{{text_symbol("aab")}}}, {"", "a", "b"}), {1, 1000, -5});
  CHECK_ERROR("ERR_GRAMMAR_DEAD_END", constraint.mask());
  Constraint ends(make_matcher({{{text_symbol("b")}}}, {"", "a", "b"}), {1});
  ends.accept(2);
  CHECK_EQ(ids(ends.mask()), "1 ");
}

TEST(without_a_stop_id_a_complete_text_says_so) {
  Constraint constraint(make_matcher({{{text_symbol("ab")}}}, {"", "a", "b"}), {});
  CHECK(!constraint.is_complete());
  constraint.accept(1);
  CHECK(!constraint.is_complete());
  constraint.accept(2);
  CHECK(constraint.is_complete());
}

TEST(characters_that_no_token_writes_are_a_dead_end) {
  Constraint constraint(make_matcher({{{text_symbol("a\xc3\xa9")}}}, {"", "a", "\xc3", "b"}),
                        {kStop});
  constraint.accept(1);
  constraint.accept(2);
  constraint.prepare();
  const std::string message = CHECK_ERROR("ERR_GRAMMAR_DEAD_END", constraint.mask());
  CHECK(message.find("characters that the tokenizer cannot write") != std::string::npos);
}

TEST(what_is_prepared_is_what_is_asked_for) {
  const auto matcher = make_matcher({{{repeat_symbol(1, 2)}}, {{chars_symbol({{'a', 'b'}})}}},
                                    {"", "a", "b", "ab", "c"});
  Constraint prepared(matcher, {kStop}), asked(matcher, {kStop});
  for (const int32_t token : {1, 3, 2, 2}) {
    prepared.prepare();
    CHECK_EQ(ids(prepared.mask()), ids(asked.mask()));
    prepared.accept(token);
    asked.accept(token);
  }
}

TEST(a_token_that_the_grammar_forbids_is_an_error_of_the_engine) {
  Constraint constraint(make_matcher({{{text_symbol("a")}}}, {"", "a", "b"}), {kStop});
  CHECK_ERROR("ERR_INTERNAL", constraint.accept(2));
}

TEST(answers_that_share_a_matcher_do_not_disturb_each_other) {
  Grammar grammar = json_grammar();
  std::vector<std::string> tokens = {""};
  for (char c = ' '; c < 127; ++c) tokens.push_back({c});
  AutomatonLimits limits;
  limits.keep_bytes = 0;  // collects before each step
  const auto matcher = std::make_shared<GrammarMatcher>(grammar, make_vocabulary(tokens), limits);
  const std::string texts[] = {"[[[\"a b\", 1], {}], 2]", "{\"x\": {\"y\": [true]}}", "\"text\""};
  std::vector<std::unique_ptr<Constraint>> all;
  for (int i = 0; i < 3; ++i)
    all.push_back(std::make_unique<Constraint>(matcher, std::vector{kStop}));
  for (size_t at = 0; at < 30; ++at) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] == nullptr) continue;
      const auto mask = all[i]->mask();
      const bool is_end = at == texts[i].size();
      const int32_t token = is_end ? kStop : texts[i][at] - ' ' + 1;
      CHECK((mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0);
      all[i]->accept(token);
      if (is_end) all[i] = nullptr;
    }
  }
  for (const auto& constraint : all) CHECK(constraint == nullptr);
}
