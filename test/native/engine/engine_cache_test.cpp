// What later requests take over from earlier ones, and that it changes no answer.

#include <algorithm>
#include <random>
#include <thread>

#include "check.h"
#include "engine/engine.h"
#include "fake_model.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// The next turn of a conversation: its prompt, its answer, `question`. The fake model may well say
/// a pad, for which there is no item: the answer is then cut off before it.
GenerationRequest next_turn(const GenerationRequest& turn, const std::vector<int32_t>& answer,
                            const std::vector<int32_t>& question) {
  GenerationRequest next = turn;
  const auto pad = std::find_if(answer.begin(), answer.end(), [](int32_t id) {
    return id == fake_config().image_token_id || id == fake_config().video_token_id;
  });
  next.prompt.insert(next.prompt.end(), answer.begin(), pad);
  next.prompt.insert(next.prompt.end(), question.begin(), question.end());
  return next;
}

void add_image(GenerationRequest& request, const VisionItem& image) {
  request.prompt.insert(request.prompt.end(), static_cast<size_t>(image.num_tokens()),
                        fake_config().image_token_id);
  request.items.push_back(image);
}

}  // namespace

TEST(the_next_turn_goes_on_where_the_last_one_ended) {
  FakeEngine fake;
  const GenerationRequest first = item_request(make_item(1, 6, 7), 2, 50);  // 51 tokens
  const auto recorder = fake.submit(first);
  CHECK_EQ(recorder->answer(), reference_answer(first));
  CHECK_EQ(recorder->stats().cached_tokens, 0);
  CHECK(recorder->stats().reused_items == std::vector<bool>{false});

  // 100 tokens are known (the answer's last one was never fed back): three blocks.
  const GenerationRequest second = next_turn(first, recorder->answer(), text(10, 9));
  const auto again = fake.submit(second);
  CHECK_EQ(again->answer(), reference_answer(second));
  CHECK_EQ(again->stats().cached_tokens, 96);
  CHECK(again->stats().reused_items == std::vector<bool>{true});
  CHECK_EQ(fake.log->encodings_begun.load(), 1);
  const EngineMetrics metrics = fake.engine->metrics();
  CHECK_EQ(metrics.cached_prompt_tokens, 96);
  CHECK_EQ(metrics.kv_blocks_used, 0);
  CHECK_EQ(metrics.kv_blocks_cached, 5);  // 160 tokens of 51 + 50 + 10 + 50
  CHECK_EQ(metrics.image_cache.hits + metrics.image_cache.misses, 1);  // not even looked for
}

TEST(a_second_image_in_a_later_turn_has_the_right_positions) {
  FakeEngine fake;
  const GenerationRequest first = item_request(make_item(1, 8, 9), 1, 20);
  const auto answer = fake.submit(first)->answer();
  GenerationRequest second = next_turn(first, answer, text(3, 5));
  add_image(second, make_item(2, 5, 3));
  for (const int32_t id : text(4, 6)) second.prompt.push_back(id);
  const auto recorder = fake.submit(second);
  CHECK_EQ(recorder->answer(), reference_answer(second));
  CHECK_EQ(recorder->stats().cached_tokens, 96);
  CHECK(recorder->stats().reused_items == std::vector<bool>({true, false}));
  CHECK_EQ(fake.log->encodings_begun.load(), 2);
}

TEST(a_prompt_that_is_known_as_a_whole_computes_its_last_token) {
  FakeEngine fake;
  for (const int64_t length : {32, 64, 65}) {
    const GenerationRequest request = text_request(length, 7, 3);
    CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
    const auto again = fake.submit(request);
    CHECK_EQ(again->answer(), reference_answer(request));
    CHECK_EQ(again->stats().cached_tokens, (length - 1) / 32 * 32);
  }
}

TEST(other_pixels_or_another_grid_behind_equal_pads_are_not_taken_over) {
  FakeEngine fake;
  for (const VisionItem& item : {make_item(1, 8, 8), make_item(2, 8, 8), make_item(1, 4, 16),
                                 make_item(1, 16, 4), make_item(1, 8, 8)}) {
    const GenerationRequest request = item_request(item, 1, 10);
    CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
  }
  CHECK_EQ(fake.log->encodings_begun.load(), 4);  // the fifth is the first
}

TEST(an_image_elsewhere_in_another_prompt_is_not_encoded_again) {
  FakeEngine fake;
  const VisionItem image = make_item(3, 4, 5);
  const GenerationRequest one = item_request(image, 1, 5), other = item_request(image, 2, 5);
  CHECK_EQ(fake.submit(one)->answer(), reference_answer(one));
  const auto recorder = fake.submit(other);
  CHECK_EQ(recorder->answer(), reference_answer(other));
  CHECK_EQ(recorder->stats().cached_tokens, 0);
  CHECK(recorder->stats().reused_items == std::vector<bool>{true});
  CHECK_EQ(fake.log->encodings_begun.load(), 1);
  CHECK_EQ(fake.engine->metrics().image_cache.hits, 1);
}

TEST(concurrent_requests_with_one_image_encode_it_once) {
  Gate gate;
  FakeModelOptions model;
  model.on_piece = [&] { gate.pass(); };
  FakeEngine fake(model);
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int64_t i = 0; i < 6; ++i) {
    requests.push_back(item_request(make_item(3, 4, 5), i, 5));
    recorders.push_back(fake.submit(requests.back()));
  }
  gate.open();
  for (size_t i = 0; i < requests.size(); ++i) {
    CHECK_EQ(recorders[i]->answer(), reference_answer(requests[i]));
  }
  CHECK_EQ(fake.log->encodings_begun.load(), 1);
}

TEST(a_request_may_keep_out_of_the_caches) {
  FakeEngine fake;
  GenerationRequest request = item_request(make_item(1, 8, 8), 1, 10);
  request.use_cache = false;
  for (int i = 1; i <= 2; ++i) {
    const auto recorder = fake.submit(request);
    CHECK_EQ(recorder->answer(), reference_answer(request));
    CHECK_EQ(recorder->stats().cached_tokens, 0);
    CHECK_EQ(fake.log->encodings_begun.load(), i);
    CHECK_EQ(fake.engine->metrics().kv_blocks_cached, 0);
    CHECK_EQ(fake.log->embeddings_alive.load(), 0);
  }
  request.use_cache = true;
  CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
  CHECK_EQ(fake.log->encodings_begun.load(), 3);  // it had given nothing either
}

TEST(a_pinned_image_is_encoded_once_whatever_the_budget) {
  EngineOptions options;
  options.image_cache_bytes = 0;
  FakeEngine fake({}, options);
  const VisionItem image = make_item(3, 4, 5);
  fake.engine->pin(content_hash(image));
  for (int64_t i = 0; i < 3; ++i) {
    const GenerationRequest request = item_request(image, i, 5);
    CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
  }
  CHECK_EQ(fake.log->encodings_begun.load(), 1);
  fake.engine->clear_cache();
  CHECK_EQ(fake.log->embeddings_alive.load(), 1);
  fake.engine->unpin(content_hash(image));
  CHECK_EQ(fake.log->embeddings_alive.load(), 0);
}

TEST(clearing_while_a_request_runs_changes_nothing_for_it) {
  Gate gate;
  int forwards = 0;
  FakeModelOptions model;
  model.on_forward = [&](auto) {
    if (++forwards == 40) gate.pass();
  };
  FakeEngine fake(model);
  const GenerationRequest request = text_request(40, 1, 100);
  const auto recorder = fake.submit(request);
  gate.wait_for_arrival();
  std::thread clearing([&] { fake.engine->clear_cache(); });
  gate.open();
  clearing.join();
  CHECK_EQ(recorder->answer(), reference_answer(request));
  const GenerationRequest next = next_turn(request, recorder->answer(), text(5, 2));
  CHECK_EQ(fake.submit(next)->answer(), reference_answer(next));
}

TEST(clearing_throws_what_the_device_fails_with_and_requests_go_on) {
  FakeModelOptions model;
  model.on_release = [] { throw Error("ERR_BACKEND_FAILED", "the device is gone"); };
  FakeEngine fake(model);
  CHECK_ERROR("ERR_BACKEND_FAILED", fake.engine->clear_cache());
  CHECK_EQ(fake.log->releases.load(), 1);
  const GenerationRequest request = text_request(4, 1, 5);
  CHECK_EQ(fake.submit(request)->answer(), reference_answer(request));
}

TEST(clearing_a_shut_down_engine_returns) {
  FakeEngine fake;
  fake.submit(item_request(make_item(1, 6, 7), 1, 20))->wait();
  CHECK(fake.engine->metrics().kv_blocks_cached > 0);
  fake.engine->shutdown();
  CHECK_EQ(fake.engine->metrics().kv_blocks_cached, 0);
  CHECK_EQ(fake.log->embeddings_alive.load(), 0);
  fake.engine->clear_cache();
}

TEST(a_cancelled_request_leaves_only_what_it_had_computed) {
  Gate gate;
  int forwards = 0;
  FakeModelOptions model;
  model.on_forward = [&](auto) {
    if (++forwards == 3) gate.pass();
  };
  EngineOptions options;
  options.prefill_chunk = 40;
  FakeEngine fake(model, options);
  const GenerationRequest request = text_request(200, 1, 5);
  uint64_t id = 0;
  const auto recorder = fake.submit(request, &id);
  gate.wait_for_arrival();  // in the third chunk
  fake.engine->cancel(id);
  gate.open();
  CHECK(recorder->reason() == FinishReason::kCancelled);
  CHECK_EQ(fake.engine->metrics().kv_blocks_cached, 2);  // of 80 tokens
  const auto again = fake.submit(request);
  CHECK_EQ(again->answer(), reference_answer(request));
  CHECK_EQ(again->stats().cached_tokens, 64);
}

/// Conversations that fork, come back, and push each other out of a pool that is too small for
/// them: whatever is taken over, preempted, evicted or cleared, no answer changes.
TEST(conversations_over_a_tight_pool_are_answered_by_the_book) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    FakeModelOptions model;
    model.num_blocks = 14;
    EngineOptions options;
    options.prefill_chunk = 24;
    options.max_sequences = 5;
    options.image_cache_bytes = 200;  // two images
    FakeEngine fake(model, options);
    std::atomic<int64_t> reused{0};
    std::atomic<int> wrong{0};
    std::vector<std::thread> clients;
    for (uint32_t client = 0; client < 4; ++client) {
      clients.emplace_back([&, client] {
        std::mt19937 random(10 * seed + client);
        const auto below = [&](uint32_t limit) { return static_cast<int64_t>(random() % limit); };
        std::vector<GenerationRequest> known;
        for (int i = 0; i < 25; ++i) {
          GenerationRequest request;
          if (known.empty() || random() % 4 == 0) {
            // All clients draw from few beginnings.
            const VisionItem image = make_item(static_cast<uint8_t>(below(3)), 5, 5);
            request = random() % 2 == 0 ? item_request(image, below(2), 1)
                                        : text_request(40, below(2), 1);
          } else {
            request = known[random() % known.size()];
            for (const int32_t token : text(below(40) + 1, below(2))) {
              request.prompt.push_back(token);
            }
            if (random() % 3 == 0)
              add_image(request, make_item(static_cast<uint8_t>(below(3)), 4, 6));
          }
          if (request.prompt.size() > 350) {
            known.clear();
            continue;
          }
          request.max_tokens = below(60) + 1;
          request.use_cache = random() % 8 != 0;
          uint64_t id = 0;
          const auto recorder = fake.submit(request, &id);
          if (random() % 8 == 0) {
            recorder->wait_for_tokens(random() % 5);
            fake.engine->cancel(id);
            recorder->wait();
            continue;
          }
          if (random() % 10 == 0) fake.engine->clear_cache();
          const std::vector<int32_t> answer = recorder->answer();
          if (answer != reference_answer(request)) ++wrong;
          reused += recorder->stats().cached_tokens;
          known.push_back(next_turn(request, answer, {}));
        }
      });
    }
    for (std::thread& client : clients) client.join();
    CHECK_EQ(wrong.load(), 0);
    CHECK(reused > 500);
    CHECK_EQ(fake.engine->metrics().kv_blocks_used, 0);
    fake.engine->clear_cache();
    CHECK_EQ(fake.engine->metrics().kv_blocks_cached, 0);
    CHECK_EQ(fake.log->embeddings_alive.load(), 0);
  }
}
