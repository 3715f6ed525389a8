// A tiny model whose weights and pictures are formulas, against float32 results of the reference
// implementation (transformers 5.18, eager attention) for every stage from pixels to text.

#include <array>
#include <map>

#include "check.h"
#include "io/patterns.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"
#include "model/vision_tower.h"

namespace qvl::test {
namespace {

constexpr double kTolerance = 1e-4;

/// 56 rows, 84 columns: R = 7x + 3y, G = 5x + 11y + 40, B = x^2 + y.
RgbImage golden_image() { return picture("waves", 84, 56); }

/// The image rolled to the right by 9 pixels a frame, wrapping.
std::vector<RgbImage> golden_frames(int count) {
  const RgbImage image = golden_image();
  std::vector<RgbImage> frames;
  for (int f = 0; f < count; ++f) {
    RgbImage frame = image;
    for (int y = 0; y < image.height; ++y) {
      const auto row = frame.pixels.begin() + y * image.width * 3;
      std::rotate(row, row + (image.width - 9 * f) * 3, row + image.width * 3);
    }
    frames.push_back(std::move(frame));
  }
  return frames;
}

Model& golden_model() {
  static const std::unique_ptr<Model> model =
      load_model(formula_tensors(tiny_config()), tiny_config());
  return *model;
}

Prompt text_prompt() { return {{5, 6, 7, 8, 9}, {}}; }

Prompt image_prompt() {
  return {{5, 6, 58, 60, 60, 60, 60, 60, 60, 59, 7, 8, 9}, {make_image(golden_image())}};
}

Prompt video_prompt(std::vector<RgbImage> frames) {
  return {{5, 58, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 59, 7, 8},
          {make_video(std::move(frames))}};
}

std::vector<float> logits_of(const Prompt& prompt) {
  Sequence sequence(golden_model(), prompt, scattered_blocks(0, 4));
  return prefill(golden_model(), sequence);
}

constexpr size_t kVocab = 64;

/// Compares the first logits of position `position`.
void check_logits(const std::vector<float>& logits, size_t position,
                  const std::vector<float>& expected) {
  CHECK(logits.size() >= (position + 1) * kVocab);
  CHECK_CLOSE(logits.data() + position * kVocab, expected.data(), expected.size(), kTolerance);
}

void check_argmax(const std::vector<float>& logits, const std::vector<int32_t>& expected) {
  CHECK_EQ(logits.size(), expected.size() * kVocab);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK_EQ(argmax(std::span(logits).subspan(i * kVocab, kVocab)), expected[i]);
  }
}

std::vector<float> patches_of(const VisionItem& item) {
  const ModelConfig config;
  const PixelTable table =
      PixelTable::make(config.image_mean, config.image_std, config.rescale_factor);
  std::vector<float> patches(static_cast<size_t>(item.num_patches() * kPatchValues));
  extract_patches(item, table, 0, item.num_patches(), patches.data());
  return patches;
}

struct PatchValue {
  size_t row, column;
  float value;
};

void check_patches(const std::vector<float>& patches, const std::vector<PatchValue>& expected,
                   double tolerance) {
  for (const PatchValue& at : expected) {
    CHECK_CLOSE(&patches[at.row * kPatchValues + at.column], &at.value, size_t{1}, tolerance);
  }
}

}  // namespace

TEST(weights_are_those_of_the_formula) {
  const std::map<std::string, std::array<float, 3>> expected = {
      {"lm_head.weight", {0.0622826f, 0.17161585f, 0.09146918f}},
      {"model.embed_tokens.weight", {-0.64876527f, 0.42241955f, -0.64811617f}},
      {"visual.patch_embed.proj.weight", {0.02919885f, 0.01575566f, -0.03877335f}},
      {"visual.merger.mlp.0.bias", {0.00760315f, -0.00580979f, -0.06714951f}},
      {"model.norm.weight", {0.90527588f, 1.07097054f, 0.94379002f}}};
  const std::vector<StoredTensor> tensors = formula_tensors(tiny_config());
  CHECK_EQ(tensors.size(), size_t{58});
  size_t found = 0;
  for (const StoredTensor& tensor : tensors) {
    const auto entry = expected.find(tensor.name);
    if (entry == expected.end()) continue;
    std::array<float, 3> values;
    std::memcpy(values.data(), tensor.bytes.data(), sizeof values);
    CHECK_CLOSE(values.data(), entry->second.data(), values.size(), 8e-9);
    ++found;
  }
  CHECK_EQ(found, expected.size());
}

TEST(image_becomes_the_patches_of_the_reference) {
  const VisionItem item = make_image(golden_image());
  CHECK_EQ(item.grid_t(), 1);
  CHECK_EQ(item.grid_h(), 4);
  CHECK_EQ(item.grid_w(), 6);
  const std::vector<float> patches = patches_of(item);
  CHECK_EQ(patches.size(), size_t{24 * 1176});
  check_patches(patches,
                {{0, 0, -1.79226255f},
                 {0, 14, -1.74846721f},
                 {0, 196, -1.79226255f},
                 {0, 392, -1.15178645f},
                 {1, 0, -0.36161673f},
                 {2, 0, -1.17912865f},
                 {3, 0, 0.25151724f},
                 {4, 0, 1.06902909f},
                 {5, 0, -1.23752236f},
                 {8, 0, 0.19312355f},
                 {12, 0, -0.56599468f},
                 {7, 588, 0.46905264f},
                 {23, 1175, -1.02517760f}},
                5e-9);
  double sum = 0;
  double absolute = 0;
  for (const float value : patches) {
    sum += static_cast<double>(value);
    absolute += std::fabs(static_cast<double>(value));
  }
  CHECK(std::fabs(sum - 3888.4154) < 1e-3);
  CHECK(std::fabs(absolute - 26075.4270) < 1e-3);
}

TEST(video_becomes_the_patches_of_the_reference) {
  const VisionItem item = make_video(golden_frames(4));
  CHECK_EQ(item.grid_t(), 2);
  check_patches(
      patches_of(item),
      {{0, 0, -1.79226255f}, {0, 196, -1.60248303f}, {0, 392, -1.15178645f}, {24, 0, 1.21501327f}},
      // The reference folds the constants of videos, which rounds differently.
      2.4e-7);
}

TEST(odd_number_of_frames_is_padded_with_the_last) {
  const VisionItem three = make_video(golden_frames(3));
  CHECK_EQ(three.grid_t(), 2);
  std::vector<RgbImage> frames = golden_frames(3);
  frames.push_back(frames.back());
  const std::vector<float> padded = values_of(encode(golden_model(), make_video(frames)));
  CHECK(values_of(encode(golden_model(), three)) == padded);
  CHECK(padded != values_of(encode(golden_model(), make_video(golden_frames(4)))));
}

TEST(vision_tower_gives_the_visual_tokens_of_the_reference) {
  const std::vector<float> merged = values_of(encode(golden_model(), make_image(golden_image())));
  CHECK_EQ(merged.size(), size_t{6 * 64});
  const std::array<float, 4> first = {-0.48523304f, 0.55708009f, -0.05856138f, -0.66921836f};
  const std::array<float, 4> last = {-0.32665938f, 0.62168831f, 1.38729239f, -0.09223994f};
  CHECK_CLOSE(merged.data(), first.data(), first.size(), kTolerance);
  CHECK_CLOSE(merged.data() + merged.size() - 4, last.data(), last.size(), kTolerance);
}

// The stages before: the residual stream after the patch embedding and after each block, piece by
// piece.
TEST(vision_tower_passes_through_the_stages_of_the_reference) {
  const TempFolder folder;
  write_safetensors(folder.path("w.safetensors"), formula_tensors(tiny_config()));
  const auto checkpoint = Checkpoint::open({folder.path("w.safetensors")});
  const std::shared_ptr<Backend> backend = create_cpu_backend({1, ""});
  const ModelOptions options;
  WeightLoader loader(*checkpoint, *backend, options);
  const VisionTower tower = VisionTower::load(tiny_config(), loader, backend);
  loader.run({}, nullptr);

  TowerEncoding encoding(tower, make_image(golden_image()), 0);
  const auto check_row = [&](int64_t row, const std::vector<float>& expected) {
    const float* values = encoding.hidden().f32() + row * 32;
    CHECK_CLOSE(values, expected.data(), expected.size(), kTolerance);
  };
  encoding.advance();
  check_row(0, {1.47768247f, 0.84495020f, -1.35208046f, 0.75095922f});
  check_row(5, {0.35453445f, 0.45274538f, -1.41825116f, -1.81407392f});
  for (int piece = 0; piece < 3; ++piece) encoding.advance();
  check_row(0, {1.68452692f, 1.08809435f, -1.49853873f, 0.66240764f});
  check_row(7, {-2.67546844f, -0.51916599f, 1.48404431f, -0.20935778f});
  for (int piece = 0; piece < 3; ++piece) encoding.advance();
  check_row(0, {2.68375754f, 1.78600216f, -2.67199063f, 0.93390054f});
  check_row(23, {-2.14282608f, -0.01290067f, 1.41938066f, -0.12054279f});
}

TEST(text_prompt_gives_the_logits_of_the_reference) {
  const std::vector<float> logits = logits_of(text_prompt());
  check_logits(
      logits, 4,
      {-0.28590190f, -0.54376513f, -0.01176780f, -0.28567827f, -0.33771181f, -0.75450516f});
  check_argmax(logits, {28, 12, 48, 40, 17});
}

TEST(image_prompt_gives_the_logits_of_the_reference) {
  const std::vector<float> logits = logits_of(image_prompt());
  check_logits(logits, 2, {0.49286109f, 0.59264231f, -0.23015450f, -0.16411030f});
  check_logits(logits, 8, {-1.45483947f, -0.65642369f, -0.18765022f, -0.59210891f});
  check_logits(logits, 12,
               {-0.03499293f, -0.42058176f, -0.03360331f, 0.29489300f, 0.94712347f, -0.01344409f});
  check_argmax(logits, {28, 12, 48, 41, 41, 37, 33, 41, 33, 9, 41, 46, 33});
  CHECK_EQ(Sequence(golden_model(), image_prompt(), scattered_blocks(0, 4)).delta(), -3);
}

// These are the logits of an implementation without M-RoPE: the values above do detect it.
TEST(image_prompt_with_plain_positions_gives_the_known_wrong_logits) {
  Sequence sequence(golden_model(), image_prompt(), scattered_blocks(0, 4));
  sequence.use_plain_positions();
  check_logits(prefill(golden_model(), sequence), 12,
               {-0.04719271f, -0.04974785f, -0.26110837f, -0.18337624f, 1.01065266f, -0.31642225f});
}

TEST(video_prompt_gives_the_logits_of_the_reference) {
  const Prompt prompt = video_prompt(golden_frames(4));
  const std::vector<float> logits = logits_of(prompt);
  check_logits(logits, 16,
               {-0.13670778f, 0.01134727f, 0.07408525f, 0.33123872f, 1.43291235f, -0.94601685f});
  check_argmax(logits, {28, 56, 46, 12, 46, 41, 46, 33, 33, 46, 46, 33, 41, 41, 30, 41, 46});
  CHECK_EQ(Sequence(golden_model(), prompt, scattered_blocks(0, 4)).delta(), -9);
}

// Id 61, the placeholder of videos, is generated here: a text token like any other then.
const std::vector<int32_t> kTextAnswer = {17, 5, 30, 30, 45, 10, 49, 61};
const std::vector<int32_t> kImageAnswer = {33, 63, 42, 20, 30, 41, 28, 11};

TEST(greedy_answers_are_those_of_the_reference) {
  Sequence text(golden_model(), text_prompt(), scattered_blocks(0, 4));
  CHECK(greedy(golden_model(), {&text}, 8).front() == kTextAnswer);
  Sequence image(golden_model(), image_prompt(), scattered_blocks(4, 4));
  CHECK(greedy(golden_model(), {&image}, 8).front() == kImageAnswer);
}

TEST(greedy_answers_are_the_same_in_one_batch) {
  Sequence text(golden_model(), text_prompt(), scattered_blocks(0, 4));
  Sequence image(golden_model(), image_prompt(), scattered_blocks(4, 4));
  const auto answers = greedy(golden_model(), {&text, &image}, 8);
  CHECK(answers[0] == kTextAnswer);
  CHECK(answers[1] == kImageAnswer);
}

}  // namespace qvl::test
