// Tiny models of many shapes, number formats and namings against recorded results of transformers:
// the logits of every position of a prompt, and greedy answers of 32 tokens.

#include <fstream>
#include <iterator>

#include "check.h"
#include "io/patterns.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl::test {
namespace {

constexpr double kTolerance = 1e-4;

/// A case of test/golden/model/cases.txt; record.py says what its lines mean.
struct ReferenceCase {
  std::string name;
  ModelConfig config;
  WeightFormula weights;
  Prompt prompt;
  std::vector<int32_t> answer;
  double margin = 0;
};

template <class T>
T read_word(std::istringstream& line) {
  T value{};
  line >> value;
  if (!line) throw std::runtime_error("cases.txt: " + line.str());
  return value;
}

ModelConfig read_config(std::istringstream& line) {
  ModelConfig config;
  int64_t mlp_ratio = 0;
  for (std::string key; line >> key;) {
    if (key == "mrope_section") {
      for (int& section : config.mrope_section) section = read_word<int>(line);
      continue;
    }
    const auto value = read_word<double>(line);
    const auto whole = static_cast<int64_t>(value);
    if (key == "hidden_size") config.hidden_size = config.vision.out_dim = whole;
    if (key == "intermediate_size") config.intermediate_size = whole;
    if (key == "num_layers") config.num_layers = whole;
    if (key == "num_heads") config.num_heads = whole;
    if (key == "num_kv_heads") config.num_kv_heads = whole;
    if (key == "vocab_size") config.vocab_size = whole;
    if (key == "rms_norm_eps") config.rms_norm_eps = static_cast<float>(value);
    if (key == "rope_theta") config.rope_theta = value;
    if (key == "tie_word_embeddings") config.tie_word_embeddings = whole != 0;
    if (key == "image_token_id") config.image_token_id = static_cast<int32_t>(whole);
    if (key == "video_token_id") config.video_token_id = static_cast<int32_t>(whole);
    if (key == "vision_depth") config.vision.depth = whole;
    if (key == "vision_embed_dim") config.vision.embed_dim = whole;
    if (key == "vision_num_heads") config.vision.num_heads = whole;
    if (key == "vision_mlp_ratio") mlp_ratio = whole;
  }
  config.vision.mlp_dim = config.vision.embed_dim * mlp_ratio;
  return config;
}

WeightFormula read_weights(std::istringstream& line) {
  WeightFormula weights;
  weights.dtype = read_word<std::string>(line);
  weights.newer_names = read_word<std::string>(line) == "newer";
  weights.seed = read_word<uint64_t>(line);
  weights.gain = read_word<double>(line);
  return weights;
}

VisionItem read_item(std::istringstream& line) {
  const bool is_video = read_word<std::string>(line) == "video";
  const auto pattern = read_word<std::string>(line);
  const auto width = read_word<int>(line);
  const auto height = read_word<int>(line);
  const auto frames = read_word<uint64_t>(line);
  const auto seed = read_word<uint64_t>(line);
  VisionItem item{{}, is_video};
  for (uint64_t f = 0; f < frames; ++f) {
    item.frames.push_back(
        std::make_shared<const RgbImage>(picture(pattern, width, height, seed + f)));
  }
  return item;
}

std::vector<int32_t> read_ids(std::istringstream& line) {
  std::vector<int32_t> ids(read_word<size_t>(line));
  for (int32_t& id : ids) id = read_word<int32_t>(line);
  return ids;
}

std::vector<ReferenceCase> read_cases() {
  std::vector<ReferenceCase> cases;
  for (std::istringstream& line : recorded_cases("model/cases.txt")) {
    const auto key = read_word<std::string>(line);
    if (key == "case") {
      cases.emplace_back().name = read_word<std::string>(line);
      continue;
    }
    ReferenceCase& current = cases.back();
    if (key == "config") current.config = read_config(line);
    if (key == "weights") current.weights = read_weights(line);
    if (key == "item") current.prompt.items.push_back(read_item(line));
    if (key == "prompt") current.prompt.token_ids = read_ids(line);
    if (key == "greedy") current.answer = read_ids(line);
    if (key == "margin") current.margin = read_word<double>(line);
  }
  return cases;
}

std::vector<float> read_logits(const ReferenceCase& recorded) {
  const std::string path = std::string(QVL_TEST_DIR) + "/golden/model/" + recorded.name + ".f32";
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const size_t count =
      recorded.prompt.token_ids.size() * static_cast<size_t>(recorded.config.vocab_size);
  if (bytes.size() != count * sizeof(float)) throw std::runtime_error("cannot read " + path);
  std::vector<float> logits(count);
  std::memcpy(logits.data(), bytes.data(), bytes.size());
  return logits;
}

/// Runs `check` for every case and names the case that fails.
void for_each_case(const std::function<void(const ReferenceCase&, Model&)>& check) {
  const std::vector<ReferenceCase> cases = read_cases();
  CHECK_EQ(cases.size(), size_t{17});
  for (const ReferenceCase& recorded : cases) {
    const std::unique_ptr<Model> model =
        load_model(formula_tensors(recorded.config, recorded.weights), recorded.config);
    try {
      check(recorded, *model);
    } catch (const Failure& failure) {
      throw Failure(recorded.name + ": " + failure.what());
    }
  }
}

}  // namespace

TEST(logits_of_every_position_are_those_of_the_reference) {
  for_each_case([](const ReferenceCase& recorded, Model& model) {
    const std::vector<float> expected = read_logits(recorded);
    for (const int64_t chunk : {512, 33}) {
      Sequence sequence(model, recorded.prompt, scattered_blocks(0, 16));
      const std::vector<float> logits = prefill(model, sequence, chunk);
      CHECK_EQ(logits.size(), expected.size());
      CHECK_CLOSE(logits.data(), expected.data(), expected.size(), kTolerance);
    }
  });
}

TEST(greedy_answers_are_those_of_the_reference) {
  for_each_case([](const ReferenceCase& recorded, Model& model) {
    CHECK_EQ(recorded.answer.size(), size_t{32});
    CHECK(recorded.margin > 10 * kTolerance);  // an answer that rounding cannot change
    Sequence sequence(model, recorded.prompt, scattered_blocks(20, 16));
    const auto answers = greedy(model, {&sequence}, 32);
    for (size_t i = 0; i < 32; ++i) CHECK_EQ(answers[0][i], recorded.answer[i]);
  });
}

}  // namespace qvl::test
