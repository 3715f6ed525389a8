#include "kernels/cuda/sample.h"

#include <cstring>
#include <limits>
#include <span>

#include "check.h"
#include "engine/sampler.h"
#include "kernels/compare.h"
#include "kernels/gpu.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// A sequence that tokens are drawn for, on the host with the engine's sampler and on the device.
struct Row {
  SamplingOptions options;
  std::vector<int32_t> prompt;
  std::vector<uint64_t> mask = {};
};

SamplingOptions with_temperature(float temperature, uint64_t seed = 1) {
  SamplingOptions options;
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

class Device {
 public:
  Device(Gpu& gpu, std::vector<Row> rows, int vocab_size)
      : gpu_(gpu),
        rows_(std::move(rows)),
        vocab_size_(vocab_size),
        stride_((vocab_size + 3) / 4 * 4),
        scores_(gpu.filled<float>(scratch(), 0xff)),
        weights_(gpu.filled<float>(scratch(), 0xff)),
        counts_(gpu.filled<uint32_t>(scratch(), 0)),
        states_(gpu.filled<uint64_t>(rows_.size() * 2, 0)),
        results_(gpu.filled<int32_t>(rows_.size(), 0xee)) {
    for (const Row& row : rows_) histories_.push_back(row.prompt);
  }

  /// [rows, V] -> the rows' results; every kernel is launched. What is chosen goes to the history.
  std::vector<int32_t> sample(const std::vector<float>& logits) {
    // The kernels read the rows in another order than they lie in.
    std::vector<float> reversed;
    for (size_t i = rows_.size(); i-- > 0;) {
      const auto row = std::span(logits).subspan(i * static_cast<size_t>(vocab_size_));
      reversed.insert(reversed.end(), row.begin(), row.begin() + vocab_size_);
    }
    const auto on_logits = gpu_.upload(reversed);
    std::vector<SampleOptions> options;
    for (size_t i = 0; i < rows_.size(); ++i) options.push_back(uploaded_options(i));
    const auto on_options = gpu_.upload(options);
    SampleParams p{};
    p.logits = on_logits.get();
    p.options = on_options.get();
    p.scores = scores_.get();
    p.weights = weights_.get();
    p.counts = counts_.get();
    p.states = reinterpret_cast<SampleState*>(states_.get());
    p.results = results_.get();
    p.logits_stride = vocab_size_;
    p.scores_stride = stride_;
    p.vocab_size = vocab_size_;
    const auto rows = static_cast<unsigned>(rows_.size());
    const auto slices = static_cast<unsigned>((vocab_size_ + kSampleSlice - 1) / kSampleSlice);
    gpu_.launch("sample_count", {2, rows}, {kSampleThreads}, 0, p);
    gpu_.launch("sample_scores", {slices, rows}, {kSampleThreads}, 0, p);
    gpu_.launch("sample_weights", {slices, rows}, {kSampleThreads}, 0, p);
    gpu_.launch("sample_draw", {rows}, {kSampleDrawThreads}, kSampleDrawSharedBytes, p);
    for (const uint32_t count : gpu_.download(counts_)) CHECK_EQ(count, 0u);
    for (const uint64_t word : gpu_.download(states_)) CHECK_EQ(word, uint64_t{0});
    inputs_.clear();
    const std::vector<int32_t> results = gpu_.download(results_);
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (results[i] != kSampleUndecided) histories_[i].push_back(results[i]);
    }
    return results;
  }

 private:
  size_t scratch() const { return rows_.size() * static_cast<size_t>(stride_); }

  template <class T>
  const T* upload(std::vector<T> values) {
    std::vector<unsigned char> bytes(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return reinterpret_cast<const T*>(inputs_.emplace_back(gpu_.upload(bytes)).get());
  }
  SampleOptions uploaded_options(size_t index) {
    const Row& row = rows_[index];
    const SamplingOptions& from = row.options;
    const std::vector<int32_t>& history = histories_[index];
    SampleOptions to{};
    to.seed = from.seed;
    to.temperature = from.temperature;
    to.top_p = from.top_p;
    to.min_p = from.min_p;
    to.repetition_penalty = from.repetition_penalty;
    to.frequency_penalty = from.frequency_penalty;
    to.presence_penalty = from.presence_penalty;
    to.top_k = static_cast<int32_t>(from.top_k);
    to.draw = static_cast<int32_t>(history.size() - row.prompt.size());
    to.logits_row = static_cast<int32_t>(rows_.size() - 1 - index);
    const size_t window =
        from.penalty_last_n < 0 ? history.size() : static_cast<size_t>(from.penalty_last_n);
    const size_t first = history.size() - std::min(window, history.size());
    to.num_history = static_cast<int32_t>(history.size() - first);
    to.first_answer = static_cast<int32_t>(std::max(row.prompt.size(), first) - first);
    to.history =
        upload<int32_t>({history.begin() + static_cast<std::ptrdiff_t>(first), history.end()});
    std::vector<SampleBias> biases;
    for (const LogitBias& entry : from.logit_bias) biases.push_back({entry.id, entry.bias});
    to.num_biases = static_cast<int32_t>(biases.size());
    to.biases = upload(biases);
    if (!row.mask.empty()) to.mask = upload(row.mask);
    return to;
  }

  Gpu& gpu_;
  std::vector<Row> rows_;
  std::vector<std::vector<int32_t>> histories_;
  int vocab_size_;
  int64_t stride_;
  DeviceArray<float> scores_, weights_;
  DeviceArray<uint32_t> counts_;
  DeviceArray<uint64_t> states_;
  DeviceArray<int32_t> results_;
  std::vector<DeviceArray<unsigned char>> inputs_;
};

/// Draws `steps` tokens for all rows at once and checks each against the engine's sampler.
void check_rows_like_host(Gpu& gpu, const std::vector<Row>& rows, int vocab_size, float spread,
                          int steps) {
  Device device(gpu, rows, vocab_size);
  Sampler sampler(vocab_size);
  std::vector<std::vector<int32_t>> histories;
  for (const Row& row : rows) histories.push_back(row.prompt);
  const size_t width = static_cast<size_t>(vocab_size);
  for (int step = 0; step < steps; ++step) {
    std::vector<float> logits =
        random_values(rows.size() * width, static_cast<unsigned>(31 * step + vocab_size), spread);
    // Equal scores, and zeros of both signs.
    for (size_t i = 0; i < logits.size(); i += 7) logits[i] = std::round(logits[i] * 2) / 2;
    const std::vector<int32_t> results = device.sample(logits);
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto row = std::span(logits).subspan(i * width, width);
      const int32_t expected =
          sampler.sample(row, histories[i], static_cast<int64_t>(rows[i].prompt.size()),
                         rows[i].options, rows[i].mask);
      const std::string where = describe("vocabulary ", vocab_size, ", row ", i, ", step ", step);
      if (results[i] != expected) {
        fail(__FILE__, __LINE__, describe(where, ": id ", results[i], ", expected ", expected));
      }
      histories[i].push_back(expected);
    }
  }
}

}  // namespace

TEST(sample_draws_what_the_host_draws) {
  Gpu gpu;
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
  for (const int vocab_size : {5, 1000, 2049, 5003}) {
    check_rows_like_host(gpu, rows, vocab_size, 3.f, 3);
  }
}

TEST(sample_penalises_what_the_history_has) {
  Gpu gpu;
  std::vector<Row> rows;
  for (const float temperature : {0.f, 1.f}) {
    for (const int64_t last_n : {int64_t{-1}, int64_t{0}, int64_t{2}, int64_t{5}}) {
      SamplingOptions options = with_temperature(temperature, 3);
      options.penalty_last_n = last_n;
      options.repetition_penalty = 1.3f;
      options.frequency_penalty = 0.7f;
      options.presence_penalty = -0.4f;
      rows.push_back({options, {1, 2, 1, 4}});
      options.repetition_penalty = 1.f;
      options.frequency_penalty = -1.5f;  // repeats itself, so that counts grow
      rows.push_back({options, {0}});
    }
  }
  check_rows_like_host(gpu, rows, 6, 1.f, 8);
}

TEST(sample_applies_masks_and_biases) {
  Gpu gpu;
  std::vector<Row> rows;
  for (const float temperature : {0.f, 1.f}) {
    SamplingOptions options = with_temperature(temperature, 8);
    rows.push_back({options, {0}, {0x00ff00ff00ff00ffu, 0x1u}});
    options.logit_bias = {{2, 4.f}, {9, 100.f}, {70, 4.f}};
    rows.push_back({options, {0}, {0x00ff00ff00ff00ffu, 0x40u}});
    rows.push_back({options, {0}});
  }
  check_rows_like_host(gpu, rows, 72, 1.f, 3);
}

TEST(sample_draws_from_a_vocabulary_of_the_real_size) {
  Gpu gpu;
  SamplingOptions options = with_temperature(1.f, 4);
  std::vector<Row> rows = {{{}, {7}}, {options, {7}}};
  options.top_k = 20;
  options.top_p = 0.9f;
  rows.push_back({options, {7}});
  options.top_k = 0;
  rows.push_back({options, {7}});
  check_rows_like_host(gpu, rows, 151936, 4.f, 1);
}

TEST(sample_draws_by_probability) {
  // Three tokens of 1/2, 1/4 and 1/4: counts of many draws within five standard deviations.
  Gpu gpu;
  constexpr int kRows = 16, kSteps = 40;
  std::vector<Row> rows;
  for (int i = 0; i < kRows; ++i) {
    rows.push_back({with_temperature(1.f, static_cast<uint64_t>(i)), {0}});
  }
  Device device(gpu, rows, 3);
  std::vector<float> logits;
  for (int i = 0; i < kRows; ++i) logits.insert(logits.end(), {std::log(2.f), 0.f, 0.f});
  std::vector<int> counts(3);
  for (int step = 0; step < kSteps; ++step) {
    for (const int32_t id : device.sample(logits)) ++counts[static_cast<size_t>(id)];
  }
  CHECK(std::abs(counts[0] - kRows * kSteps / 2) < 64);
  CHECK(std::abs(counts[1] - kRows * kSteps / 4) < 55);
}

TEST(sample_leaves_to_the_host_what_has_no_answer) {
  Gpu gpu;
  const int vocab_size = 3000;
  const auto check_undecided = [&](const std::vector<float>& logits, std::vector<uint64_t> mask) {
    Device device(gpu, {{{}, {5}, mask}, {with_temperature(1.f), {5}, mask}, {{}, {5}}},
                  vocab_size);
    std::vector<float> rows = logits;
    rows.insert(rows.end(), logits.begin(), logits.end());
    rows.resize(3 * vocab_size);  // the last row's neighbours do not matter to it
    const std::vector<int32_t> results = device.sample(rows);
    CHECK_EQ(results[0], kSampleUndecided);
    CHECK_EQ(results[1], kSampleUndecided);
    CHECK_EQ(results[2], 0);
  };
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const size_t id : {0, 1023, 2047, 2048, 2999}) {
      std::vector<float> logits(vocab_size, 0.5f);
      logits[id] = bad;
      check_undecided(logits, {});
    }
  }
  check_undecided(std::vector<float>(vocab_size, 0.5f), std::vector<uint64_t>(47, 0));
}

TEST(sample_ranks_more_candidates_than_a_block_holds) {
  // Nearly flat distributions, with and without equal scores.
  Gpu gpu;
  std::vector<Row> rows;
  for (const float top_p : {0.5f, 0.9f, 0.999f}) {
    for (const float min_p : {0.f, 0.98f}) {
      SamplingOptions options = with_temperature(1.f, rows.size());
      options.top_p = top_p;
      options.min_p = min_p;
      rows.push_back({options, {5}});
      options.top_k = 4000;
      rows.push_back({options, {5}});
    }
  }
  check_rows_like_host(gpu, rows, 5000, 0.01f, 2);
}
