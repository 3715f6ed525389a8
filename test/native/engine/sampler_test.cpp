#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <utility>

#include "check.h"

using namespace qvl;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Drawn {
  std::vector<int32_t> ids;
  std::vector<float> scores;
  std::vector<float> probabilities;
};

Drawn drawn_from(const std::vector<float>& logits, const SamplingOptions& options,
                 const std::vector<int32_t>& prompt = {}, const std::vector<int32_t>& answer = {}) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  std::vector<int32_t> history = prompt;
  history.insert(history.end(), answer.begin(), answer.end());
  const auto candidates =
      sampler.candidates(logits, history, static_cast<int64_t>(prompt.size()), options);
  Drawn drawn;
  double total = 0.0;
  for (const Candidate& candidate : candidates) total += static_cast<double>(candidate.weight);
  for (const Candidate& candidate : candidates) {
    if (static_cast<double>(candidate.weight) <= 1e-30 * total) continue;  // as the golden data
    drawn.ids.push_back(candidate.id);
    drawn.scores.push_back(candidate.score);
    drawn.probabilities.push_back(
        static_cast<float>(static_cast<double>(candidate.weight) / total));
  }
  return drawn;
}

std::vector<float> penalized(const std::vector<float>& logits, const SamplingOptions& options,
                             const std::vector<int32_t>& prompt,
                             const std::vector<int32_t>& answer = {}) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  std::vector<int32_t> history = prompt;
  history.insert(history.end(), answer.begin(), answer.end());
  const auto scores =
      sampler.penalized(logits, history, static_cast<int64_t>(prompt.size()), options);
  return {scores.begin(), scores.end()};
}

int32_t greedy(const std::vector<float>& logits, SamplingOptions options = {},
               const std::vector<int32_t>& prompt = {0}) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  return sampler.sample(logits, prompt, static_cast<int64_t>(prompt.size()), options);
}

SamplingOptions warm() {
  SamplingOptions options;
  options.temperature = 1.0f;
  return options;
}

/// Logits whose softmax is `probabilities`.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<double> random_weights(size_t count, uint64_t seed) {
  std::vector<double> weights;
  for (size_t i = 0; i < count; ++i) weights.push_back(uniform_draw(seed, i));
  return weights;
}

void check_ids(const std::vector<int32_t>& actual, const std::vector<int32_t>& expected,
               const char* file, int line) {
  if (actual == expected) return;
  std::ostringstream text;
  for (const auto& [name, ids] : {std::pair("got", &actual), std::pair(", expected", &expected)}) {
    text << name;
    for (const int32_t id : *ids) text << " " << id;
  }
  test::fail(file, line, text.str());
}

#define CHECK_IDS(actual, ...) check_ids((actual), __VA_ARGS__, __FILE__, __LINE__)

/// Pearson's chi-square of `draws` draws with seeds or indices that `draw(i)` chooses.
template <class Draw>
double chi_square(const std::vector<double>& probabilities, int draws, const Draw& draw) {
  std::vector<int> counts(probabilities.size());
  for (int i = 0; i < draws; ++i) ++counts[static_cast<size_t>(draw(i))];
  double sum = 0.0;
  for (size_t id = 0; id < counts.size(); ++id) {
    const double expected = probabilities[id] * draws;
    if (expected == 0.0) {
      CHECK_EQ(counts[id], 0);
      continue;
    }
    sum += (counts[id] - expected) * (counts[id] - expected) / expected;
  }
  return sum;
}

}  // namespace

TEST(greedy_takes_the_largest_and_the_lowest_id_on_ties) {
  CHECK_EQ(greedy({1.0f, 3.0f, 2.0f}), 1);
  CHECK_EQ(greedy({1.0f, 3.0f, 3.0f, 3.0f}), 1);
  CHECK_EQ(greedy({-5.0f, -kInfinity, -4.0f}), 2);
}

TEST(greedy_sees_the_penalties) {
  SamplingOptions options;
  options.repetition_penalty = 2.0f;
  CHECK_EQ(greedy({1.0f, 3.0f, 2.0f}, options, {1}), 2);
}

TEST(repetition_penalty_divides_positive_and_multiplies_negative_scores_once) {
  SamplingOptions options;
  options.repetition_penalty = 1.05f;
  const std::vector<float> expected = {2.0f / 1.05f, -1.05f, 0.5f};  // 1.904762
  CHECK(penalized({2.0f, -1.0f, 0.5f}, options, {0, 1}) == expected);
  CHECK(penalized({2.0f, -1.0f, 0.5f}, options, {0, 1, 0, 0}, {1, 0}) == expected);
  CHECK(penalized({2.0f, -1.0f, 0.5f}, options, {0}, {1}) == expected);
}

TEST(frequency_and_presence_penalties_look_at_the_answer_only) {
  SamplingOptions options;
  options.frequency_penalty = 0.5f;
  options.presence_penalty = 0.25f;
  // Id 0 twice in the answer, id 1 once, id 2 in the prompt only.
  const std::vector<float> expected = {3.0f - 2 * 0.5f - 0.25f, 1.0f - 0.5f - 0.25f, 2.0f, 0.0f};
  CHECK(penalized({3.0f, 1.0f, 2.0f, 0.0f}, options, {2, 0, 2}, {0, 1, 0}) == expected);
}

TEST(repetition_comes_before_frequency) {
  SamplingOptions options;
  options.repetition_penalty = 2.0f;
  options.frequency_penalty = 1.0f;
  const std::vector<float> expected = {4.0f / 2.0f - 1.0f, 1.0f};
  CHECK(penalized({4.0f, 1.0f}, options, {}, {0}) == expected);
}

TEST(penalties_see_the_last_n_tokens) {
  const std::vector<float> logits = {1.0f, 1.0f, 1.0f, 1.0f};
  SamplingOptions options;
  options.repetition_penalty = 2.0f;
  options.presence_penalty = 0.25f;
  const auto with = [&](int64_t last_n) {
    options.penalty_last_n = last_n;
    return penalized(logits, options, {0, 1}, {2, 3});
  };
  CHECK(with(-1) == std::vector<float>({0.5f, 0.5f, 0.25f, 0.25f}));
  CHECK(with(100) == with(-1));
  CHECK(with(3) == std::vector<float>({1.0f, 0.5f, 0.25f, 0.25f}));
  CHECK(with(1) == std::vector<float>({1.0f, 1.0f, 1.0f, 0.25f}));
  CHECK(with(0) == logits);
}

TEST(penalties_leave_nothing_behind_for_the_next_call) {
  Sampler sampler(3);
  SamplingOptions options;
  options.frequency_penalty = 1.0f;
  const std::vector<float> logits = {2.0f, 2.0f, 2.0f};
  const std::vector<int32_t> first = {0, 0, 1}, second = {1};
  sampler.penalized(logits, first, 0, options);
  const auto scores = sampler.penalized(logits, second, 0, options);
  CHECK_CLOSE(scores.data(), std::vector<float>({2.0f, 1.0f, 2.0f}).data(), 3, 0.0);
}

TEST(no_repeat_ngram_bans_what_would_complete_one) {
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, 4.0f};
  SamplingOptions options;
  const auto banned = [&](int64_t size, const std::vector<int32_t>& prompt,
                          const std::vector<int32_t>& answer = {}) {
    options.no_repeat_ngram_size = size;
    const std::vector<float> scores = penalized(logits, options, prompt, answer);
    std::vector<int32_t> ids;
    for (size_t id = 0; id < scores.size(); ++id) {
      if (scores[id] == -kInfinity) ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  };
  CHECK_IDS(banned(0, {0, 1, 0, 1}), {});
  CHECK_IDS(banned(1, {0, 2, 0}), {0, 2});
  CHECK_IDS(banned(2, {0, 1, 2, 0}), {1});
  CHECK_IDS(banned(2, {0, 1, 0, 3, 0}), {1, 3});
  CHECK_IDS(banned(2, {0, 0}), {0});
  CHECK_IDS(banned(3, {0, 1, 2, 0}, {1}), {2});  // over the border of prompt and answer
  CHECK_IDS(banned(3, {1, 1, 2, 0}, {1}), {});
  CHECK_IDS(banned(5, {0, 1, 0, 1}), {});  // longer than all there is
  CHECK_IDS(banned(4, {0, 1, 0}), {});
  CHECK_IDS(banned(2, {}), {});
}

TEST(no_repeat_ngram_does_not_look_at_the_window_of_the_penalties) {
  SamplingOptions options;
  options.no_repeat_ngram_size = 2;
  options.penalty_last_n = 1;
  CHECK_EQ(greedy({1.0f, 3.0f, 2.0f}, options, {0, 1, 2, 0}), 2);
}

TEST(no_repeat_ngram_that_leaves_nothing_is_an_error) {
  SamplingOptions options;
  options.no_repeat_ngram_size = 1;
  for (const float temperature : {0.0f, 1.0f}) {
    options.temperature = temperature;
    CHECK_ERROR("ERR_INVALID_ARGUMENT", greedy({1.0f, 2.0f}, options, {0, 1}));
  }
}

TEST(logit_bias_is_added_before_the_penalties) {
  SamplingOptions options;
  options.logit_bias = {{0, 3.0f}, {2, -100.0f}};
  options.repetition_penalty = 2.0f;
  const std::vector<float> expected = {(-1.0f + 3.0f) / 2.0f, 1.0f, -98.0f};
  CHECK(penalized({-1.0f, 1.0f, 2.0f}, options, {0}) == expected);
  CHECK_EQ(greedy({1.0f, 2.0f, 3.0f}, options, {1}), 0);
}

TEST(log_sum_exp_is_that_also_of_large_and_masked_logits) {
  const auto near = [](double value, double expected) {
    CHECK(std::fabs(value - expected) < 1e-12);
  };
  near(log_sum_exp(std::vector<float>{0.0f, 0.0f}), std::log(2.0));
  near(log_sum_exp(std::vector<float>{1000.0f, 1000.0f, -kInfinity}), 1000.0 + std::log(2.0));
  near(log_sum_exp(std::vector<float>{-1000.0f, -999.0f}), -999.0 + std::log1p(std::exp(-1.0)));
}

TEST(temperature_divides) {
  SamplingOptions options = warm();
  options.temperature = 0.5f;
  const Drawn drawn = drawn_from({1.0f, 2.0f}, options);
  CHECK(drawn.scores == std::vector<float>({2.0f, 4.0f}));
  const std::vector<float> expected = {0.11920292f, 0.88079708f};
  CHECK_CLOSE(drawn.probabilities.data(), expected.data(), 2, 1e-7);
}

TEST(a_temperature_near_zero_is_greedy) {
  SamplingOptions options = warm();
  options.temperature = 1e-44f;
  CHECK_IDS(drawn_from({1.0f, 3.0f, 3.0f}, options).ids, {1});
  CHECK_IDS(drawn_from({-3.0f, -2.0f, -4.0f}, options).ids, {1});
}

TEST(top_k_keeps_k_and_all_ties) {
  SamplingOptions options = warm();
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f, 2.0f, 0.0f};
  const auto with = [&](int64_t k) {
    options.top_k = k;
    return drawn_from(logits, options).ids;
  };
  CHECK_IDS(with(1), {1});
  CHECK_IDS(with(2), {1, 2, 3});
  CHECK_IDS(with(3), {1, 2, 3});
  CHECK_IDS(with(4), {0, 1, 2, 3});
  CHECK_IDS(with(0), {0, 1, 2, 3, 4});
  CHECK_IDS(with(99), {0, 1, 2, 3, 4});
}

TEST(top_k_is_the_same_by_heap_and_by_selection) {
  const std::vector<double> weights = random_weights(5000, 11);
  const std::vector<float> logits = logits_of(weights);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  for (const int64_t k : {1, 2, 50, 255, 256, 257, 1000, 4999}) {
    SamplingOptions options = warm();
    options.top_k = k;
    std::vector<int32_t> expected(order.begin(), order.begin() + k);
    std::sort(expected.begin(), expected.end());
    CHECK_IDS(drawn_from(logits, options).ids, expected);
  }
}

TEST(top_p_keeps_the_entry_that_crosses_and_at_least_one) {
  SamplingOptions options = warm();
  const std::vector<float> logits = logits_of({0.125, 0.5, 0.25, 0.0625, 0.0625});
  const auto with = [&](float p) {
    options.top_p = p;
    return drawn_from(logits, options).ids;
  };
  CHECK_IDS(with(0.0f), {1});
  CHECK_IDS(with(0.3f), {1});
  CHECK_IDS(with(0.51f), {1, 2});
  CHECK_IDS(with(0.74f), {1, 2});
  CHECK_IDS(with(0.76f), {0, 1, 2});
  CHECK_IDS(with(0.9f), {0, 1, 2, 3});  // the lower id of the tie
  CHECK_IDS(with(0.95f), {0, 1, 2, 3, 4});
  CHECK_IDS(with(1.0f), {0, 1, 2, 3, 4});
}

TEST(top_p_equals_its_definition_on_many_tokens) {
  for (const double spread : {0.01, 1.0, 6.0}) {
    std::vector<float> logits;
    for (const double x : random_weights(3000, 5)) logits.push_back(static_cast<float>(spread * x));
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    const float largest = logits[static_cast<size_t>(order[0])];
    const auto weight = [&](int32_t id) {
      return static_cast<double>(std::exp(logits[static_cast<size_t>(id)] - largest));
    };
    double total = 0.0;
    for (int32_t id = 0; id < 3000; ++id) total += weight(id);
    for (const float p : {0.1f, 0.5f, 0.9f, 0.99f, 0.9999f}) {
      std::vector<int32_t> expected;
      double sum = 0.0;
      for (const int32_t id : order) {
        expected.push_back(id);
        sum += weight(id);
        if (sum >= static_cast<double>(p) * total) break;
      }
      std::sort(expected.begin(), expected.end());
      SamplingOptions options = warm();
      options.top_p = p;
      CHECK_IDS(drawn_from(logits, options).ids, expected);
    }
  }
}

TEST(min_p_is_relative_to_the_best) {
  SamplingOptions options = warm();
  const std::vector<float> logits = logits_of({0.05, 0.5, 0.3, 0.15});
  options.min_p = 0.2f;
  CHECK_IDS(drawn_from(logits, options).ids, {1, 2, 3});
  options.min_p = 0.5f;
  CHECK_IDS(drawn_from(logits, options).ids, {1, 2});
  options.min_p = 1.0f;
  CHECK_IDS(drawn_from(logits, options).ids, {1});
}

TEST(top_p_counts_what_top_k_left) {
  SamplingOptions options = warm();
  options.top_k = 2;
  options.top_p = 0.6f;  // 0.4 / 0.7 = 0.57 is not enough; of all it would take three
  CHECK_IDS(drawn_from(logits_of({0.4, 0.3, 0.2, 0.1}), options).ids, {0, 1});
  options.top_p = 0.55f;
  CHECK_IDS(drawn_from(logits_of({0.4, 0.3, 0.2, 0.1}), options).ids, {0});
}

TEST(what_is_not_a_number_is_an_error) {
  for (const float bad : {std::nanf(""), kInfinity}) {
    for (const float temperature : {0.0f, 1.0f}) {
      SamplingOptions options;
      options.temperature = temperature;
      const std::string message = CHECK_ERROR("ERR_NUMERICS", greedy({1.0f, 2.0f, bad}, options));
      CHECK(message.find("token 2") != std::string::npos);
    }
  }
  CHECK_ERROR("ERR_NUMERICS", greedy({-kInfinity, -kInfinity}));
}

TEST(a_masked_id_is_never_drawn) {
  Sampler sampler(3);
  const std::vector<float> logits = {-kInfinity, 0.0f, -kInfinity};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SamplingOptions options = warm();
    options.seed = seed;
    CHECK_EQ(sampler.sample(logits, {}, 0, options), 1);
  }
}

TEST(a_draw_depends_on_seed_and_index_alone) {
  const std::vector<float> logits = logits_of(random_weights(100, 3));
  SamplingOptions options = warm();
  options.seed = 42;
  const auto draw = [&](Sampler& sampler, size_t prompt, size_t answer) {
    const std::vector<int32_t> history(prompt + answer, 1);
    return sampler.sample(logits, history, static_cast<int64_t>(prompt), options);
  };
  Sampler one(100), other(100);
  std::vector<int32_t> ids;
  for (size_t index = 0; index < 20; ++index) ids.push_back(draw(one, 3, index));
  for (size_t index = 20; index-- > 0;) CHECK_EQ(draw(other, 7, index), ids[index]);
  CHECK(std::count(ids.begin(), ids.end(), ids[0]) < 10);
  options.seed = 43;
  std::vector<int32_t> other_ids;
  for (size_t index = 0; index < 20; ++index) other_ids.push_back(draw(one, 3, index));
  CHECK(ids != other_ids);
}

TEST(draws_follow_the_probabilities_along_an_answer_and_over_seeds) {
  const std::vector<double> probabilities = {0.4, 0.0, 0.3, 0.05, 0.05, 0.2};
  const std::vector<float> logits = {std::log(0.4f),  -kInfinity,      std::log(0.3f),
                                     std::log(0.05f), std::log(0.05f), std::log(0.2f)};
  Sampler sampler(6);
  // 4 degrees of freedom: 18.5 is exceeded once in a thousand; the seeds are fixed.
  const std::vector<int32_t> history(20000, 0);
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{123456789}}) {
    SamplingOptions options = warm();
    options.seed = seed;
    CHECK(chi_square(probabilities, 20000, [&](int index) {
            const auto so_far = std::span(history).first(static_cast<size_t>(index));
            return sampler.sample(logits, so_far, 0, options);
          }) < 18.5);
  }
  for (const size_t length : {size_t{0}, size_t{1}, size_t{77}}) {
    CHECK(chi_square(probabilities, 20000, [&](int seed) {
            SamplingOptions options = warm();
            options.seed = static_cast<uint64_t>(seed);
            return sampler.sample(logits, std::span(history).first(length), 0, options);
          }) < 18.5);
  }
}

TEST(uniform_numbers_are_uniform_and_neighbours_are_unrelated) {
  double sum = 0.0, product = 0.0, seeds_product = 0.0;
  constexpr int kDraws = 20000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double x = uniform_draw(7, i);
    CHECK(x >= 0.0 && x < 1.0);
    sum += x;
    product += (x - 0.5) * (uniform_draw(7, i + 1) - 0.5);
    seeds_product += (uniform_draw(i, 0) - 0.5) * (uniform_draw(i + 1, 0) - 0.5);
  }
  // Four standard deviations.
  CHECK(std::fabs(sum / kDraws - 0.5) < 4 * std::sqrt(1.0 / 12 / kDraws));
  CHECK(std::fabs(product / kDraws) < 4 / 12.0 / std::sqrt(kDraws));
  CHECK(std::fabs(seeds_product / kDraws) < 4 / 12.0 / std::sqrt(kDraws));
}

TEST(top_logits_come_largest_first_and_lowest_id_on_ties) {
  const std::vector<float> logits = {1.0f, 5.0f, 3.0f, 5.0f, 4.0f, 3.0f};
  const auto top = top_logits(logits, 4);
  CHECK_EQ(top.size(), 4u);
  const int32_t ids[] = {1, 3, 4, 2};
  for (size_t i = 0; i < 4; ++i) CHECK_EQ(top[i].id, ids[i]);
  CHECK_EQ(top[0].logit, 5.0f);
  CHECK(top_logits(logits, 0).empty());
  CHECK_EQ(top_logits(logits, 100).size(), 6u);
}

TEST(options_out_of_range_are_refused_by_name) {
  const auto refused = [](const char* name, auto change) {
    SamplingOptions options;
    change(options);
    const std::string message =
        CHECK_ERROR("ERR_INVALID_ARGUMENT", check_sampling_options(options, 100));
    CHECK(message.find(name) != std::string::npos);
  };
  check_sampling_options({}, 100);
  refused("temperature", [](SamplingOptions& o) { o.temperature = -0.1f; });
  refused("temperature", [](SamplingOptions& o) { o.temperature = std::nanf(""); });
  refused("topK", [](SamplingOptions& o) { o.top_k = -1; });
  refused("topP", [](SamplingOptions& o) { o.top_p = 1.1f; });
  refused("topP", [](SamplingOptions& o) { o.top_p = std::nanf(""); });
  refused("minP", [](SamplingOptions& o) { o.min_p = -0.1f; });
  refused("repetitionPenalty", [](SamplingOptions& o) { o.repetition_penalty = 0.0f; });
  refused("frequencyPenalty", [](SamplingOptions& o) { o.frequency_penalty = kInfinity; });
  refused("presencePenalty", [](SamplingOptions& o) { o.presence_penalty = std::nanf(""); });
  refused("penaltyLastN", [](SamplingOptions& o) { o.penalty_last_n = -2; });
  refused("noRepeatNgramSize", [](SamplingOptions& o) { o.no_repeat_ngram_size = -1; });
  refused("logitBias", [](SamplingOptions& o) { o.logit_bias = {{100, 1.0f}}; });
  refused("logitBias", [](SamplingOptions& o) { o.logit_bias = {{-1, 1.0f}}; });
  refused("logitBias", [](SamplingOptions& o) { o.logit_bias = {{5, kInfinity}}; });
  refused("logitBias", [](SamplingOptions& o) { o.logit_bias = {{5, std::nanf("")}}; });
}

TEST(agrees_with_the_logits_processors_of_the_reference) {
  std::ifstream file(std::string(QVL_TEST_DIR) + "/golden/sampler/cases.txt");
  std::string word, name;
  const auto expect = [&](const char* expected) {
    if (!(file >> word) || word != expected) throw std::runtime_error("cases.txt is damaged");
  };
  const auto number = [&] {  // also "-inf" and subnormals, which streams do not read
    file >> word;
    return std::strtof(word.c_str(), nullptr);
  };
  int cases = 0;
  while (file >> word) {
    CHECK_EQ(word, std::string("case"));
    SamplingOptions options;
    file >> name >> options.temperature >> options.top_k >> options.top_p >> options.min_p >>
        options.repetition_penalty >> options.no_repeat_ngram_size;
    size_t count = 0;
    expect("bias");
    file >> count;
    for (size_t i = 0; i < count; ++i) {
      int32_t id = 0;
      file >> id;
      options.logit_bias.push_back({id, number()});
    }
    expect("history");
    file >> count;
    std::vector<int32_t> history(count);
    for (int32_t& id : history) file >> id;
    expect("logits");
    file >> count;
    std::vector<float> logits(count);
    for (float& logit : logits) logit = number();
    expect("kept");
    file >> count;
    Drawn expected;
    for (size_t i = 0; i < count; ++i) {
      int32_t id = 0;
      file >> id;
      expected.ids.push_back(id);
      expected.scores.push_back(number());
      expected.probabilities.push_back(number());
    }
    const Drawn drawn = drawn_from(logits, options, history);
    if (drawn.ids != expected.ids) throw std::runtime_error(name + ": other ids survive");
    // Scores are the same float32 operations; probabilities differ by the order of their sum.
    if (drawn.scores != expected.scores) throw std::runtime_error(name + ": other scores");
    CHECK_CLOSE(drawn.probabilities.data(), expected.probabilities.data(), count, 1e-6);
    ++cases;
  }
  CHECK_EQ(cases, 45);
}

TEST(a_mask_comes_before_all_else) {
  // Ids 1, 2 and 66 are allowed. The largest logit is not, and has a bias on top.
  std::vector<float> logits(70, 0.0f);
  logits[0] = 9.0f;
  logits[1] = 3.0f;
  logits[2] = 2.9f;
  logits[66] = 1.0f;
  const std::vector<uint64_t> mask = {6, 4};
  const std::vector<int32_t> history = {0, 1};
  Sampler sampler(70);
  SamplingOptions options;
  CHECK_EQ(sampler.sample(logits, history, 1, options, mask), 1);
  options.logit_bias = {{0, 50.0f}};
  options.repetition_penalty = 1.5f;
  options.presence_penalty = 0.5f;
  CHECK_EQ(sampler.sample(logits, history, 1, options, mask), 2);  // 1 is penalised
  options.temperature = 1.0f;
  for (const int64_t top_k : {0, 2, 69}) {
    options.top_k = top_k;
    const auto candidates = sampler.candidates(logits, history, 1, options, mask);
    CHECK_EQ(candidates.size(), top_k == 2 ? 2u : 3u);
    for (const Candidate& candidate : candidates) {
      CHECK(candidate.id == 1 || candidate.id == 2 || candidate.id == 66);
    }
  }
}

TEST(a_mask_that_leaves_only_ruled_out_logits_is_a_dead_end) {
  std::vector<float> logits(70, 0.0f);
  logits[3] = -std::numeric_limits<float>::infinity();
  const std::vector<uint64_t> mask = {8, 0};
  Sampler sampler(70);
  SamplingOptions options;
  CHECK_ERROR("ERR_GRAMMAR_DEAD_END", sampler.sample(logits, {}, 0, options, mask));
  options.temperature = 1.0f;
  CHECK_ERROR("ERR_GRAMMAR_DEAD_END", sampler.sample(logits, {}, 0, options, mask));
}
