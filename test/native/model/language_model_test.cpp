// Steps of the decoder: which rows come back, and which steps are refused before they begin.
// The numbers themselves are compared with the reference in golden_model_test and reference_test.

#include "model/language_model.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "check.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl {
namespace {

constexpr size_t kVocab = 64;

std::unique_ptr<Model> load_tiny(int64_t max_step_tokens = 128) {
  const ModelConfig config = test::tiny_config();
  test::LoadSettings settings;
  settings.options.num_kv_blocks = 16;
  settings.options.max_step_tokens = max_step_tokens;
  return test::load_model(test::formula_tensors(config), config, settings);
}

/// A text of `count` tokens at the positions behind `num_cached` others, in KV blocks of its own.
struct Text {
  explicit Text(int64_t count, int64_t cached = 0, int32_t first_block = 0)
      : ids(static_cast<size_t>(count)), positions(ids.size()), blocks(4), num_cached(cached) {
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>((cached + static_cast<int64_t>(i)) * 7 % 50);
    }
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(cached));
    std::iota(blocks.begin(), blocks.end(), first_block);
  }

  StepSequence step(LogitsWanted logits) const {
    return {ids, positions, positions, positions, num_cached, blocks, {}, logits};
  }

  std::vector<int32_t> ids, positions, blocks;
  int64_t num_cached;
};

std::vector<float> forward(Model& model, const std::vector<StepSequence>& sequences) {
  const std::span<const float> logits = model.forward(sequences, {});
  return {logits.begin(), logits.end()};
}

bool same_row(const std::vector<float>& a, size_t row_a, const std::vector<float>& b,
              size_t row_b) {
  return std::memcmp(&a[row_a * kVocab], &b[row_b * kVocab], kVocab * sizeof(float)) == 0;
}

TEST(rows_come_in_the_order_of_the_sequences_as_many_as_each_wants) {
  const auto model = load_tiny();
  const Text first(5, 0, 0), second(9, 0, 4), third(3, 0, 8);
  const std::vector<float> all =
      forward(*model, {first.step(LogitsWanted::kAll), second.step(LogitsWanted::kAll),
                       third.step(LogitsWanted::kAll)});
  CHECK_EQ(all.size(), size_t{17 * kVocab});
  const std::vector<float> some =
      forward(*model, {first.step(LogitsWanted::kLast), second.step(LogitsWanted::kNone),
                       third.step(LogitsWanted::kAll)});
  CHECK_EQ(some.size(), size_t{4 * kVocab});
  CHECK(same_row(some, 0, all, 4));
  for (size_t i = 0; i < 3; ++i) CHECK(same_row(some, 1 + i, all, 14 + i));
}

TEST(tokens_without_logits_are_in_the_cache_all_the_same) {
  const auto model = load_tiny();
  const std::vector<float> expected = forward(*model, {Text(40).step(LogitsWanted::kLast)});
  CHECK(forward(*model, {Text(39, 0, 4).step(LogitsWanted::kNone)}).empty());
  const std::vector<float> last = forward(*model, {Text(1, 39, 4).step(LogitsWanted::kLast)});
  CHECK(same_row(last, 0, expected, 0));
}

TEST(more_rows_than_the_head_takes_at_once) {
  const auto model = load_tiny();
  const std::vector<float> all = forward(*model, {Text(100).step(LogitsWanted::kAll)});
  CHECK_EQ(all.size(), size_t{100 * kVocab});
  for (const int64_t length : {1, 32, 33, 64, 65, 100}) {
    const std::vector<float> last = forward(*model, {Text(length).step(LogitsWanted::kLast)});
    CHECK(same_row(last, 0, all, static_cast<size_t>(length - 1)));
  }
}

TEST(a_step_without_sequences_gives_nothing) { CHECK(forward(*load_tiny(), {}).empty()); }

// ---- steps that are refused ----

void check_refused(const std::function<void(Text&)>& change, const std::string& expected) {
  const auto model = load_tiny(16);
  Text text(10);
  change(text);
  const std::string message =
      CHECK_ERROR("ERR_INVALID_ARGUMENT", forward(*model, {text.step(LogitsWanted::kLast)}));
  if (message.find(expected) == std::string::npos) CHECK_EQ(message, expected);
}

TEST(token_ids_outside_the_vocabulary_are_refused) {
  check_refused([](Text& text) { text.ids[3] = 64; },
                "token id 64 is outside the vocabulary of 64");
  check_refused([](Text& text) { text.ids[9] = -1; }, "token id -1");
}

TEST(positions_must_be_as_many_as_tokens) {
  check_refused([](Text& text) { text.positions.pop_back(); }, "10 tokens needs as many positions");
}

TEST(block_tables_must_cover_the_tokens_with_blocks_that_exist) {
  check_refused([](Text& text) { text.blocks.clear(); }, "of 0 blocks; 1 are needed");
  check_refused([](Text& text) { text.num_cached = 119; }, "of 4 blocks; 5 are needed");
  check_refused([](Text& text) { text.num_cached = std::numeric_limits<int64_t>::max(); },
                "num_cached");
  check_refused([](Text& text) { text.num_cached = -1; }, "num_cached is -1");
  check_refused([](Text& text) { text.blocks[0] = 16; }, "KV block 16 of 16");
  check_refused([](Text& text) { text.blocks[0] = -1; }, "KV block -1 of 16");
}

TEST(steps_must_fit_and_sequences_must_have_tokens) {
  const auto model = load_tiny(16);
  CHECK_ERROR("ERR_INVALID_ARGUMENT", forward(*model, {Text(17).step(LogitsWanted::kLast)}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", forward(*model, {Text(9).step(LogitsWanted::kLast),
                                                       Text(8, 0, 4).step(LogitsWanted::kLast)}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", forward(*model, {Text(0).step(LogitsWanted::kLast)}));
  CHECK_EQ(forward(*model, {Text(16).step(LogitsWanted::kLast)}).size(), kVocab);
}

TEST(vision_spans_must_lie_in_their_sequence_and_their_embedding) {
  const auto model = load_tiny();
  std::vector<float> values(6 * 64, 0.5f);
  const VisionEmbedding embedding{nullptr, {values.data(), 6, 64, 64}};
  const VisionEmbedding narrow{nullptr, {values.data(), 6, 32, 64}};
  const Text text(10);
  const auto run = [&](const VisionSpan& span) {
    StepSequence step = text.step(LogitsWanted::kLast);
    step.vision = {&span, 1};
    forward(*model, {step});
  };
  run({4, 6, &embedding, 0});
  run({0, 1, &embedding, 5});
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const VisionSpan wrong[] = {
      {5, 6, &embedding, 0},    {-1, 2, &embedding, 0},  {0, 7, &embedding, 0},
      {0, 2, &embedding, 5},    {0, 2, &embedding, -1},  {0, -1, &embedding, 0},
      {0, 2, nullptr, 0},       {0, 2, &narrow, 0},      {kMax, 1, &embedding, 0},
      {0, kMax, &embedding, 0}, {0, 1, &embedding, kMax}};
  for (const VisionSpan& span : wrong) CHECK_ERROR("ERR_INVALID_ARGUMENT", run(span));
}

// ---- numbers that are none ----

TEST(logits_that_are_not_finite_are_an_error_that_says_where) {
  const auto model = load_tiny();
  std::vector<float> values(64, std::numeric_limits<float>::quiet_NaN());
  const VisionEmbedding embedding{nullptr, {values.data(), 1, 64, 64}};
  const VisionSpan span{6, 1, &embedding, 0};
  const Text healthy(5), ill(10, 0, 4);
  StepSequence step = ill.step(LogitsWanted::kAll);
  step.vision = {&span, 1};
  try {
    forward(*model, {healthy.step(LogitsWanted::kLast), step});
    test::fail(__FILE__, __LINE__, "nothing was thrown");
  } catch (const Error& error) {
    CHECK_EQ(error.code(), std::string("ERR_NUMERICS"));
    CHECK_EQ(std::get<int64_t>(error.details()[0].second), 1);  // sequence
    CHECK_EQ(std::get<int64_t>(error.details()[1].second), 6);  // position
  }
  // The other sequence is as well as before.
  CHECK_EQ(forward(*model, {healthy.step(LogitsWanted::kLast)}).size(), kVocab);
}

TEST(weights_that_are_not_finite_do_not_become_token_0) {
  const ModelConfig config = test::tiny_config();
  std::vector<test::StoredTensor> tensors = test::formula_tensors(config);
  for (test::StoredTensor& tensor : tensors) {
    if (tensor.name != "model.layers.1.mlp.up_proj.weight") continue;
    const std::string infinity = {0, 0, '\x80', '\x7f'};
    tensor.bytes.replace(0, 4, infinity);
  }
  const auto model = test::load_model(tensors, config);
  CHECK_ERROR("ERR_NUMERICS", forward(*model, {Text(3).step(LogitsWanted::kLast)}));
}

// ---- stopping ----

TEST(a_step_stops_between_any_two_layers_and_the_model_goes_on) {
  const auto model = load_tiny();
  const Text text(40);
  const std::vector<float> expected = forward(*model, {text.step(LogitsWanted::kAll)});
  for (int polls = 0; polls < 3; ++polls) {
    int asked = 0;
    bool stopped = false;
    const StepSequence step = text.step(LogitsWanted::kAll);
    try {
      model->forward({&step, 1}, [&] { return asked++ == polls; });
    } catch (const Cancelled&) {
      stopped = true;
    }
    CHECK(stopped);
    CHECK_EQ(asked, polls + 1);
    const std::vector<float> again = forward(*model, {text.step(LogitsWanted::kAll)});
    CHECK(again.size() == expected.size() &&
          std::memcmp(again.data(), expected.data(), again.size() * sizeof(float)) == 0);
  }
}

}  // namespace
}  // namespace qvl
