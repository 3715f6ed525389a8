// Cancels, errors, shutdown and listeners that call back.

#include <atomic>
#include <random>
#include <thread>

#include "check.h"
#include "engine/engine.h"
#include "fake_model.h"

using namespace qvl;
using namespace qvl::test;

namespace {

bool is_prefix(const std::vector<int32_t>& part, const std::vector<int32_t>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

bool holds_token(std::span<const StepSequence> sequences, int32_t id) {
  for (const StepSequence& sequence : sequences) {
    for (const int32_t token : sequence.token_ids) {
      if (token == id) return true;
    }
  }
  return false;
}

}  // namespace

TEST(half_of_sixteen_cancelled_at_random_moments_leaves_the_rest_right) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    FakeModelOptions model;
    model.num_blocks = 24;  // tight, so that some are preempted too
    EngineOptions options;
    options.prefill_chunk = 24;
    options.max_sequences = 10;
    FakeEngine fake(model, options);
    std::vector<GenerationRequest> requests;
    std::vector<std::shared_ptr<Recorder>> recorders;
    std::vector<std::thread> cancellers;
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t salt = 100 * static_cast<int64_t>(seed) + i;
      requests.push_back(i % 3 == 0
                             ? item_request(make_item(static_cast<uint8_t>(i), 4, 5), salt, 40)
                             : text_request(static_cast<int64_t>(random() % 90 + 1), salt, 60));
      uint64_t id = 0;
      recorders.push_back(fake.submit(requests.back(), &id));
      if (i % 2 == 0) continue;
      const size_t moment = random() % 50;  // 0: at once, in the queue
      cancellers.emplace_back([&fake, recorder = recorders.back(), id, moment] {
        recorder->wait_for_tokens(moment);
        fake.engine->cancel(id);
      });
    }
    for (std::thread& canceller : cancellers) canceller.join();
    for (size_t i = 0; i < requests.size(); ++i) {
      const std::vector<int32_t> expected = reference_answer(requests[i]);
      if (i % 2 == 0) {
        CHECK_EQ(recorders[i]->answer(), expected);
        CHECK(recorders[i]->reason() == FinishReason::kLength);
      } else {
        CHECK(is_prefix(recorders[i]->answer(), expected));
      }
    }
    check_blocks_are_back(fake);
  }
}

TEST(a_cancel_stops_a_prefill_between_layers) {
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](auto) { gate.pass(); };
  FakeEngine fake(model);
  uint64_t id = 0;
  const auto recorder = fake.submit(text_request(100, 1, 5), &id);
  gate.wait_for_arrival();
  fake.engine->cancel(id);
  gate.open();
  CHECK(recorder->answer().empty());
  CHECK(recorder->reason() == FinishReason::kCancelled);
  CHECK_EQ(fake.log->forwards.load(), 1);
  CHECK_EQ(fake.engine->metrics().steps, 0);  // the step was not completed
  check_blocks_are_back(fake);
}

TEST(a_cancel_during_a_shared_step_takes_only_its_own_token) {
  Gate both_in, gate;
  int forwards = 0;
  FakeModelOptions model;
  model.on_forward = [&](auto) {
    if (++forwards == 1) both_in.pass();
    if (forwards == 4) gate.pass();
  };
  FakeEngine fake(model);
  const GenerationRequest kept = text_request(4, 1, 20), dropped = text_request(4, 2, 20);
  const auto kept_recorder = fake.submit(kept);
  uint64_t id = 0;
  const auto dropped_recorder = fake.submit(dropped, &id);
  both_in.open();
  gate.wait_for_arrival();
  fake.engine->cancel(id);
  const size_t tokens_before = dropped_recorder->outputs().size();
  CHECK(tokens_before == 2u || tokens_before == 3u);  // in the first step or one later
  gate.open();
  CHECK_EQ(dropped_recorder->answer().size(), tokens_before);
  CHECK(dropped_recorder->reason() == FinishReason::kCancelled);
  CHECK_EQ(kept_recorder->answer(), reference_answer(kept));
}

TEST(a_cancel_stops_a_vision_encode_at_the_next_piece) {
  Gate gate;
  std::atomic<int> pieces{0};
  FakeModelOptions model;
  model.pieces_per_item = 100;
  model.on_piece = [&] {
    if (++pieces == 5) gate.pass();
  };
  FakeEngine fake(model);
  uint64_t id = 0;
  const auto recorder = fake.submit(item_request(make_item(1, 2, 2), 1, 5), &id);
  const GenerationRequest next = item_request(make_item(2, 2, 2), 2, 5);
  const auto next_recorder = fake.submit(next);
  gate.wait_for_arrival();
  fake.engine->cancel(id);
  gate.open();
  CHECK(recorder->reason() == FinishReason::kCancelled);
  CHECK_EQ(next_recorder->answer(), reference_answer(next));
  CHECK_EQ(fake.log->pieces.load(), 5 + 100);
  CHECK_EQ(fake.log->forwards.load(), 5);  // all of the second one
  check_blocks_are_back(fake);
}

TEST(a_cancel_reaches_the_queue) {
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](auto) { gate.pass(); };
  EngineOptions options;
  options.max_sequences = 1;
  FakeEngine fake(model, options);
  const GenerationRequest first = text_request(4, 1, 5);
  const auto running = fake.submit(first);
  gate.wait_for_arrival();
  uint64_t id = 0;
  const auto waiting = fake.submit(text_request(4, 2, 5), &id);
  CHECK_EQ(fake.engine->metrics().waiting, 1);
  fake.engine->cancel(id);
  gate.open();
  CHECK(waiting->reason() == FinishReason::kCancelled);
  CHECK(waiting->answer().empty());
  CHECK_EQ(running->answer(), reference_answer(first));
  fake.engine->cancel(id);      // a no-op
  fake.engine->cancel(123456);  // nobody
}

TEST(the_queue_is_bounded_and_opens_again) {
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](auto) { gate.pass(); };
  EngineOptions options;
  options.max_sequences = 2;
  options.max_queue = 3;
  FakeEngine fake(model, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 5; ++i) recorders.push_back(fake.submit(text_request(4, i, 3)));
  CHECK_ERROR("ERR_QUEUE_FULL", fake.submit(text_request(4, 9, 3)));
  gate.open();
  for (const auto& recorder : recorders) CHECK_EQ(recorder->answer().size(), 3u);
  CHECK_EQ(fake.submit(text_request(4, 9, 3))->answer().size(), 3u);
}

TEST(a_failing_step_ends_only_the_sequence_that_causes_it) {
  constexpr int32_t kPoison = 7;  // text() gives ids from 10 on
  Gate gate;
  FakeModelOptions model;
  model.on_forward = [&](std::span<const StepSequence> sequences) {
    gate.pass();
    if (holds_token(sequences, kPoison)) throw Error("ERR_NUMERICS", "not a number in layer 3");
  };
  FakeEngine fake(model);
  const GenerationRequest good = text_request(9, 1, 30), other = text_request(30, 2, 30);
  GenerationRequest bad = text_request(9, 3, 30);
  bad.prompt[4] = kPoison;
  const auto good_recorder = fake.submit(good);
  const auto bad_recorder = fake.submit(bad);
  const auto other_recorder = fake.submit(other);
  gate.open();
  CHECK_EQ(bad_recorder->error_code(), std::string("ERR_NUMERICS"));
  CHECK_EQ(good_recorder->answer(), reference_answer(good));
  CHECK_EQ(other_recorder->answer(), reference_answer(other));
  CHECK_EQ(fake.submit(good)->answer(), reference_answer(good));
  check_blocks_are_back(fake);
}

TEST(logits_that_are_not_numbers_end_their_sequence_alone) {
  FakeModelOptions model;
  model.on_logits = [](const StepSequence& sequence, std::span<float> logits) {
    const bool in_bad_one = sequence.token_ids.size() == 13;
    if (in_bad_one) logits[5] = std::nanf("");
  };
  FakeEngine fake(model);
  const GenerationRequest good = text_request(9, 1, 10);
  const auto good_recorder = fake.submit(good);
  const auto bad_recorder = fake.submit(text_request(13, 2, 10));
  CHECK_EQ(bad_recorder->error_code(), std::string("ERR_NUMERICS"));
  CHECK_EQ(good_recorder->answer(), reference_answer(good));
  check_blocks_are_back(fake);
}

TEST(every_kind_of_exception_becomes_a_typed_error) {
  int call = 0;
  FakeModelOptions model;
  model.on_forward = [&](auto) {
    if (++call == 1) throw std::bad_alloc();
    if (call == 2) throw std::runtime_error("what");
    if (call == 3) throw Cancelled{};  // nobody had asked for it
    if (call == 4) throw Error("ERR_OUT_OF_MEMORY", "no workspace");
  };
  FakeEngine fake(model);
  for (const char* code :
       {"ERR_OUT_OF_MEMORY", "ERR_INTERNAL", "ERR_INTERNAL", "ERR_OUT_OF_MEMORY"}) {
    CHECK_EQ(fake.submit(text_request(4, 1, 3))->error_code(), std::string(code));
  }
  CHECK_EQ(fake.submit(text_request(4, 1, 3))->answer().size(), 3u);
  check_blocks_are_back(fake);
}

TEST(a_failing_vision_encode_ends_its_request_alone) {
  std::atomic<int> pieces{0};
  FakeModelOptions model;
  model.on_piece = [&] {
    if (++pieces == 2) throw Error("ERR_OUT_OF_MEMORY", "no workspace for the image");
  };
  FakeEngine fake(model);
  const GenerationRequest good = item_request(make_item(2, 2, 2), 2, 5);
  const auto bad_recorder = fake.submit(item_request(make_item(1, 2, 2), 1, 5));
  const auto good_recorder = fake.submit(good);
  CHECK_EQ(bad_recorder->error_code(), std::string("ERR_OUT_OF_MEMORY"));
  CHECK_EQ(good_recorder->answer(), reference_answer(good));
  check_blocks_are_back(fake);
}

TEST(shutdown_in_mid_run_ends_every_request_once) {
  Gate gate;
  std::atomic<int> forwards{0};
  FakeModelOptions model;
  model.on_forward = [&](auto) {
    if (++forwards == 5) gate.pass();
  };
  EngineOptions options;
  options.max_sequences = 3;
  FakeEngine fake(model, options);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 10; ++i) {
    recorders.push_back(fake.submit(i % 2 == 0 ? text_request(5, i, 500)
                                               : item_request(make_item(1, 2, 2), i, 500)));
  }
  gate.wait_for_arrival();
  std::thread one([&] { fake.engine->shutdown(); });
  std::thread other([&] { fake.engine->shutdown(); });
  // The step is held; shutdown must be visible in it before it goes on.
  for (;;) {
    try {
      fake.submit(text_request(5, 1, 1));
    } catch (const Error& error) {
      if (error.code() == "ERR_DISPOSED") break;
    }
  }
  gate.open();
  one.join();
  other.join();
  CHECK(fake.log->destroyed.load());
  CHECK_EQ(fake.log->forwards.load(), 5);
  CHECK_EQ(fake.log->stopped_forwards.load(), 1);  // between layers
  for (const auto& recorder : recorders) {
    CHECK_EQ(recorder->error_code(), std::string("ERR_DISPOSED"));
  }
  check_blocks_are_back(fake);
  fake.engine->shutdown();
  fake.engine->cancel(1);
  CHECK_ERROR("ERR_DISPOSED", fake.submit(text_request(5, 1, 1)));
}

TEST(shutdown_ends_a_vision_encode) {
  Gate gate;
  FakeModelOptions model;
  model.pieces_per_item = 1'000'000'000;
  model.on_piece = [&] { gate.pass(); };
  FakeEngine fake(model);
  const auto recorder = fake.submit(item_request(make_item(1, 2, 2), 1, 5));
  gate.wait_for_arrival();
  gate.open();
  fake.engine->shutdown();
  CHECK_EQ(recorder->error_code(), std::string("ERR_DISPOSED"));
  CHECK(fake.log->destroyed.load());
  check_blocks_are_back(fake);
}

TEST(an_engine_without_requests_ends) {
  const auto log = std::make_shared<FakeModelLog>();
  { const Engine engine(std::make_unique<FakeModel>(FakeModelOptions{}, log), {}); }
  CHECK(log->destroyed.load());
}

TEST(a_listener_may_submit_from_its_last_event) {
  FakeEngine fake;
  const GenerationRequest first = text_request(4, 1, 5), second = text_request(4, 2, 5);
  auto recorder = std::make_shared<Recorder>();
  auto next = std::make_shared<Recorder>();
  recorder->before_finish = [&] {
    // The memory of the finished one is back already.
    if (fake.engine->metrics().kv_blocks_used == 0) fake.engine->submit(second, next);
  };
  fake.engine->submit(first, recorder);
  CHECK_EQ(recorder->answer(), reference_answer(first));
  CHECK_EQ(next->answer(), reference_answer(second));
}

TEST(a_listener_may_shut_down_and_let_go_of_the_engine) {
  const auto log = std::make_shared<FakeModelLog>();
  auto engine = std::make_unique<Engine>(std::make_unique<FakeModel>(FakeModelOptions{}, log),
                                         EngineOptions{});
  auto recorder = std::make_shared<Recorder>();
  auto other = std::make_shared<Recorder>();
  Gate submitted;
  recorder->before_finish = [&] {
    submitted.pass();
    engine->shutdown();
    engine.reset();
  };
  engine->submit(text_request(4, 1, 5), recorder);
  engine->submit(text_request(4, 2, 1000), other);
  submitted.open();
  CHECK_EQ(recorder->answer().size(), 5u);
  CHECK_EQ(other->error_code(), std::string("ERR_DISPOSED"));
}

TEST(a_listener_that_throws_loses_its_request_only) {
  class Thrower : public GenerationListener {
   public:
    void on_token(const TokenOutput&) override {
      ++tokens;
      throw std::runtime_error("a bug of the listener");
    }
    void on_finish(FinishReason reason, const GenerationStats&) override {
      cancelled = reason == FinishReason::kCancelled;
    }
    void on_error(std::exception_ptr) override {}
    std::atomic<int> tokens{0};
    std::atomic<bool> cancelled{false};
  };
  FakeEngine fake;
  auto thrower = std::make_shared<Thrower>();
  fake.engine->submit(text_request(4, 1, 50), thrower);
  const GenerationRequest good = text_request(4, 2, 50);
  CHECK_EQ(fake.submit(good)->answer(), reference_answer(good));
  CHECK_EQ(thrower->tokens.load(), 1);
  CHECK(thrower->cancelled.load());
}

TEST(the_cache_is_trimmed_when_nobody_uses_it) {
  FakeEngine fake;
  GenerationRequest request = text_request(40, 1, 5);
  request.use_cache = false;
  for (int64_t i = 1; i <= 3; ++i) {
    CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
    CHECK_EQ(fake.log->trims.load(), i);
  }
  // A full block is kept for later requests, and with it its memory, until the cache is cleared.
  request.use_cache = true;
  CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
  CHECK_EQ(fake.log->trims.load(), 3);
  CHECK_EQ(fake.log->releases.load(), 0);
  fake.engine->clear_cache();
  CHECK_EQ(fake.log->releases.load(), 1);
  CHECK_EQ(fake.log->trims.load(), 4);
  CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
}

TEST(many_threads_submit_cancel_and_look_at_once) {
  FakeModelOptions model;
  model.num_blocks = 16;
  EngineOptions options;
  options.max_sequences = 6;
  FakeEngine fake(model, options);
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (uint32_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      std::mt19937 random(client);
      for (int64_t i = 0; i < 12; ++i) {
        const GenerationRequest request =
            text_request(static_cast<int64_t>(random() % 60 + 1), i + 50 * client, 25);
        uint64_t id = 0;
        const auto recorder = fake.submit(request, &id);
        const bool drop = random() % 2 == 0;
        if (drop) {
          recorder->wait_for_tokens(random() % 20);
          fake.engine->cancel(id);
        }
        const auto answer = recorder->answer();
        const auto expected = reference_answer(request);
        if (drop ? !is_prefix(answer, expected) : answer != expected) ++wrong;
        if (fake.engine->metrics().kv_blocks_used > 16) ++wrong;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK_EQ(wrong.load(), 0);
  check_blocks_are_back(fake);
}
