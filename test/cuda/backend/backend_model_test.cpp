// Whole models of the checkpoints' head sizes on device 'cuda' against the CPU's fp32: text heads
// of 128, vision heads of 80, groups of 6 and 7; images and videos, chunks and batches.

#include <cmath>
#include <random>
#include <set>

#include "backend/cuda/cuda_backend.h"
#include "check.h"
#include "io/patterns.h"
#include "kernels/compare.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// Few layers and narrow ones, but heads as published; everything else is drawn.
ModelConfig random_config(uint32_t seed, int64_t group) {
  std::mt19937 random(seed);
  const auto draw = [&](int64_t least, int64_t most) {
    return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
  };
  ModelConfig config;
  config.num_kv_heads = draw(1, 2);
  config.num_heads = config.num_kv_heads * group;
  config.hidden_size = config.num_heads * 128;
  config.intermediate_size = 8 * draw(10, 60);
  config.num_layers = draw(1, 3);
  config.vocab_size = draw(100, 400);
  config.tie_word_embeddings = draw(0, 1) == 1;
  config.image_token_id = 90;
  config.video_token_id = 91;
  config.vision.depth = draw(1, 2);
  config.vision.num_heads = draw(1, 3);
  config.vision.embed_dim = config.vision.num_heads * 80;
  config.vision.mlp_dim = config.vision.embed_dim * 2;
  config.vision.out_dim = config.hidden_size;
  return config;
}

std::string text_of(const ModelConfig& config) {
  return describe(config.num_layers, " layers, ", config.num_kv_heads, " x ",
                  config.num_heads / config.num_kv_heads, " heads, inner ",
                  config.intermediate_size, ", vocabulary ", config.vocab_size,
                  config.tie_word_embeddings ? ", tied" : "", "; vision ", config.vision.depth,
                  " layers, ", config.vision.num_heads, " heads");
}

/// A prompt around an item; `seed` chooses its words.
Prompt prompt_with(const ModelConfig& config, VisionItem item, int32_t seed) {
  Prompt prompt;
  for (int32_t i = 0; i < 9; ++i) prompt.token_ids.push_back((seed + 7 * i) % 80);
  const int32_t id = item.is_video ? config.video_token_id : config.image_token_id;
  prompt.token_ids.insert(prompt.token_ids.end(), static_cast<size_t>(item.num_tokens()), id);
  for (int32_t i = 0; i < 5; ++i) prompt.token_ids.push_back((seed + 3 * i) % 80);
  prompt.items.push_back(std::move(item));
  return prompt;
}

std::vector<Prompt> prompts_for(const ModelConfig& config) {
  std::vector<RgbImage> frames;
  for (uint64_t i = 0; i < 4; ++i) frames.push_back(picture("waves", 84, 56, i));
  return {prompt_with(config, make_image(picture("noise", 112, 140)), 1),
          prompt_with(config, make_video(std::move(frames)), 2),
          {{1, 2, 3, 4, 5, 6, 7}, {}}};
}

/// Both models on the same weights, which the CPU multiplies in fp32.
struct Models {
  std::unique_ptr<Model> cpu, cuda;

  Models(const ModelConfig& config, Half type, uint64_t seed) {
    const char* stored = type == Half::kBf16 ? "BF16" : "F16";
    const TempFolder folder;
    write_safetensors(folder.path("model.safetensors"),
                      formula_tensors(config, {seed, 3.4, stored, seed % 2 == 1}));
    const std::vector<std::string> files = {folder.path("model.safetensors")};
    const DType dtype = type == Half::kBf16 ? DType::kBF16 : DType::kF16;
    cpu = load_model(files, config, {{32, DType::kF32, 256}, {1, ""}});
    cuda = load_qwen2_vl(Checkpoint::open(files), config, create_cuda_backend({0, dtype}),
                         {32, dtype, 256, true, dtype}, {}, nullptr);
  }
};

/// How far logits may be off, in units of their standard deviation: at most, and on average.
struct Tolerance {
  double most, average;
};
constexpr Tolerance tolerance_of(Half type) {
  return type == Half::kBf16 ? Tolerance{0.05, 0.012} : Tolerance{0.007, 0.0015};
}

/// Logits of many rows against those of the CPU, and which token would be chosen where the CPU's
/// first choice is clear of the second.
void compare(const std::vector<float>& cuda, const std::vector<float>& cpu, size_t vocab, Half type,
             const std::string& where) {
  CHECK_EQ(cuda.size(), cpu.size());
  double squares = 0, errors = 0, worst = 0;
  for (size_t i = 0; i < cpu.size(); ++i) {
    const double error = std::fabs(double{cuda[i]} - double{cpu[i]});
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    squares += double{cpu[i]} * double{cpu[i]}, errors += error * error;
  }
  const double size = std::sqrt(squares / static_cast<double>(cpu.size()));
  const double average = std::sqrt(errors / static_cast<double>(cpu.size())) / size;
  const Tolerance allowed = tolerance_of(type);
  if (worst / size > allowed.most || average > allowed.average) {
    fail(__FILE__, __LINE__,
         describe(where, ": logits differ by ", worst / size, " at most, ", average,
                  " on average, of their size; allowed are ", allowed.most, " and ",
                  allowed.average));
  }
  for (size_t row = 0; row < cpu.size(); row += vocab) {
    const auto first = std::span(cpu).subspan(row, vocab);
    const int32_t best = argmax(first);
    float second = -INFINITY;
    for (size_t i = 0; i < vocab; ++i) {
      if (static_cast<int32_t>(i) != best) second = std::max(second, first[i]);
    }
    if (double{first[static_cast<size_t>(best)]} - double{second} < 2 * allowed.most * size) {
      continue;
    }
    CHECK_EQ(argmax(std::span(cuda).subspan(row, vocab)), best);
  }
}

/// The sequences of all prompts in one model.
struct Sequences {
  std::vector<std::unique_ptr<Sequence>> all;

  Sequences(Model& model, const std::vector<Prompt>& prompts) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto first = static_cast<int32_t>(i) * 4;
      all.push_back(std::make_unique<Sequence>(model, prompts[i], scattered_blocks(first, 4)));
    }
  }

  /// One step that gives all of them their next token: the rows of logits.
  std::vector<float> decode(Model& model, const std::vector<int32_t>& tokens) {
    std::vector<StepSequence> step;
    for (size_t i = 0; i < all.size(); ++i) {
      all[i]->append(tokens[i]);
      step.push_back(all[i]->take(1, LogitsWanted::kLast));
    }
    return logits_of(model, step);
  }
};

void check_model(const ModelConfig& config, Half type, uint64_t seed) {
  const std::string where = describe(type == Half::kBf16 ? "bf16, " : "fp16, ", text_of(config));
  const Models models(config, type, seed);
  const std::vector<Prompt> prompts = prompts_for(config);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  Sequences cpu(*models.cpu, prompts);
  Sequences cuda(*models.cuda, prompts);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<float> expected = prefill(*models.cpu, *cpu.all[i]);
    // The second prompt in chunks that cut its item.
    const std::vector<float> logits = prefill(*models.cuda, *cuda.all[i], i == 1 ? 12 : 1 << 20);
    compare(logits, expected, vocab, type, where + ", prompt " + std::to_string(i));
    tokens.push_back(argmax(std::span(expected).last(vocab)));
  }
  // The CPU's greedy tokens, all sequences in each step; recorded from the third step on.
  for (int i = 0; i < 8; ++i) {
    const std::vector<float> expected = cpu.decode(*models.cpu, tokens);
    const std::vector<float> logits = cuda.decode(*models.cuda, tokens);
    compare(logits, expected, vocab, type, where + ", step " + std::to_string(i));
    for (size_t s = 0; s < tokens.size(); ++s) {
      tokens[s] = argmax(std::span(expected).subspan(s * vocab, vocab));
    }
  }
}

}  // namespace

TEST(models_with_the_published_heads_give_the_logits_of_the_cpu) {
  for (const Half type : kHalves) {
    check_model(random_config(1, 6), type, 1);
    check_model(random_config(2, 7), type, 2);
  }
}

TEST(tokens_of_a_sequence_do_not_depend_on_those_it_is_decoded_with) {
  const ModelConfig config = random_config(3, 7);
  const Models models(config, Half::kBf16, 3);
  const std::vector<Prompt> prompts = prompts_for(config);
  std::vector<std::vector<float>> alone;
  Model& model = *models.cuda;
  std::vector<int32_t> words = {11, 12, 13};
  for (size_t i = 0; i < prompts.size(); ++i) {
    Sequences one(model, {prompts[i]});
    prefill(model, *one.all[0]);
    alone.push_back(one.decode(model, {words[i]}));
  }
  Sequences together(model, prompts);
  for (const auto& sequence : together.all) prefill(model, *sequence);
  const std::vector<float> rows = together.decode(model, words);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  for (size_t i = 0; i < prompts.size(); ++i) {
    CHECK(std::memcmp(rows.data() + i * vocab, alone[i].data(), vocab * sizeof(float)) == 0);
  }
}
