// An answer does not depend on its neighbours, on how its prompt was cut into steps, on the number
// of threads or on the processor's instruction set: the same bits every time.

#include <optional>

#include "check.h"
#include "io/patterns.h"
#include "kernels/cpu/processor.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl::test {
namespace {

/// A model with its weights' type: one of 16 bits with uneven sizes, one of 32.
struct Subject {
  ModelConfig config;
  WeightFormula weights;
};

std::vector<Subject> subjects() {
  ModelConfig seven = tiny_config();
  seven.hidden_size = seven.vision.out_dim = 112;
  seven.num_heads = 7;
  seven.num_kv_heads = 1;
  seven.intermediate_size = 72;
  seven.vocab_size = 97;
  seven.vision.embed_dim = 72;
  seven.vision.num_heads = 3;
  seven.vision.mlp_dim = 100;
  WeightFormula bf16;
  bf16.dtype = "BF16";
  return {{tiny_config(), {}}, {seven, bf16}};
}

std::unique_ptr<Model> load(const Subject& subject, LoadSettings settings = {}) {
  settings.options.num_kv_blocks = 96;
  return load_model(formula_tensors(subject.config, subject.weights), subject.config, settings);
}

LoadSettings with_threads(int threads) {
  LoadSettings settings;
  settings.cpu.threads = threads;
  return settings;
}

std::unique_ptr<Model> load_for(const std::string& instruction_set, const Subject& subject) {
  LoadSettings settings;
  settings.cpu.instruction_set = instruction_set;
  return load(subject, settings);
}

void append_text(Prompt& prompt, int count, uint64_t seed) {
  for (int i = 0; i < count; ++i) {
    prompt.token_ids.push_back(static_cast<int32_t>(hash32(static_cast<uint64_t>(i), seed) % 58));
  }
}

void append_item(Prompt& prompt, const VisionItem& item) {
  prompt.token_ids.push_back(58);
  prompt.token_ids.insert(prompt.token_ids.end(), static_cast<size_t>(item.num_tokens()),
                          item.is_video ? 61 : 60);
  prompt.token_ids.push_back(59);
  prompt.items.push_back(item);
}

/// 41 text tokens, an image of 20 tokens, text, a video of 12, text: 112 tokens, four KV blocks.
Prompt long_prompt() {
  Prompt prompt;
  append_text(prompt, 41, 1);
  append_item(prompt, make_image(picture("waves", 140, 112)));
  append_text(prompt, 11, 2);
  append_item(prompt, make_video({picture("noise", 84, 56, 1), picture("noise", 84, 56, 2),
                                  picture("noise", 84, 56, 3)}));
  append_text(prompt, 24, 3);
  return prompt;
}

/// The long prompt among seven others of 1 to 70 tokens, some of them with pictures.
std::vector<Prompt> eight_prompts() {
  std::vector<Prompt> prompts;
  for (uint64_t i = 0; i < 7; ++i) {
    Prompt& prompt = prompts.emplace_back();
    append_text(prompt, static_cast<int>(1 + i * i), 10 + i);
    if (i % 3 == 1) append_item(prompt, make_image(picture("noise", 56, 84, i)));
    append_text(prompt, static_cast<int>(3 * i), 20 + i);
  }
  prompts.insert(prompts.begin() + 3, long_prompt());
  return prompts;
}

std::vector<float> logits_alone(Model& model, const Prompt& prompt, int64_t chunk = 512) {
  Sequence sequence(model, prompt, scattered_blocks(0, 8));
  return prefill(model, sequence, chunk);
}

/// Logits of all positions of all prompts, taken through common steps: in each one, a sequence has
/// from none to `largest` tokens, by chance.
std::vector<std::vector<float>> logits_together(Model& model, const std::vector<Prompt>& prompts,
                                                uint64_t seed, uint64_t largest) {
  std::vector<Sequence> sequences;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto first_block = static_cast<int32_t>((i + seed) % prompts.size() * 12);
    sequences.emplace_back(model, prompts[i], scattered_blocks(first_block, 12));
  }
  std::vector<std::vector<float>> logits(prompts.size());
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  for (uint64_t round = 0, waiting = 1; waiting > 0; ++round) {
    std::vector<StepSequence> step;
    std::vector<size_t> owners;
    waiting = 0;
    for (size_t n = 0; n < sequences.size(); ++n) {
      const size_t i = (n + round) % sequences.size();  // every place in the step
      const auto chance = static_cast<int64_t>(hash32(round * 8 + i, seed) % (largest + 1));
      const int64_t count = std::min(chance, sequences[i].num_waiting());
      waiting += static_cast<uint64_t>(sequences[i].num_waiting());
      if (count == 0) continue;
      step.push_back(sequences[i].take(count, LogitsWanted::kAll));
      owners.push_back(i);
    }
    if (step.empty()) continue;
    const std::vector<float> rows = logits_of(model, step);
    size_t at = 0;
    for (size_t n = 0; n < step.size(); ++n) {
      const auto part = std::span(rows).subspan(at, step[n].token_ids.size() * vocab);
      logits[owners[n]].insert(logits[owners[n]].end(), part.begin(), part.end());
      at += part.size();
    }
    CHECK_EQ(at, rows.size());
  }
  return logits;
}

/// Bit for bit: zeros of either sign differ, too.
void check_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                     const std::string& what) {
  CHECK_EQ(actual.size(), expected.size());
  CHECK(!expected.empty());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::bit_cast<uint32_t>(actual[i]) == std::bit_cast<uint32_t>(expected[i])) continue;
    fail(__FILE__, __LINE__,
         what + ": value " + std::to_string(i) + " is " + std::to_string(actual[i]) + ", was " +
             std::to_string(expected[i]) + "; they differ by " +
             std::to_string((actual[i] - expected[i]) * 1e6f) + "e-6");
  }
}

}  // namespace

TEST(chunks_of_a_prompt_do_not_change_its_logits) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> model = load(subject);
    const std::vector<float> whole = logits_alone(*model, long_prompt());
    for (const int64_t chunk : {1, 5, 31, 32, 33, 64}) {
      check_same_bits(logits_alone(*model, long_prompt(), chunk), whole,
                      "chunks of " + std::to_string(chunk));
    }
  }
}

TEST(chunks_of_a_prompt_do_not_change_its_logits_with_a_16_bit_cache) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    LoadSettings settings;
    settings.options.kv_dtype = dtype;
    const std::unique_ptr<Model> model = load(subjects().back(), settings);
    const std::vector<float> whole = logits_alone(*model, long_prompt());
    for (const int64_t chunk : {1, 5, 64}) {
      check_same_bits(logits_alone(*model, long_prompt(), chunk), whole,
                      dtype_name(dtype) + std::string(", chunks of ") + std::to_string(chunk));
    }
  }
}

TEST(neighbours_in_a_step_do_not_change_logits) {
  const std::vector<Prompt> prompts = eight_prompts();
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> model = load(subject);
    std::vector<std::vector<float>> alone;
    for (const Prompt& prompt : prompts) alone.push_back(logits_alone(*model, prompt));
    for (const auto& [seed, largest] : {std::pair{1, 60}, std::pair{2, 17}, std::pair{3, 2}}) {
      const auto together = logits_together(*model, prompts, static_cast<uint64_t>(seed),
                                            static_cast<uint64_t>(largest));
      for (size_t i = 0; i < prompts.size(); ++i) {
        check_same_bits(
            together[i], alone[i],
            "up to " + std::to_string(largest) + " tokens, prompt " + std::to_string(i));
      }
    }
  }
}

// The rows that nobody wants are dropped in the last layer.
TEST(wanting_fewer_logits_does_not_change_them) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> model = load(subject);
    const auto vocab = static_cast<size_t>(subject.config.vocab_size);
    std::vector<Sequence> sequences;
    std::vector<StepSequence> step;
    std::vector<float> expected;
    const std::vector<Prompt> prompts = eight_prompts();
    constexpr LogitsWanted kWanted[] = {LogitsWanted::kLast, LogitsWanted::kNone,
                                        LogitsWanted::kAll};
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::vector<float> all = logits_alone(*model, prompts[i]);
      const size_t rows = all.size() / vocab;
      const size_t wanted = i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : rows;
      expected.insert(expected.end(), all.end() - static_cast<std::ptrdiff_t>(wanted * vocab),
                      all.end());
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      sequences.emplace_back(*model, prompts[i],
                             scattered_blocks(static_cast<int32_t>(i * 12), 12));
    }
    for (size_t i = 0; i < prompts.size(); ++i) {
      step.push_back(sequences[i].take(sequences[i].num_waiting(), kWanted[i % 3]));
    }
    const std::vector<float> logits = logits_of(*model, step);
    check_same_bits({logits.begin(), logits.end()}, expected, "logits of a mixed step");
  }
}

// What a step without logits left in the cache is what one with logits leaves there.
TEST(prompt_without_logits_leaves_the_same_cache) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> model = load(subject);
    const Prompt prompt = long_prompt();
    const auto vocab = static_cast<size_t>(subject.config.vocab_size);
    const std::vector<float> all = logits_alone(*model, prompt);
    Sequence sequence(*model, prompt, scattered_blocks(50, 8));
    const StepSequence first = sequence.take(sequence.num_waiting() - 1, LogitsWanted::kNone);
    CHECK(logits_of(*model, {&first, 1}).empty());
    const StepSequence last = sequence.take(1, LogitsWanted::kLast);
    const std::vector<float> logits = logits_of(*model, {&last, 1});
    check_same_bits({logits.begin(), logits.end()},
                    {all.end() - static_cast<std::ptrdiff_t>(vocab), all.end()}, "last logits");
  }
}

TEST(number_of_threads_changes_neither_logits_nor_visual_tokens) {
  const VisionItem item = make_image(picture("noise", 252, 196, 4));
  for (const Subject& subject : subjects()) {
    std::optional<std::vector<float>> logits;
    std::optional<std::vector<float>> tokens;
    for (const int threads : {1, 2, 3}) {
      const std::unique_ptr<Model> model = load(subject, with_threads(threads));
      const std::vector<float> now = logits_alone(*model, long_prompt(), 50);
      const std::vector<float> tokens_now = values_of(encode(*model, item));
      if (!logits) logits = now, tokens = tokens_now;
      check_same_bits(now, *logits, std::to_string(threads) + " threads, logits");
      check_same_bits(tokens_now, *tokens, std::to_string(threads) + " threads, visual tokens");
    }
  }
}

TEST(mapped_weights_change_neither_logits_nor_visual_tokens) {
  const VisionItem item = make_image(picture("noise", 252, 196, 4));
  for (const Subject& subject : subjects()) {
    LoadSettings settings = with_threads(2);
    const std::unique_ptr<Model> packed = load(subject, settings);
    settings.options.map_weights = true;
    const std::unique_ptr<Model> mapped = load(subject, settings);
    check_same_bits(logits_alone(*mapped, long_prompt(), 50),
                    logits_alone(*packed, long_prompt(), 50), "logits");
    check_same_bits(values_of(encode(*mapped, item)), values_of(encode(*packed, item)),
                    "visual tokens");
  }
}

TEST(instruction_set_changes_neither_logits_nor_visual_tokens) {
  const VisionItem item = make_image(picture("noise", 252, 196, 4));
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> scalar = load_for("scalar", subject);
    const std::vector<float> logits = logits_alone(*scalar, long_prompt());
    const std::vector<float> tokens = values_of(encode(*scalar, item));
    for (const kernels::KernelTable* table : kernels::available_kernels()) {
      if (!table->has_scalar_bits) continue;
      const std::unique_ptr<Model> model = load_for(table->name, subject);
      check_same_bits(logits_alone(*model, long_prompt()), logits,
                      std::string(table->name) + ", logits");
      check_same_bits(values_of(encode(*model, item)), tokens,
                      std::string(table->name) + ", visual tokens");
    }
  }
}

TEST(greedy_answers_are_the_same_alone_and_under_load) {
  const std::vector<Prompt> prompts = eight_prompts();
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Model> model = load(subject);
    std::vector<std::vector<int32_t>> alone;
    for (const Prompt& prompt : prompts) {
      Sequence sequence(*model, prompt, scattered_blocks(0, 8));
      alone.push_back(greedy(*model, {&sequence}, 40).front());
    }
    std::vector<Sequence> sequences;
    std::vector<Sequence*> pointers;
    for (size_t i = 0; i < prompts.size(); ++i) {
      sequences.emplace_back(*model, prompts[i],
                             scattered_blocks(static_cast<int32_t>(i * 12), 12));
    }
    for (Sequence& sequence : sequences) pointers.push_back(&sequence);
    CHECK(greedy(*model, pointers, 40) == alone);
  }
}

}  // namespace qvl::test
