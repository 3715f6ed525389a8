// What forward() refuses, how it stops, and that the model is as good as new after either.

#include <limits>

#include "check.h"
#include "io/patterns.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl::test {
namespace {

Prompt image_prompt() {
  return {{5, 6, 58, 60, 60, 60, 60, 60, 60, 59, 7, 8, 9}, {make_image(picture("waves", 84, 56))}};
}

std::unique_ptr<Model> tiny_model(int64_t max_step_tokens = 512) {
  LoadSettings settings;
  settings.options.num_kv_blocks = 8;
  settings.options.max_step_tokens = max_step_tokens;
  return load_model(formula_tensors(tiny_config()), tiny_config(), settings);
}

std::vector<float> image_logits(Model& model) {
  Sequence sequence(model, image_prompt(), scattered_blocks(0, 4));
  return prefill(model, sequence);
}

/// A step of three tokens that a test may spoil.
struct Step {
  std::vector<int32_t> ids = {5, 6, 7};
  std::vector<int32_t> t = {0, 1, 2}, h = {0, 1, 2}, w = {0, 1, 2};
  std::vector<int32_t> blocks = {0};
  std::vector<VisionSpan> spans;
  int64_t num_cached = 0;

  StepSequence sequence() const {
    return {ids, t, h, w, num_cached, blocks, spans, LogitsWanted::kLast};
  }
};

void check_refused(Model& model, const Step& step, const std::string& expected) {
  const StepSequence sequence = step.sequence();
  const std::string message = CHECK_ERROR("ERR_INVALID_ARGUMENT", logits_of(model, {&sequence, 1}));
  if (message.find(expected) == std::string::npos) CHECK_EQ(message, expected);
}

/// True when `body` throws Cancelled.
template <class Body>
bool is_cancelled(const Body& body) {
  try {
    body();
  } catch (const Cancelled&) {
    return true;
  }
  return false;
}

StoredTensor& tensor_of(std::vector<StoredTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& tensor) { return tensor.name == name; });
  CHECK(found != tensors.end());
  return *found;
}

/// Overwrites element `index`.
void set_value(StoredTensor& tensor, size_t index, float value) {
  std::memcpy(tensor.bytes.data() + index * sizeof value, &value, sizeof value);
}

}  // namespace

TEST(steps_without_tokens_give_nothing) {
  const std::unique_ptr<Model> model = tiny_model();
  CHECK(logits_of(*model, {}).empty());
  Step step;
  step.ids = step.t = step.h = step.w = {};
  check_refused(*model, step, "without new tokens");
}

TEST(positions_must_be_as_many_as_tokens) {
  const std::unique_ptr<Model> model = tiny_model();
  for (std::vector<int32_t> Step::*axis : {&Step::t, &Step::h, &Step::w}) {
    Step step;
    (step.*axis).pop_back();
    check_refused(*model, step, "3 tokens needs as many positions");
  }
}

TEST(token_ids_must_be_in_the_vocabulary) {
  const std::unique_ptr<Model> model = tiny_model();
  for (const int32_t id :
       {-1, 64, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    Step step;
    step.ids[1] = id;
    check_refused(*model, step, "token id " + std::to_string(id) + " is outside");
  }
}

TEST(blocks_must_exist_and_cover_the_tokens) {
  const std::unique_ptr<Model> model = tiny_model();
  Step step;
  step.blocks = {};
  check_refused(*model, step, "0 blocks; 1 are needed");
  step = Step();
  step.num_cached = 30;  // tokens 30, 31 and 32
  check_refused(*model, step, "1 blocks; 2 are needed");
  for (const int32_t block : {-1, 8, std::numeric_limits<int32_t>::max()}) {
    step = Step();
    step.blocks = {block};
    check_refused(*model, step, "KV block " + std::to_string(block) + " of 8");
  }
  for (const int64_t cached :
       {int64_t{-1}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
    step = Step();
    step.num_cached = cached;
    check_refused(*model, step, "num_cached is " + std::to_string(cached));
  }
}

TEST(vision_spans_must_lie_in_their_sequence_and_embedding) {
  const std::unique_ptr<Model> model = tiny_model();
  const VisionEmbedding two = encode(*model, make_image(picture("noise", 56, 28)));
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  const VisionSpan spans[] = {{0, 1, nullptr, 0},  {-1, 1, &two, 0},    {3, 1, &two, 0},
                              {2, 2, &two, 0},     {0, 2, &two, 1},     {0, 1, &two, 2},
                              {0, 1, &two, -1},    {0, -1, &two, 0},    {kHuge, 1, &two, 0},
                              {0, kHuge, &two, 0}, {0, 1, &two, kHuge}, {1, kHuge, &two, kHuge}};
  for (const VisionSpan& span : spans) {
    Step step;
    step.spans = {span};
    check_refused(*model, step, "a vision span outside");
  }
  Step valid;
  valid.spans = {{1, 2, &two, 0}, {0, 1, &two, 1}, {3, 0, &two, 2}};
  const StepSequence sequence = valid.sequence();
  CHECK_EQ(logits_of(*model, {&sequence, 1}).size(), size_t{64});
}

TEST(a_step_has_at_most_the_tokens_it_was_planned_for) {
  const std::unique_ptr<Model> model = tiny_model(5);
  CHECK_EQ(model->max_step_tokens(), 5);
  const Step step;
  Step other;
  other.blocks = {1};
  const StepSequence both[] = {step.sequence(), other.sequence()};
  const std::string message = CHECK_ERROR("ERR_INVALID_ARGUMENT", logits_of(*model, both));
  CHECK(message.find("more than 5 tokens") != std::string::npos);
  CHECK_EQ(logits_of(*model, {both, 1}).size(), size_t{64});
}

TEST(a_refused_step_changes_nothing) {
  const std::unique_ptr<Model> model = tiny_model();
  const std::vector<float> expected = image_logits(*model);
  Sequence sequence(*model, image_prompt(), scattered_blocks(0, 4));
  std::vector<float> logits;
  for (const int64_t count : {8, 5}) {
    Step bad;
    bad.ids[2] = 64;
    const StepSequence both[] = {sequence.take(count, LogitsWanted::kAll), bad.sequence()};
    CHECK_ERROR("ERR_INVALID_ARGUMENT", logits_of(*model, both));
    const std::vector<float> rows = logits_of(*model, {both, 1});
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  CHECK(logits == expected);
}

TEST(a_step_can_be_stopped_between_layers_and_done_again) {
  const std::unique_ptr<Model> model = tiny_model();
  const std::vector<float> expected = image_logits(*model);
  int questions = 0;
  Sequence sequence(*model, image_prompt(), scattered_blocks(0, 4));
  const StepSequence whole = sequence.take(13, LogitsWanted::kAll);
  CHECK(logits_of(*model, {&whole, 1}, [&] { return ++questions, false; }) == expected);
  CHECK(questions >= 2);  // once a layer

  for (int stop_at = 1; stop_at <= questions; ++stop_at) {
    // The first tokens are in the cache and stay right when the step behind them is stopped.
    Sequence stopped(*model, image_prompt(), scattered_blocks(2, 4));
    const StepSequence first = stopped.take(6, LogitsWanted::kNone);
    model->forward({&first, 1}, {});
    int asked = 0;
    const StepSequence second = stopped.take(7, LogitsWanted::kAll);
    CHECK(is_cancelled([&] { model->forward({&second, 1}, [&] { return ++asked == stop_at; }); }));
    CHECK_EQ(asked, stop_at);
    stopped.rewind(6);
    const std::vector<float> logits = prefill(*model, stopped);
    CHECK(logits == std::vector<float>(expected.begin() + 6 * 64, expected.end()));
  }
}

TEST(trimming_the_cache_leaves_a_model_that_works) {
  const std::unique_ptr<Model> model = tiny_model();
  const std::vector<float> expected = image_logits(*model);
  model->trim_kv_cache();
  CHECK(image_logits(*model) == expected);
}

TEST(logits_that_are_not_numbers_are_an_error) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::pair<const char*, float> faults[] = {
      {"lm_head.weight", std::nanf("")},
      {"lm_head.weight", kInfinity},
      {"model.layers.1.mlp.down_proj.weight", std::nanf("")},
      {"model.layers.0.self_attn.v_proj.bias", kInfinity},
      {"model.norm.weight", -std::nanf("")},
      {"model.layers.0.mlp.gate_proj.weight", 3e38f}};
  for (const auto& [name, value] : faults) {
    std::vector<StoredTensor> tensors = formula_tensors(tiny_config());
    for (size_t i = 0; i < 5; ++i) set_value(tensor_of(tensors, name), i, value);
    const std::unique_ptr<Model> model = load_model(tensors, tiny_config());
    Sequence sequence(*model, {{5, 6, 7}, {}}, scattered_blocks(0, 4));
    const StepSequence step = sequence.take(3, LogitsWanted::kLast);
    const std::string message = CHECK_ERROR("ERR_NUMERICS", logits_of(*model, {&step, 1}));
    CHECK(message.find("token 2") != std::string::npos);
  }
}

TEST(vision_weights_that_are_not_numbers_show_in_the_logits) {
  std::vector<StoredTensor> tensors = formula_tensors(tiny_config());
  set_value(tensor_of(tensors, "visual.merger.mlp.2.bias"), 7, std::nanf(""));
  const std::unique_ptr<Model> model = load_model(tensors, tiny_config());
  CHECK_ERROR("ERR_NUMERICS", image_logits(*model));
  Sequence text(*model, {{5, 6, 7}, {}}, scattered_blocks(0, 4));
  CHECK_EQ(prefill(*model, text).size(), size_t{3 * 64});  // which does not see them
}

// An embedding that only one of the two sequences uses.
TEST(the_sequence_whose_logits_are_not_numbers_is_named) {
  std::vector<StoredTensor> tensors = formula_tensors(tiny_config());
  set_value(tensor_of(tensors, "model.embed_tokens.weight"), 9 * 64, std::nanf(""));
  const std::unique_ptr<Model> model = load_model(tensors, tiny_config());
  Step good;
  Step bad;
  bad.ids = {5, 9, 7};
  bad.blocks = {1};
  const StepSequence both[] = {good.sequence(), bad.sequence()};
  try {
    logits_of(*model, both);
  } catch (const Error& error) {
    CHECK_EQ(error.code(), "ERR_NUMERICS");
    for (const auto& [name, value] : error.details()) {
      if (name == "sequence") CHECK_EQ(std::get<int64_t>(value), 1);
      if (name == "position") CHECK_EQ(std::get<int64_t>(value), 2);
    }
    CHECK_EQ(error.details().size(), size_t{2});
    CHECK_EQ(logits_of(*model, {both, 1}).size(), size_t{64});
    return;
  }
  CHECK(false);
}

TEST(cancelling_a_load_gives_no_model) {
  const TempFolder folder;
  write_safetensors(folder.path("w.safetensors"), formula_tensors(tiny_config()));
  const auto checkpoint = Checkpoint::open({folder.path("w.safetensors")});
  CancellationFlag flag;
  flag.cancel();
  CHECK(is_cancelled([&] {
    load_qwen2_vl(checkpoint, tiny_config(), create_cpu_backend({2, ""}), {.num_kv_blocks = 1}, {},
                  &flag);
  }));
}

TEST(progress_of_a_load_ends_at_all_bytes_of_the_model) {
  const TempFolder folder;
  const std::vector<StoredTensor> tensors = formula_tensors(tiny_config());
  write_safetensors(folder.path("w.safetensors"), tensors);
  uint64_t total = 0;
  for (const StoredTensor& tensor : tensors) total += tensor.bytes.size();
  LoadProgress last;
  load_qwen2_vl(
      Checkpoint::open({folder.path("w.safetensors")}), tiny_config(), create_cpu_backend({2, ""}),
      {.num_kv_blocks = 1}, [&](const LoadProgress& progress) { last = progress; }, nullptr);
  CHECK_EQ(last.loaded_bytes, total);
  CHECK_EQ(last.total_bytes, total);
}

}  // namespace qvl::test
