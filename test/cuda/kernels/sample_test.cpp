// Tokens chosen on the device, through the backend's operation, and the engine's sampler given the
// same logits: they must be the same.

#include <utility>

#include "backend/cuda/cuda_backend.h"
#include "check.h"
#include "common/error.h"
#include "engine/sampler.h"
#include "kernels/compare.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// A sequence that tokens are chosen for.
struct Row {
  SamplingOptions options;
  std::vector<int32_t> history;
  std::vector<uint64_t> mask = {};
  std::vector<int32_t> guesses = {};
  int64_t num_prompt = 3;
};

SamplingOptions with_temperature(float temperature, uint64_t seed = 1) {
  SamplingOptions options;
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

TokenChoice choice_of(const Row& row) {
  return {&row.options, row.history, row.guesses, row.num_prompt, row.mask};
}

class Device {
 public:
  explicit Device(int64_t vocab_size)
      : vocab_size_(vocab_size), backend_(create_cuda_backend({0, DType::kBF16})) {}

  /// logits [choices, V].
  std::vector<int32_t> sample(const std::vector<float>& logits,
                              const std::vector<TokenChoice>& choices) {
    const auto rows = static_cast<int64_t>(choices.size());
    const auto buffer = backend_->allocate(logits.size() * sizeof(float));
    backend_->upload(buffer->data(), logits.data(), logits.size() * sizeof(float));
    std::vector<int32_t> ids(choices.size(), -7);
    backend_->sample(ids, {buffer->data(), rows, vocab_size_, vocab_size_, DType::kF32}, choices);
    return ids;
  }

 private:
  int64_t vocab_size_;
  std::unique_ptr<Backend> backend_;
};

std::vector<TokenChoice> choices_of(const std::vector<Row>& rows) {
  std::vector<TokenChoice> choices;
  for (const Row& row : rows) choices.push_back(choice_of(row));
  return choices;
}

int32_t sampled_on_host(Sampler& sampler, std::span<const float> logits, const Row& row) {
  std::vector<int32_t> tokens = row.history;
  tokens.insert(tokens.end(), row.guesses.begin(), row.guesses.end());
  return sampler.sample(logits, tokens, row.num_prompt, row.options, row.mask);
}

/// Checks the tokens of all rows, chosen at once, from logits [rows, V].
void check_choices(Device& device, const std::vector<float>& logits, const std::vector<Row>& rows,
                   const std::string& where) {
  const size_t vocab_size = logits.size() / rows.size();
  Sampler sampler(static_cast<int64_t>(vocab_size));
  const std::vector<int32_t> ids = device.sample(logits, choices_of(rows));
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = std::span(logits).subspan(i * vocab_size, vocab_size);
    const int32_t expected = sampled_on_host(sampler, row, rows[i]);
    if (ids[i] == expected) continue;
    fail(__FILE__, __LINE__,
         describe(where, ", row ", i, ": id ", ids[i], ", expected ", expected));
  }
}

/// Normally distributed around `mean`, with equal scores and zeros of both signs among them.
std::vector<float> random_logits(size_t count, unsigned seed, float spread, float mean = 0.f) {
  std::vector<float> logits = random_values(count, seed, spread);
  for (float& logit : logits) logit += mean;
  for (size_t i = 0; i < logits.size(); i += 7) logits[i] = std::round(logits[i] * 2) / 2;
  return logits;
}

/// Draws `steps` tokens for all rows at once, which go on with what was drawn.
void check_steps(std::vector<Row> rows, int vocab_size, float spread, int steps) {
  Device device(vocab_size);
  Sampler sampler(vocab_size);
  const size_t width = static_cast<size_t>(vocab_size);
  for (int step = 0; step < steps; ++step) {
    const auto seed = static_cast<unsigned>(31 * step + vocab_size);
    const std::vector<float> logits = random_logits(rows.size() * width, seed, spread);
    check_choices(device, logits, rows, describe("vocabulary ", vocab_size, ", step ", step));
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].history.push_back(
          sampled_on_host(sampler, std::span(logits).subspan(i * width, width), rows[i]));
    }
  }
}

}  // namespace

TEST(a_seed_draws_on_the_device_what_it_draws_on_the_host) {
  std::vector<Row> rows;
  const auto add = [&](const SamplingOptions& options) { rows.push_back({options, {3, 1, 3}}); };
  add({});
  add(with_temperature(1.f));
  add(with_temperature(0.7f, 99));
  SamplingOptions options = with_temperature(0.01f);  // the checkpoints' own
  options.top_k = 1;
  options.top_p = 0.001f;
  add(options);
  for (const int64_t top_k : {2, 3, 50, 100000}) {
    options = with_temperature(1.3f, static_cast<uint64_t>(top_k));
    options.top_k = top_k;
    add(options);
    options.top_p = 0.8f;
    options.min_p = 0.02f;
    add(options);
  }
  for (const float top_p : {0.f, 0.3f, 0.95f}) {
    options = with_temperature(0.8f, 5);
    options.top_p = top_p;
    add(options);
  }
  options = with_temperature(1.f, 6);
  options.min_p = 0.1f;
  add(options);
  options.min_p = 1.f;
  add(options);
  // So low that the largest score's quotient overflows.
  add(with_temperature(1e-38f));
  for (const int vocab_size : {5, 1000, 2049, 5003}) check_steps(rows, vocab_size, 3.f, 3);
}

TEST(greedy_takes_the_lowest_of_equal_ids) {
  for (const int vocab_size : {1, 31, 5000}) {
    Device device(vocab_size);
    const size_t width = static_cast<size_t>(vocab_size);
    std::vector<float> logits(width, -1.f);
    for (const size_t last : {width - 1, width / 2, size_t{0}}) {
      logits[last] = 2.f;
      check_choices(device, logits, {{{}, {1, 2, 3}}}, describe("vocabulary ", vocab_size));
      CHECK_EQ(device.sample(logits, choices_of({{{}, {1, 2, 3}}}))[0], static_cast<int32_t>(last));
    }
  }
}

TEST(penalties_look_at_the_end_of_prompt_answer_and_guesses) {
  std::vector<Row> rows;
  for (const float temperature : {0.f, 1.f}) {
    for (const int64_t last_n : {-1, 0, 2, 5}) {
      SamplingOptions options = with_temperature(temperature, 3);
      options.penalty_last_n = last_n;
      options.repetition_penalty = 1.3f;
      options.frequency_penalty = 0.7f;
      options.presence_penalty = -0.4f;
      rows.push_back({options, {1, 2, 1, 4}});
      rows.push_back({options, {1, 2, 1}, {}, {5, 5, 0}});
      options.repetition_penalty = 1.f;
      options.frequency_penalty = -1.5f;  // repeats itself, so that counts grow
      rows.push_back({options, {0}, {}, {}, 1});
    }
  }
  check_steps(rows, 6, 1.f, 8);
}

TEST(a_long_history_is_counted_by_many_threads) {
  // More tokens than all threads that count take at once.
  constexpr int kVocab = 300, kLength = 9000;
  std::vector<int32_t> history;
  for (const float value : random_values(kLength, 5, 40.f)) {
    history.push_back(std::clamp(static_cast<int32_t>(value) + kVocab / 2, 0, kVocab - 1));
  }
  std::vector<Row> rows;
  for (const int64_t last_n : {-1, 300, 8999}) {
    SamplingOptions options = with_temperature(1.f, 4);
    options.penalty_last_n = last_n;
    options.frequency_penalty = 0.01f;
    options.repetition_penalty = 1.1f;
    rows.push_back({options, history, {}, {}, 4000});
  }
  check_steps(rows, kVocab, 1.f, 3);
}

TEST(masks_and_biases_come_first) {
  std::vector<Row> rows;
  for (const float temperature : {0.f, 1.f}) {
    SamplingOptions options = with_temperature(temperature, 8);
    rows.push_back({options, {0, 0, 0}, {0x00ff00ff00ff00ffu, 0x1u}});
    options.logit_bias = {{70, 4.f}, {2, 4.f}, {9, 100.f}};
    rows.push_back({options, {0, 0, 0}, {0x00ff00ff00ff00ffu, 0x40u}});
    rows.push_back({options, {0, 0, 0}});
    options.logit_bias.clear();
    for (int32_t id = 71; id >= 0; id -= 2) {
      options.logit_bias.push_back({id, static_cast<float>(id % 5)});
    }
    rows.push_back({options, {0, 0, 0}});
  }
  check_steps(rows, 72, 1.f, 3);
}

TEST(a_vocabulary_of_the_real_size) {
  SamplingOptions options = with_temperature(1.f, 4);
  std::vector<Row> rows = {{{}, {7}, {}, {}, 1}, {options, {7}, {}, {}, 1}};
  options.top_k = 20;
  options.top_p = 0.9f;
  rows.push_back({options, {7}, {}, {}, 1});
  options.top_k = 0;
  rows.push_back({options, {7}, {}, {}, 1});
  check_steps(rows, 151936, 4.f, 1);
}

TEST(top_k_tells_scores_apart_that_differ_in_the_last_bits) {
  // A score has three digits. Around 1.1 all of 5,000 have one upper digit; of 1 + n / 2^23 many
  // have the middle one in common, and some are equal.
  constexpr int kVocab = 5000;
  std::vector<Row> rows;
  for (const int64_t top_k : {1, 2, 700, 2047, 2048, 2049, 2050, 3333, 4999}) {
    SamplingOptions options = with_temperature(1.f, static_cast<uint64_t>(top_k));
    options.top_k = top_k;
    rows.push_back({options, {1, 2, 3}});
  }
  std::vector<float> near = random_logits(kVocab, 1, 0.01f, 1.1f), nearest;
  for (int id = 0; id < kVocab; ++id) {
    nearest.push_back(1.f + static_cast<float>(id * 37 % 701) * 0x1p-23f);
  }
  for (const std::vector<float>& row : {near, nearest}) {
    Device device(kVocab);
    std::vector<float> logits;
    for (size_t i = 0; i < rows.size(); ++i) logits.insert(logits.end(), row.begin(), row.end());
    for (uint64_t seed = 0; seed < 3; ++seed) {
      for (Row& each : rows) each.options.seed += 17;
      check_choices(device, logits, rows, describe("seed ", seed));
    }
  }
}

TEST(top_p_of_more_candidates_than_can_be_ranked) {
  // Nearly flat distributions, with many equal scores and with few.
  std::vector<Row> rows;
  for (const float top_p : {0.5f, 0.9f, 0.999f}) {
    for (const float min_p : {0.f, 0.98f}) {
      SamplingOptions options = with_temperature(1.f, rows.size());
      options.top_p = top_p;
      options.min_p = min_p;
      rows.push_back({options, {5, 6, 7}});
      options.top_k = 4000;
      rows.push_back({options, {5, 6, 7}});
    }
  }
  check_steps(rows, 5000, 0.01f, 2);
  std::vector<float> equal(rows.size() * 6000);
  for (size_t i = 0; i < equal.size(); ++i) equal[i] = i % 3 == 0 ? 0.5f : 0.25f;
  Device device(6000);
  check_choices(device, equal, rows, "two scores");
}

TEST(top_p_counts_every_bit_of_the_weights) {
  // Weights around 2^-12 are worth about 2^32 each. Those of the last lanes of warps are 1.8 times
  // that, and so of all lanes theirs alone are something in the lower halves of sums. The least of
  // top-p is reached by them and five others.
  for (const auto& [vocab_size, own] : {std::pair{700, 2}, std::pair{5000, 8}}) {
    std::vector<float> row(1, 0.f);
    for (int id = 1; id < vocab_size; ++id) {
      row.push_back(id / own % 32 == 31 ? -7.72306f : -8.3177f);
    }
    std::vector<Row> rows;
    std::vector<float> logits;
    for (const float top_p : {0.4747f, 0.95f, 0.97f, 0.98f}) {
      for (uint64_t seed = 0; seed < 8; ++seed) {
        SamplingOptions options = with_temperature(1.f, seed);
        options.top_p = top_p;
        rows.push_back({options, {1, 2, 3}});
        logits.insert(logits.end(), row.begin(), row.end());
      }
    }
    Device device(vocab_size);
    check_choices(device, logits, rows, describe("vocabulary ", vocab_size));
  }
}

TEST(top_p_drops_no_candidate_too_early) {
  // Few likely tokens, which the last lanes of warps have, many that are a fiftieth as likely, and
  // more that top-p cuts off for certain.
  constexpr int kVocab = 5000;
  std::vector<float> row(1, 0.f);
  for (int id = 1; id < kVocab; ++id) {
    const bool is_likely = id / 8 % 32 == 31;
    row.push_back(id >= 3600 ? -20.f : is_likely ? -2.77f : -6.68f);
  }
  std::vector<Row> rows;
  std::vector<float> logits;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SamplingOptions options = with_temperature(1.f, seed);
    options.top_p = 0.99f;
    rows.push_back({options, {1, 2, 3}});
    logits.insert(logits.end(), row.begin(), row.end());
  }
  Device device(kVocab);
  check_choices(device, logits, rows, "three kinds");
}

TEST(draws_are_by_probability) {
  // Three tokens of 1/2, 1/4 and 1/4: counts of many draws within five standard deviations.
  constexpr int kRows = 16, kSteps = 40;
  Device device(3);
  std::vector<Row> rows;
  std::vector<float> logits;
  for (int i = 0; i < kRows; ++i) {
    rows.push_back({with_temperature(1.f, static_cast<uint64_t>(i)), {0}, {}, {}, 1});
    logits.insert(logits.end(), {std::log(2.f), 0.f, 0.f});
  }
  std::vector<int> counts(3);
  for (int step = 0; step < kSteps; ++step) {
    for (const int32_t id : device.sample(logits, choices_of(rows))) {
      ++counts[static_cast<size_t>(id)];
    }
    for (Row& row : rows) row.history.push_back(0);
  }
  CHECK(std::abs(counts[0] - kRows * kSteps / 2) < 64);
  CHECK(std::abs(counts[1] - kRows * kSteps / 4) < 55);
}

TEST(what_has_no_answer_is_left_to_the_host) {
  constexpr int kVocab = 3000;
  Device device(kVocab);
  const auto check_left = [&](const std::vector<float>& logits, const std::vector<uint64_t>& mask) {
    const std::vector<Row> rows = {
        {{}, {1, 2, 3}, mask}, {with_temperature(1.f), {1, 2, 3}, mask}, {{}, {1, 2, 3}}};
    std::vector<float> all = logits;
    all.insert(all.end(), logits.begin(), logits.end());
    all.resize(3 * kVocab);  // and the last row's neighbours do not matter to it
    CHECK(device.sample(all, choices_of(rows)) ==
          (std::vector<int32_t>{kNotChosen, kNotChosen, 0}));
  };
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const size_t id : {0, 1023, 2047, 2048, 2999}) {
      std::vector<float> logits(kVocab, 0.5f);
      logits[id] = bad;
      check_left(logits, {});
    }
  }
  check_left(std::vector<float>(kVocab, 0.5f), std::vector<uint64_t>(47, 0));
}

TEST(what_the_kernels_do_not_know_is_left_to_the_host) {
  constexpr int kVocab = 10;
  Device device(kVocab);
  SamplingOptions bans;
  bans.no_repeat_ngram_size = 2;
  SamplingOptions twice;  // sums of three depend on their order
  twice.logit_bias = {{4, 0.1f}, {2, 1.f}, {4, 0.2f}};
  const std::vector<Row> rows = {
      {{}, {1, 2, 3}}, {bans, {1, 2, 3}}, {with_temperature(1.f), {1, 2, 3}}, {twice, {1, 2, 3}}};
  std::vector<TokenChoice> choices = choices_of(rows);
  choices.push_back({});
  choices.push_back(choice_of(rows[0]));
  const std::vector<float> logits = random_values(choices.size() * kVocab, 1);
  const std::vector<int32_t> ids = device.sample(logits, choices);
  Sampler sampler(kVocab);
  for (const size_t i : {0, 2, 5}) {
    const auto row = std::span(logits).subspan(i * kVocab, kVocab);
    CHECK_EQ(ids[i], sampled_on_host(sampler, row, rows[i == 5 ? 0 : i]));
  }
  for (const size_t i : {1, 3, 4}) CHECK_EQ(ids[i], kNotChosen);
  CHECK(device.sample({}, {}).empty());
  CHECK(device.sample(random_values(kVocab, 1), {{}}) == std::vector<int32_t>{kNotChosen});
}

TEST(a_choice_that_does_not_fit_is_refused) {
  Device device(200);
  const std::vector<float> logits(200);
  Row row{{}, {1, 2, 3}, {1, 1}};  // a mask of 128 ids
  CHECK_ERROR("ERR_INTERNAL", device.sample(logits, choices_of({row})));
  row = {{}, {1, 2, 3}, {}, {}, 4};  // a prompt longer than the history
  CHECK_ERROR("ERR_INTERNAL", device.sample(logits, choices_of({row})));
}
