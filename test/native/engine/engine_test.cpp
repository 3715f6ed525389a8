// What an engine answers: the same as one sequence by the book, whatever shares its steps.

#include "engine/engine.h"

#include <algorithm>

#include "check.h"
#include "engine/sampler.h"
#include "fake_model.h"

using namespace qvl;
using namespace qvl::test;

namespace {

EngineOptions small_chunks(int64_t prefill_chunk) {
  EngineOptions options;
  options.prefill_chunk = prefill_chunk;
  return options;
}

SamplingOptions sampled(uint64_t seed) {
  SamplingOptions options;
  options.temperature = 0.9f;
  options.top_p = 0.95f;
  options.repetition_penalty = 1.1f;
  options.presence_penalty = 0.3f;
  options.seed = seed;
  return options;
}

/// Requests of all kinds: short, long, sampled, with an image, with a video.
std::vector<GenerationRequest> mixed_requests(int64_t count) {
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < count; ++i) {
    GenerationRequest request;
    if (i % 4 == 1) {
      request = item_request(make_item(static_cast<uint8_t>(i), 3, 4), i, 12);
    } else if (i % 4 == 3) {
      request = item_request(make_item(static_cast<uint8_t>(i), 2, 3, 5, true), i, 9);
    } else {
      request = text_request(3 + 11 * i, i, 5 + 3 * (i % 7));
    }
    if (i % 3 == 0) request.sampling = sampled(static_cast<uint64_t>(i));
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace

TEST(one_request_is_answered_by_the_book) {
  FakeEngine fake;
  const GenerationRequest request = text_request(40, 1, 70);  // crosses block borders
  const auto recorder = fake.submit(request);
  CHECK_EQ(recorder->answer(), reference_answer(request));
  CHECK(recorder->reason() == FinishReason::kLength);
  check_blocks_are_back(fake);
}

TEST(a_chunk_border_changes_nothing) {
  const GenerationRequest request = item_request(make_item(9, 5, 7), 3, 20);
  for (const int64_t chunk : {1, 2, 7, 31, 32, 33, 200}) {
    FakeEngine fake({}, small_chunks(chunk));
    CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
  }
}

TEST(requests_that_share_steps_are_answered_as_if_alone) {
  // The first step waits until all requests are in, so that they do share steps.
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](auto) { gate.pass(); };
  FakeEngine fake(model, small_chunks(64));
  const std::vector<GenerationRequest> requests = mixed_requests(16);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (const auto& request : requests) recorders.push_back(fake.submit(request));
  gate.open();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK_EQ(recorders[i]->answer(), reference_answer(requests[i]));
  }
  CHECK(fake.log->largest_batch > 4);
  check_blocks_are_back(fake);
}

TEST(preemption_changes_no_answer_and_emits_nothing_twice) {
  Gate gate;
  FakeModelOptions model;
  model.num_blocks = 5;
  model.on_forward = [&](auto) { gate.pass(); };
  FakeEngine fake(model, small_chunks(48));
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < 8; ++i) {
    requests.push_back(i % 2 == 0 ? text_request(20 + i, i, 100)
                                  : item_request(make_item(static_cast<uint8_t>(i), 3, 5), i, 90));
    if (i % 3 == 0) requests.back().sampling = sampled(5);
  }
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (const auto& request : requests) recorders.push_back(fake.submit(request));
  gate.open();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK_EQ(recorders[i]->answer(), reference_answer(requests[i]));
  }
  const EngineMetrics metrics = fake.engine->metrics();
  CHECK(metrics.preemptions > 0);
  CHECK_EQ(metrics.generated_tokens, 4 * 100 + 4 * 90);
  CHECK_EQ(fake.log->encodings_begun.load(), 4);  // never encoded again
  check_blocks_are_back(fake);
}

TEST(visual_tokens_are_freed_once_nobody_can_need_them_again) {
  EngineOptions options;
  options.image_cache_bytes = 0;
  options.max_sequences = 4;
  options.max_context = 2048;  // 64 blocks: four times as many are all there are
  FakeEngine fake({}, options);
  const auto recorder = fake.submit(item_request(make_item(1, 4, 4), 1, 50));
  recorder->wait_for_tokens(2);
  CHECK_EQ(fake.log->embeddings_alive.load(), 0);
  recorder->wait();
}

TEST(visual_tokens_outlive_a_preemption_by_requests_that_come_later) {
  // The oldest request, alone at first, gives way to two of a higher priority.
  Gate gate;
  int forwards = 0;
  FakeModelOptions model;
  model.num_blocks = 5;
  model.on_forward = [&](auto) {
    if (++forwards == 4) gate.pass();
  };
  EngineOptions options = small_chunks(48);
  options.image_cache_bytes = 0;
  FakeEngine fake(model, options);
  std::vector<GenerationRequest> requests{item_request(make_item(1, 3, 5), 1, 100),
                                          text_request(20, 2, 100), text_request(21, 3, 100)};
  requests[0].use_cache = false;
  std::vector<std::shared_ptr<Recorder>> recorders{fake.submit(requests[0])};
  gate.wait_for_arrival();
  for (size_t i = 1; i < requests.size(); ++i) {
    requests[i].priority = 1;
    recorders.push_back(fake.submit(requests[i]));
  }
  gate.open();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK_EQ(recorders[i]->answer(), reference_answer(requests[i]));
  }
  CHECK(fake.engine->metrics().preemptions > 0);
  CHECK_EQ(fake.log->encodings_begun.load(), 1);
  check_blocks_are_back(fake);
}

TEST(requests_end_in_order_of_priority_with_the_same_answers) {
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](auto) { gate.pass(); };
  EngineOptions options;
  options.max_sequences = 1;
  FakeEngine fake(model, options);
  const auto first = fake.submit(text_request(4, 100, 5));
  gate.wait_for_arrival();
  const int32_t priorities[] = {0, -5, 9, 0, 1000, 9};
  std::vector<GenerationRequest> requests = mixed_requests(6);
  std::vector<std::shared_ptr<Recorder>> recorders;
  std::vector<size_t> order;  // filled on the engine's thread, read when all have ended
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].priority = priorities[i];
    const auto recorder = std::make_shared<Recorder>();
    recorder->before_finish = [&order, i] { order.push_back(i); };
    fake.engine->submit(requests[i], recorder);
    recorders.push_back(recorder);
  }
  gate.open();
  first->wait();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK_EQ(recorders[i]->answer(), reference_answer(requests[i]));
  }
  CHECK(order == (std::vector<size_t>{4, 2, 5, 0, 3, 1}));
  check_blocks_are_back(fake);
}

TEST(several_items_of_both_kinds_find_their_pads) {
  // Images and videos are each in order of their pads; the request lists the videos first.
  const VisionItem image_a = make_item(10, 2, 3), image_b = make_item(20, 1, 5);
  const VisionItem video_a = make_item(30, 2, 2, 4, true), video_b = make_item(40, 1, 2, 3, true);
  GenerationRequest request;
  const auto add = [&](int64_t count, int32_t pad) {
    request.prompt.push_back(50);
    request.prompt.insert(request.prompt.end(), static_cast<size_t>(count), pad);
    request.prompt.push_back(51);
  };
  add(image_a.num_tokens(), 3);
  add(video_a.num_tokens(), 4);
  add(image_b.num_tokens(), 3);
  add(video_b.num_tokens(), 4);
  request.items = {video_a, video_b, image_a, image_b};
  request.max_tokens = 40;
  FakeEngine fake({}, small_chunks(5));
  CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
}

TEST(decoding_goes_on_while_an_item_is_encoded) {
  FakeModelOptions model;
  model.pieces_per_item = 30;
  FakeEngine fake(model);
  const auto decoding = fake.submit(text_request(4, 1, 2000));
  decoding->wait_for_tokens(1);
  const auto encoding = fake.submit(item_request(make_item(1, 2, 2), 2, 1));
  encoding->wait();
  // A piece a turn: at least as many tokens as pieces came out meanwhile.
  CHECK(decoding->outputs().size() >= 30u);
  CHECK(encoding->stats().vision_ms >= 0.0);
  fake.engine->shutdown();
}

TEST(the_stop_id_is_emitted_last) {
  GenerationRequest request = text_request(6, 4, 30);
  const std::vector<int32_t> whole = reference_answer(request);
  request.stop_ids = {2, whole[9]};
  const auto expected = reference_answer(request);
  CHECK(expected.size() <= 10u);
  FakeEngine fake;
  const auto recorder = fake.submit(request);
  CHECK_EQ(recorder->answer(), expected);
  CHECK_EQ(recorder->answer().back(), whole[9]);
  CHECK(recorder->reason() == FinishReason::kStop);
  CHECK_EQ(recorder->stats().completion_tokens, static_cast<int64_t>(expected.size()));
}

TEST(prompt_and_answer_end_at_the_context_limit) {
  EngineOptions options;
  options.max_context = 40;
  FakeEngine fake({}, options);
  const GenerationRequest request = text_request(33, 1, 1000);
  const auto recorder = fake.submit(request);
  CHECK_EQ(recorder->answer().size(), 7u);
  CHECK_EQ(recorder->answer(), reference_answer(request, 40));
  CHECK(recorder->reason() == FinishReason::kLength);
}

TEST(top_logits_are_raw_and_sorted) {
  GenerationRequest request = text_request(6, 4, 3);
  request.top_logits = 4;
  request.sampling.repetition_penalty = 3.0f;
  FakeEngine fake;
  const auto recorder = fake.submit(request);
  recorder->wait();
  std::vector<FakeEntry> history;
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    const int32_t p = static_cast<int32_t>(i);
    history.push_back({request.prompt[i], p, p, p});
  }
  std::vector<float> logits(static_cast<size_t>(fake_config().vocab_size));
  fill_logits(history, logits);
  const TokenOutput first = recorder->outputs().front();
  CHECK_EQ(first.top_logits.size(), 4u);
  std::vector<float> sorted = logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (size_t i = 0; i < 4; ++i) {
    CHECK_EQ(first.top_logits[i].logit, sorted[i]);
    CHECK_EQ(logits[static_cast<size_t>(first.top_logits[i].id)], sorted[i]);
  }
  CHECK_EQ(first.logit, logits[static_cast<size_t>(first.id)]);
  CHECK_EQ(first.log_sum_exp, 0.0);  // not asked for
  request.log_probabilities = true;
  const auto asked = fake.submit(request);
  asked->wait();
  CHECK_EQ(asked->outputs().front().log_sum_exp, log_sum_exp(logits));
}

TEST(metrics_and_stats_count) {
  FakeEngine fake;
  const GenerationRequest request = item_request(make_item(1, 2, 2), 1, 6);
  const auto recorder = fake.submit(request);
  const GenerationStats stats = recorder->stats();
  CHECK_EQ(stats.prompt_tokens, static_cast<int64_t>(request.prompt.size()));
  CHECK_EQ(stats.completion_tokens, 6);
  CHECK(stats.queue_ms >= 0.0 && stats.vision_ms >= 0.0 && stats.prefill_ms > 0.0);
  CHECK(stats.first_token_ms >= stats.queue_ms + stats.vision_ms + stats.prefill_ms);
  CHECK(stats.decode_ms > 0.0);
  const EngineMetrics metrics = fake.engine->metrics();
  CHECK_EQ(metrics.kv_blocks_total, 256);
  CHECK_EQ(metrics.generated_tokens, 6);
  CHECK_EQ(metrics.prompt_tokens, stats.prompt_tokens);
  CHECK_EQ(metrics.steps, 6);  // one chunk that gives the first token, five tokens decoded
  CHECK_EQ(fake.log->trims.load(), 1);
}

TEST(a_wrong_request_is_refused_at_once_and_says_why) {
  EngineOptions options;
  options.max_context = 100;
  FakeModelOptions model;
  model.num_blocks = 2;
  FakeEngine fake(model, options);
  const auto refuse = [&](const char* code, const GenerationRequest& request) {
    return CHECK_ERROR(code, fake.submit(request));
  };
  CHECK(refuse("ERR_INVALID_ARGUMENT", {}).find("empty") != std::string::npos);

  GenerationRequest request = text_request(4, 1, 4);
  request.prompt[2] = 211;
  CHECK(refuse("ERR_INVALID_ARGUMENT", request).find("token 2") != std::string::npos);
  request.prompt[2] = -1;
  refuse("ERR_INVALID_ARGUMENT", request);

  refuse("ERR_INVALID_ARGUMENT", text_request(4, 1, 0));
  request = text_request(4, 1, 4);
  request.top_logits = -1;
  refuse("ERR_INVALID_ARGUMENT", request);
  request.top_logits = 0;
  request.sampling.temperature = -1.0f;
  CHECK(refuse("ERR_INVALID_ARGUMENT", request).find("temperature") != std::string::npos);

  CHECK(refuse("ERR_CONTEXT_LENGTH", text_request(100, 1, 4)).find("100 tokens") !=
        std::string::npos);
  const std::string message = refuse("ERR_OUT_OF_MEMORY", text_request(60, 1, 6));
  CHECK(message.find("65 tokens") != std::string::npos);
  CHECK(message.find("64") != std::string::npos);
  CHECK_EQ(fake.submit(text_request(60, 1, 5))->answer().size(), 5u);  // 64 tokens fit

  request = item_request(make_item(1, 2, 2), 1, 4);
  request.items.clear();
  refuse("ERR_PROMPT_VISION_MISMATCH", request);
  request.items = {make_item(1, 2, 3)};
  refuse("ERR_PROMPT_VISION_MISMATCH", request);
  request.items = {VisionItem{}};
  refuse("ERR_INVALID_ARGUMENT", request);
  RgbImage image{30, 28, std::vector<uint8_t>(30 * 28 * 3)};
  request.items = {VisionItem{{std::make_shared<const RgbImage>(image)}, false}};
  CHECK(refuse("ERR_INVALID_ARGUMENT", request).find("multiples of 28") != std::string::npos);
  image = {56, 56, std::vector<uint8_t>(10)};
  request.items = {VisionItem{{std::make_shared<const RgbImage>(image)}, false}};
  refuse("ERR_INVALID_ARGUMENT", request);

  CHECK_ERROR("ERR_INVALID_ARGUMENT", fake.engine->submit(text_request(4, 1, 4), nullptr));
  check_blocks_are_back(fake);
}

TEST(the_context_error_carries_its_numbers) {
  EngineOptions options;
  options.max_context = 10;
  FakeEngine fake({}, options);
  try {
    fake.submit(item_request(make_item(1, 2, 2), 1, 4));
    CHECK(false);
  } catch (const Error& error) {
    CHECK_EQ(error.code(), std::string("ERR_CONTEXT_LENGTH"));
    const std::vector<Error::Detail> expected = {
        {"prompt_tokens", int64_t{13}}, {"image_tokens", int64_t{4}}, {"limit", int64_t{10}}};
    CHECK(error.details() == expected);
  }
}

TEST(impossible_engine_options_are_refused) {
  for (const auto change :
       {+[](EngineOptions& o) { o.max_sequences = 0; }, +[](EngineOptions& o) { o.max_queue = -1; },
        +[](EngineOptions& o) { o.max_context = 1; },
        +[](EngineOptions& o) { o.max_context = int64_t{1} << 40; },
        +[](EngineOptions& o) { o.prefill_chunk = 0; },
        +[](EngineOptions& o) { o.max_draft_rows = -1; },
        +[](EngineOptions& o) { o.image_cache_bytes = -1; }}) {
    EngineOptions options;
    change(options);
    CHECK_ERROR("ERR_INVALID_ARGUMENT", FakeEngine({}, options));
  }
  CHECK_ERROR("ERR_INVALID_ARGUMENT", Engine(nullptr, {}));
}
