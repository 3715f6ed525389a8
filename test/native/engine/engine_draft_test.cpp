// Speculative prompt lookup: everything that a listener hears is what it hears without, in fewer
// steps.

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "fake_model.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// What the listener of one request heard, but for times and the counts of drafts.
struct Heard {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  std::vector<double> sums;
  std::vector<TopLogit> top;
  FinishReason reason = FinishReason::kCancelled;
  int64_t completion_tokens = 0;

  explicit Heard(Recorder& recorder) : tokens(recorder.answer()), reason(recorder.reason()) {
    completion_tokens = recorder.stats().completion_tokens;
    for (const TokenOutput& output : recorder.outputs()) {
      logits.push_back(output.logit);
      sums.push_back(output.log_sum_exp);
      top.insert(top.end(), output.top_logits.begin(), output.top_logits.end());
    }
  }

  bool operator==(const Heard& other) const {
    const auto same = [](const TopLogit& x, const TopLogit& y) {
      return x.id == y.id && x.logit == y.logit;
    };
    return tokens == other.tokens && logits == other.logits && sums == other.sums &&
           std::equal(top.begin(), top.end(), other.top.begin(), other.top.end(), same) &&
           reason == other.reason && completion_tokens == other.completion_tokens;
  }
};

struct Run {
  std::vector<Heard> heard;
  EngineMetrics metrics;
};

/// Runs all requests beside each other. They are all there before the first step.
Run run(std::vector<GenerationRequest> requests, int64_t max_draft_tokens,
        FakeModelOptions model = {}, const EngineOptions& options = {}) {
  Gate gate;
  const auto on_forward = model.on_forward;
  model.on_forward = [&](std::span<const StepSequence> sequences) {
    gate.pass();
    if (on_forward) on_forward(sequences);
  };
  FakeEngine fake(model, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (GenerationRequest& request : requests) {
    request.max_draft_tokens = max_draft_tokens;
    recorders.push_back(fake.submit(request));
  }
  gate.open();
  Run result;
  int64_t draft_tokens = 0, accepted = 0;
  for (const auto& recorder : recorders) {
    result.heard.emplace_back(*recorder);
    draft_tokens += recorder->stats().draft_tokens;
    accepted += recorder->stats().accepted_draft_tokens;
  }
  result.metrics = fake.engine->metrics();
  CHECK_EQ(result.metrics.draft_tokens, draft_tokens);
  CHECK_EQ(result.metrics.accepted_draft_tokens, accepted);
  CHECK(accepted <= draft_tokens);
  check_blocks_are_back(fake);
  return result;
}

/// The answer is of the first `num_words` text ids only: the fewer, the more it repeats itself.
void restrict_words(GenerationRequest& request, int32_t num_words) {
  for (int32_t id = 10; id < 10 + num_words; ++id) {
    request.sampling.logit_bias.push_back({id, 100.0f});
  }
}

GenerationRequest repetitive_request(int64_t salt, int32_t num_words, int64_t max_tokens) {
  GenerationRequest request = text_request(6 + 5 * salt, salt, max_tokens);
  restrict_words(request, num_words);
  request.log_probabilities = true;
  request.top_logits = 3;
  return request;
}

/// Requests that differ in all that a sampled token depends on.
std::vector<GenerationRequest> requests_of_all_kinds() {
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 24; ++i) {
    GenerationRequest request = repetitive_request(i, 1 + static_cast<int32_t>(i % 4), 40 + i);
    if (i % 6 == 1) {
      const bool is_video = i % 12 == 1;
      const VisionItem item = make_item(static_cast<uint8_t>(i), 2, 3, is_video ? 4 : 1, is_video);
      const auto bias = request.sampling.logit_bias;
      request = item_request(item, i, 60);
      request.sampling.logit_bias = bias;
    }
    if (i % 2 == 1) {
      request.sampling.temperature = 0.5f + 0.1f * static_cast<float>(i);
      request.sampling.seed = static_cast<uint64_t>(i / 4);
    }
    if (i % 5 == 1) request.sampling.repetition_penalty = 1.3f;
    if (i % 5 == 2) request.sampling.frequency_penalty = 2.0f;
    if (i % 5 == 3) request.sampling.no_repeat_ngram_size = 6;
    if (i % 7 == 3) request.sampling.penalty_last_n = 5;
    if (i % 7 == 4) request.sampling.top_k = 2;
    if (i % 4 == 2) request.stop_ids = {12};
    if (i % 8 == 5) request.use_cache = false;
    requests.push_back(std::move(request));
  }
  return requests;
}

void check_same(const Run& with, const Run& without) {
  CHECK_EQ(with.heard.size(), without.heard.size());
  for (size_t i = 0; i < with.heard.size(); ++i) {
    CHECK_EQ(with.heard[i].tokens, without.heard[i].tokens);
    CHECK(with.heard[i] == without.heard[i]);
  }
  CHECK_EQ(with.metrics.generated_tokens, without.metrics.generated_tokens);
}

}  // namespace

TEST(a_request_alone_hears_the_same_in_fewer_steps) {
  int64_t steps_with = 0, steps_without = 0;
  for (const GenerationRequest& request : requests_of_all_kinds()) {
    const Run without = run({request}, 0);
    CHECK_EQ(without.metrics.draft_tokens, 0);
    CHECK_EQ(without.heard[0].tokens, reference_answer(request));
    for (const int64_t max_draft_tokens : {1, 3, 7, 64}) {
      const Run with = run({request}, max_draft_tokens);
      check_same(with, without);
      // Each draft that came true saved a step, and nothing else does.
      CHECK_EQ(with.metrics.steps + with.metrics.accepted_draft_tokens, without.metrics.steps);
      if (max_draft_tokens == 7) steps_with += with.metrics.steps;
    }
    steps_without += without.metrics.steps;
  }
  CHECK(4 * steps_with < 3 * steps_without);
}

TEST(one_word_over_and_over_takes_an_eighth_of_the_steps) {
  const GenerationRequest request = repetitive_request(1, 1, 200);
  const Run without = run({request}, 0);
  const Run with = run({request}, 7);
  check_same(with, without);
  CHECK_EQ(without.metrics.steps, 200);
  // The first tokens show that the answer repeats; then 8 come at once.
  CHECK(with.metrics.steps <= 200 / 8 + 6);
  CHECK_EQ(with.metrics.accepted_draft_tokens, with.metrics.draft_tokens);
}

TEST(an_answer_that_does_not_repeat_costs_no_rows) {
  GenerationRequest request = text_request(60, 3, 100);
  const Run with = run({request}, 7);
  CHECK_EQ(with.metrics.steps, 100);
  CHECK_EQ(with.metrics.draft_tokens, 0);
}

TEST(requests_that_share_steps_hear_the_same) {
  const std::vector<GenerationRequest> requests = requests_of_all_kinds();
  const Run without = run(requests, 0);
  for (const int64_t prefill_chunk : {1, 5, 32, 200}) {
    for (const int64_t max_sequences : {2, 5, 24}) {
      EngineOptions options;
      options.prefill_chunk = prefill_chunk;
      options.max_sequences = max_sequences;
      const Run with = run(requests, 7, {}, options);
      check_same(with, without);
      if (max_sequences < 8) CHECK(with.metrics.accepted_draft_tokens > 0);
    }
  }
}

TEST(the_rows_of_a_step_are_bounded) {
  const std::vector<GenerationRequest> requests = requests_of_all_kinds();
  const Run without = run(requests, 0);
  for (const int64_t max_draft_rows : {1, 4, 16}) {
    EngineOptions options;
    options.max_sequences = 8;
    options.prefill_chunk = 16;
    options.max_draft_rows = max_draft_rows;
    int64_t most_rows = 0;
    FakeModelOptions model;
    model.on_forward = [&](std::span<const StepSequence> sequences) {
      int64_t rows = 0;
      for (const StepSequence& sequence : sequences) {
        if (sequence.logits != LogitsWanted::kAll) continue;  // no drafts
        rows += static_cast<int64_t>(sequence.token_ids.size());
      }
      most_rows = std::max(most_rows, rows);
    };
    check_same(run(requests, 7, model, options), without);
    CHECK(most_rows <= max_draft_rows);
    CHECK_EQ(most_rows > 0, max_draft_rows > 1);
  }
}

TEST(a_small_pool_changes_nothing) {
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 8; ++i) {
    GenerationRequest request = repetitive_request(i, 1 + static_cast<int32_t>(i % 3), 80);
    if (i % 2 == 1) request.sampling.temperature = 1.0f;
    requests.push_back(std::move(request));
  }
  const Run reference = run(requests, 0);
  for (const int64_t num_blocks : {4, 5, 7, 9}) {
    FakeModelOptions model;
    model.num_blocks = num_blocks;
    EngineOptions options;
    options.prefill_chunk = 48;
    const Run with = run(requests, 7, model, options);
    check_same(with, reference);
    CHECK(with.metrics.preemptions > 0);
    CHECK(with.metrics.accepted_draft_tokens > 0);
  }
}

TEST(answers_end_where_they_end_without) {
  // Inside an accepted run: at every length, at the context limit, at a stop id.
  const GenerationRequest whole = repetitive_request(2, 1, 60);
  for (int64_t max_tokens = 1; max_tokens <= 40; ++max_tokens) {
    GenerationRequest request = whole;
    request.max_tokens = max_tokens;
    check_same(run({request}, 7), run({request}, 0));
  }
  for (int64_t max_context = 17; max_context < 40; ++max_context) {
    EngineOptions options;
    options.max_context = max_context;
    check_same(run({whole}, 7, {}, options), run({whole}, 0, {}, options));
  }
  GenerationRequest request = repetitive_request(3, 3, 200);
  const std::vector<int32_t> answer = reference_answer(request);
  request.stop_ids = {answer[30]};
  check_same(run({request}, 7), run({request}, 0));
}

TEST(a_stop_id_that_a_draft_would_hold_ends_the_answer) {
  // The prompt says twice what the answer says, stop id included.
  GenerationRequest request = repetitive_request(1, 1, 50);
  request.prompt = {50, 10, 10, 10, 10, 10, 10, 10, 11, 50, 51};
  request.sampling.logit_bias = {{10, 100.0f}};
  request.stop_ids = {11};
  const Run with = run({request}, 7), without = run({request}, 0);
  check_same(with, without);
  CHECK(with.heard[0].reason == FinishReason::kLength);
}

TEST(drafts_that_the_model_cannot_compute_do_not_fail_the_answer) {
  // A wrong guess may lead to logits that are not finite; without drafts nobody would know.
  GenerationRequest request = repetitive_request(1, 2, 80);
  const Run without = run({request}, 0);
  int failures = 0;
  FakeModelOptions failing;
  failing.on_forward = [&](std::span<const StepSequence> sequences) {
    for (const StepSequence& sequence : sequences) {
      if (sequence.logits != LogitsWanted::kAll) continue;
      ++failures;
      throw Error("ERR_NUMERICS", "the logits of a guess are not finite");
    }
  };
  FakeEngine fake(failing);
  request.max_draft_tokens = 7;
  const auto recorder = fake.submit(request);
  CHECK(Heard(*recorder) == without.heard[0]);
  CHECK(failures > 0);
  CHECK_EQ(recorder->stats().accepted_draft_tokens, 0);
  check_blocks_are_back(fake);
}

TEST(an_error_of_a_row_comes_where_it_comes_without) {
  // One row of logits in forty is not a number, whoever computes it: those that the answer's own
  // tokens lead to end it, those that wrong guesses lead to do not.
  FakeModelOptions model;
  model.on_logits = [](const StepSequence&, std::span<float> logits) {
    if (logits[5] > 3.8f) logits[6] = std::numeric_limits<float>::quiet_NaN();
  };
  int64_t accepted = 0, num_failed = 0;
  for (int64_t salt = 0; salt < 12; ++salt) {
    std::vector<std::vector<int32_t>> answers;
    std::vector<std::string> codes;
    for (const int64_t max_draft_tokens : {0, 7}) {
      FakeEngine fake(model);
      GenerationRequest request = repetitive_request(salt, 2, 40);
      request.max_draft_tokens = max_draft_tokens;
      const auto recorder = fake.submit(request);
      codes.push_back(recorder->error_code());
      answers.emplace_back();
      for (const TokenOutput& output : recorder->outputs()) answers.back().push_back(output.id);
      accepted += fake.engine->metrics().accepted_draft_tokens;
      check_blocks_are_back(fake);
    }
    CHECK_EQ(codes[0], codes[1]);
    CHECK_EQ(answers[0], answers[1]);
    if (!codes[0].empty()) ++num_failed;
  }
  CHECK(accepted > 0 && num_failed > 0 && num_failed < 12);
}

TEST(a_request_that_is_cancelled_in_a_callback_hears_no_further_token) {
  struct Canceller : Recorder {
    void on_token(const TokenOutput& token) override {
      Recorder::on_token(token);
      if (++count == 23) engine->cancel(id);
    }
    Engine* engine = nullptr;
    uint64_t id = 1;  // the first of its engine
    int count = 0;
  };
  FakeEngine fake;
  GenerationRequest request = repetitive_request(1, 1, 200);
  request.max_draft_tokens = 7;
  const auto listener = std::make_shared<Canceller>();
  listener->engine = fake.engine.get();
  fake.engine->submit(request, listener);
  CHECK_EQ(listener->answer().size(), 23u);
  CHECK(listener->reason() == FinishReason::kCancelled);
  CHECK(listener->stats().accepted_draft_tokens > 0);
  check_blocks_are_back(fake);
}

TEST(an_answer_copies_from_the_prompt_but_no_placeholders) {
  // The bias makes the answer spell out the prompt's beginning: w0 w1 w2 ... up to the image.
  GenerationRequest request = item_request(make_item(1, 2, 2), 1, 12);
  restrict_words(request, 1);
  request.prompt[3] = request.prompt[4] = 10;  // ... 10 10 <pad> <pad> <pad> <pad> ...
  check_same(run({request}, 7), run({request}, 0));
}

TEST(an_impossible_draft_length_is_refused) {
  FakeEngine fake;
  for (const int64_t max_draft_tokens : {int64_t{-1}, kMaxDraftTokens + 1}) {
    GenerationRequest request = text_request(4, 1, 4);
    request.max_draft_tokens = max_draft_tokens;
    const std::string message = CHECK_ERROR("ERR_INVALID_ARGUMENT", fake.submit(request));
    CHECK(message.find("maxDraftTokens") != std::string::npos);
  }
}
