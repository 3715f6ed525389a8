// Answers within a grammar: the same as one sequence by the book, whatever shares its steps.

#include "check.h"
#include "constraint/vocabularies.h"
#include "engine/engine.h"
#include "fake_model.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr int32_t kStop = 5;
constexpr int32_t kFirstCharacter = 10;

/// Ids 10 to 104 are the characters from ' ' on, 105 to 199 those again with one more behind them.
std::string token_text(int32_t id) {
  if (id < kFirstCharacter || id >= 200) return "";
  const auto character = [](int32_t index) { return static_cast<char>(' ' + index % 95); };
  const int32_t index = id - kFirstCharacter;
  std::string text(1, character(index));
  if (index >= 95) text += character(index * 7);
  return text;
}

std::string text_of(const std::vector<int32_t>& answer) {
  std::string text;
  for (const int32_t id : answer) text += token_text(id);
  return text;
}

std::shared_ptr<GrammarMatcher> make_matcher(const Grammar& grammar) {
  std::vector<std::string> tokens;
  for (int32_t id = 0; id < fake_config().vocab_size; ++id) tokens.push_back(token_text(id));
  return std::make_shared<GrammarMatcher>(grammar, make_vocabulary(tokens));
}

/// Lists of words and lists, short ones.
Grammar list_grammar() {
  Grammar grammar;
  grammar.rules = {{{text_symbol("["), rule_symbol(1), repeat_symbol(2, 5, 8), text_symbol("]")}},
                   {{repeat_symbol(3, 1, 6)}, {rule_symbol(0)}},
                   {{text_symbol(","), rule_symbol(1)}},
                   {{chars_symbol({{'a', 'z'}, {'0', '9'}})}}};
  return grammar;
}

GenerationRequest with_grammar(GenerationRequest request, std::shared_ptr<GrammarMatcher> grammar) {
  request.grammar = std::move(grammar);
  request.stop_ids = {kStop};
  return request;
}

std::vector<int32_t> expected_answer(GenerationRequest request, const Grammar& grammar) {
  request.grammar = make_matcher(grammar);
  return reference_answer(request);
}

std::vector<GenerationRequest> sampled_requests(const std::shared_ptr<GrammarMatcher>& matcher) {
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 12; ++i) {
    GenerationRequest request = i % 4 == 3
                                    ? item_request(make_item(static_cast<uint8_t>(i), 3, 4), i, 60)
                                    : text_request(5 + 9 * i, i, 60);
    if (i % 2 == 1) {
      request.sampling.temperature = 1.0f;
      request.sampling.repetition_penalty = 1.1f;
      request.sampling.top_k = 40;
      request.sampling.seed = static_cast<uint64_t>(i);
    }
    // Some are free, so that steps are mixed.
    if (i % 5 != 4) request = with_grammar(std::move(request), matcher);
    requests.push_back(std::move(request));
  }
  return requests;
}

void check_together(FakeModelOptions model, EngineOptions options, bool expects_preemption) {
  Gate gate;
  model.on_forward = [&](auto) { gate.pass(); };
  FakeEngine fake(model, options);
  const auto requests = sampled_requests(make_matcher(list_grammar()));
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (const auto& request : requests) recorders.push_back(fake.submit(request));
  gate.open();
  for (size_t i = 0; i < requests.size(); ++i) {
    const bool is_free = requests[i].grammar == nullptr;
    CHECK_EQ(recorders[i]->answer(), is_free ? reference_answer(requests[i])
                                             : expected_answer(requests[i], list_grammar()));
    if (!is_free) CHECK_EQ(text_of(recorders[i]->answer())[0], '[');
  }
  CHECK_EQ(fake.engine->metrics().preemptions > 0, expects_preemption);
  check_blocks_are_back(fake);
}

}  // namespace

TEST(answers_that_share_a_grammar_and_steps_are_as_if_alone) {
  EngineOptions options;
  options.prefill_chunk = 64;
  check_together({}, options, false);
}

TEST(preemption_keeps_the_place_in_the_grammar) {
  FakeModelOptions model;
  model.num_blocks = 6;
  EngineOptions options;
  options.prefill_chunk = 32;
  check_together(model, options, true);
}

TEST(a_complete_answer_ends_with_the_stop_id_or_where_there_is_none_by_itself) {
  Grammar grammar;
  grammar.rules = {{{text_symbol("yes")}, {text_symbol("no")}}};
  FakeEngine fake;
  const auto recorder = fake.submit(with_grammar(text_request(9, 1, 50), make_matcher(grammar)));
  const std::vector<int32_t> answer = recorder->answer();
  CHECK_EQ(answer.back(), kStop);
  CHECK(text_of(answer) == "yes" || text_of(answer) == "no");
  CHECK(recorder->reason() == FinishReason::kStop);

  GenerationRequest endless = text_request(9, 1, 50);
  endless.grammar = make_matcher(grammar);
  const auto other = fake.submit(endless);
  CHECK_EQ(text_of(other->answer()), text_of(answer));
  CHECK(other->reason() == FinishReason::kStop);
  check_blocks_are_back(fake);
}

TEST(drafts_are_verified_against_the_grammar_row_by_row) {
  // A long text that repeats itself: most guesses come true.
  Grammar grammar;
  grammar.rules = {{{repeat_symbol(1, 30, 30)}}, {{text_symbol("abcde")}, {text_symbol("abxde")}}};
  for (const float temperature : {0.0f, 1.0f}) {
    GenerationRequest request = with_grammar(text_request(9, 1, 300), make_matcher(grammar));
    request.sampling.temperature = temperature;
    const std::vector<int32_t> expected = expected_answer(request, grammar);
    request.max_draft_tokens = 6;
    FakeEngine fake;
    CHECK_EQ(fake.submit(request)->answer(), expected);
    CHECK(fake.engine->metrics().accepted_draft_tokens > 10);
    check_blocks_are_back(fake);
  }
}

TEST(a_dead_end_fails_its_own_request_only) {
  Grammar grammar;
  grammar.rules = {{{text_symbol("ab\xc3\xa9")}}};  // no token has such a byte
  FakeEngine fake;
  const auto lost = fake.submit(with_grammar(text_request(9, 1, 50), make_matcher(grammar)));
  const GenerationRequest other =
      with_grammar(text_request(30, 2, 40), make_matcher(list_grammar()));
  const auto recorder = fake.submit(other);
  CHECK_EQ(lost->error_code(), "ERR_GRAMMAR_DEAD_END");
  CHECK_EQ(recorder->answer(), expected_answer(other, list_grammar()));
  check_blocks_are_back(fake);
}

TEST(a_cancelled_answer_gives_everything_back) {
  Grammar anything;
  anything.rules = {{{repeat_symbol(1, 0)}}, {{chars_symbol({{'a', 'z'}})}}};
  FakeEngine fake;
  uint64_t id = 0;
  const auto matcher = make_matcher(anything);
  GenerationRequest request = with_grammar(text_request(9, 1, 5000), matcher);
  request.stop_ids = {};  // letters for ever
  const auto recorder = fake.submit(request, &id);
  recorder->wait_for_tokens(5);
  fake.engine->cancel(id);
  CHECK(recorder->reason() == FinishReason::kCancelled);
  check_blocks_are_back(fake);
  CHECK_EQ(matcher.use_count(), 2);  // here and in `request`
}

TEST(shutdown_with_answers_under_way_is_clean) {
  Grammar anything;
  anything.rules = {{{repeat_symbol(1, 0)}}, {{chars_symbol({{'a', 'z'}})}}};
  FakeEngine fake;
  const auto matcher = make_matcher(anything);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 4; ++i) {
    GenerationRequest request = with_grammar(text_request(9, i, 5000), matcher);
    request.stop_ids = {};
    recorders.push_back(fake.submit(request));
  }
  recorders[0]->wait_for_tokens(3);
  fake.engine->shutdown();
  for (const auto& recorder : recorders) CHECK_EQ(recorder->error_code(), "ERR_DISPOSED");
}

TEST(a_grammar_for_another_vocabulary_is_refused) {
  Grammar grammar;
  grammar.rules = {{{text_symbol("a")}}};
  GenerationRequest request = text_request(9, 1, 50);
  request.grammar = std::make_shared<GrammarMatcher>(grammar, make_vocabulary({"a", "b"}));
  FakeEngine fake;
  const std::string message = CHECK_ERROR("ERR_INVALID_ARGUMENT", fake.submit(request));
  CHECK_EQ(message,
           "the grammar was made for a vocabulary of 2 tokens; the model's has 211: make it for "
           "this model");
}
