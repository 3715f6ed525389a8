// Choosing tokens on the device: what a choice needs goes up in one copy, ids come down.

#include <algorithm>
#include <cstring>

#include "backend/cuda/cuda_backend_impl.h"
#include "kernels/cuda/sample.h"

namespace qvl::cuda {
namespace {

static_assert(sizeof(LogitBias) == sizeof(SampleBias));

/// Blocks that count what a long history holds.
constexpr unsigned kMaxCountBlocks = 16;

/// Arrays one behind the other, to be copied at once. Where the copy will lie is known at last.
class Inputs {
 public:
  template <class T>
  size_t add(std::span<const T> values) {
    const size_t offset = bytes_.size();
    bytes_.resize(offset + (values.size_bytes() + 7) / 8 * 8);
    if (!values.empty()) std::memcpy(bytes_.data() + offset, values.data(), values.size_bytes());
    return offset;
  }
  const char* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }

 private:
  std::vector<char> bytes_;
};

/// The biases in order of id; false where an id comes twice, so that the order of adding matters.
bool sort_biases(std::vector<LogitBias>& biases) {
  std::sort(biases.begin(), biases.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return std::adjacent_find(biases.begin(), biases.end(), [](const auto& a, const auto& b) {
           return a.id == b.id;
         }) == biases.end();
}

/// The choices that the kernels can make, as they want them.
class SampledRows {
 public:
  explicit SampledRows(int64_t vocab_size) : vocab_size_(vocab_size) {}

  /// Takes a choice from row `row` of the logits, or leaves it to the caller.
  void add(int64_t row, const TokenChoice& choice) {
    if (choice.options == nullptr || choice.options->no_repeat_ngram_size > 0) return;
    const SamplingOptions& from = *choice.options;
    std::vector<LogitBias> biases = from.logit_bias;
    if (!sort_biases(biases)) return;
    SampleOptions to{};
    to.seed = from.seed;
    to.temperature = from.temperature;
    to.top_k = from.top_k < vocab_size_ ? static_cast<int32_t>(from.top_k) : 0;
    to.top_p = from.top_p;
    to.min_p = from.min_p;
    to.repetition_penalty = from.repetition_penalty;
    to.frequency_penalty = from.frequency_penalty;
    to.presence_penalty = from.presence_penalty;
    const auto length = static_cast<int64_t>(choice.history.size() + choice.guesses.size());
    require(choice.num_prompt <= length && length <= INT32_MAX, "sample: the history");
    to.draw = static_cast<int32_t>(length - choice.num_prompt);
    to.logits_row = static_cast<int32_t>(row);
    Offsets offsets;
    if (has_penalties(from)) {
      const int64_t count =
          from.penalty_last_n < 0 ? length : std::min(from.penalty_last_n, length);
      to.num_history = static_cast<int32_t>(count);
      to.first_answer =
          static_cast<int32_t>(std::max<int64_t>(0, choice.num_prompt - (length - count)));
      offsets.history = add_last(choice, static_cast<size_t>(count));
    }
    to.num_biases = static_cast<int32_t>(biases.size());
    offsets.biases = inputs_.add(std::span<const LogitBias>(biases));
    offsets.has_mask = !choice.mask.empty();
    if (offsets.has_mask) {
      const auto words = static_cast<size_t>((vocab_size_ + 63) / 64);
      require(choice.mask.size() >= words, "sample: a mask of fewer ids");
      offsets.mask = inputs_.add(choice.mask.first(words));
    }
    options_.push_back(to);
    offsets_.push_back(offsets);
    has_temperature_ |= to.temperature != 0.0f;
    longest_history_ = std::max(longest_history_, to.num_history);
  }

  bool empty() const { return options_.empty(); }
  size_t size() const { return options_.size(); }
  bool has_temperature() const { return has_temperature_; }
  int32_t longest_history() const { return longest_history_; }
  int64_t logits_row(size_t index) const { return options_[index].logits_row; }

  /// All of it, the options last.
  size_t size_bytes() const { return inputs_.size() + options_.size() * sizeof(SampleOptions); }
  /// For a copy at `base`; to be copied there.
  std::span<const char> pack(const char* base) {
    for (size_t i = 0; i < options_.size(); ++i) {
      const auto at = [&](size_t offset) { return base + offset; };
      SampleOptions& to = options_[i];
      to.history = reinterpret_cast<const int32_t*>(at(offsets_[i].history));
      to.biases = reinterpret_cast<const SampleBias*>(at(offsets_[i].biases));
      if (offsets_[i].has_mask) to.mask = reinterpret_cast<const uint64_t*>(at(offsets_[i].mask));
    }
    inputs_.add(std::span<const SampleOptions>(options_));
    return {inputs_.data(), inputs_.size()};
  }
  size_t options_offset() const { return inputs_.size() - options_.size() * sizeof(SampleOptions); }

 private:
  struct Offsets {
    size_t history = 0, biases = 0, mask = 0;
    bool has_mask = false;
  };

  /// The last `count` tokens of history and guesses.
  size_t add_last(const TokenChoice& choice, size_t count) {
    const size_t num_guesses = std::min(count, choice.guesses.size());
    last_tokens_.assign(choice.history.end() - static_cast<std::ptrdiff_t>(count - num_guesses),
                        choice.history.end());
    const auto guesses = choice.guesses.last(num_guesses);
    last_tokens_.insert(last_tokens_.end(), guesses.begin(), guesses.end());
    return inputs_.add(std::span<const int32_t>(last_tokens_));
  }

  int64_t vocab_size_;
  Inputs inputs_;
  std::vector<SampleOptions> options_;
  std::vector<Offsets> offsets_;  // of the same rows
  std::vector<int32_t> last_tokens_;
  bool has_temperature_ = false;
  int32_t longest_history_ = 0;
};

}  // namespace

void CudaBackend::sample(std::span<int32_t> ids, Tensor logits,
                         std::span<const TokenChoice> choices) {
  require(ids.size() == choices.size() && logits.rows == static_cast<int64_t>(choices.size()) &&
              logits.dtype == DType::kF32,
          "sample: a choice and an id for every row of logits");
  std::fill(ids.begin(), ids.end(), kNotChosen);
  SampledRows rows(logits.cols);
  for (size_t i = 0; i < choices.size(); ++i) rows.add(static_cast<int64_t>(i), choices[i]);
  if (rows.empty()) return;

  const size_t stride = (static_cast<size_t>(logits.cols) + 3) / 4 * 4;
  const size_t numbers = rows.size() * stride;
  auto* const inputs = static_cast<char*>(scratch(sample_inputs_, rows.size_bytes()));
  SampleParams params{};
  params.logits = logits.f32();
  params.logits_stride = logits.row_stride;
  params.vocab_size = static_cast<int32_t>(logits.cols);
  params.scores_stride = static_cast<int64_t>(stride);
  if (rows.has_temperature()) {
    params.scores = static_cast<float*>(scratch(sample_scores_, 2 * numbers * sizeof(float)));
    params.weights = params.scores + numbers;
  }
  if (rows.longest_history() > 0) {
    params.counts =
        static_cast<uint32_t*>(zeroed_scratch(sample_counts_, numbers * sizeof(uint32_t)));
  }
  params.states =
      static_cast<SampleState*>(zeroed_scratch(sample_states_, rows.size() * sizeof(SampleState)));
  params.results = static_cast<int32_t*>(scratch(sample_results_, rows.size() * sizeof(int32_t)));
  const std::span<const char> packed = rows.pack(inputs);
  params.options = reinterpret_cast<const SampleOptions*>(inputs + rows.options_offset());
  upload(inputs, packed.data(), packed.size());

  const auto run = [&](const char* name, Dim3 grid, unsigned threads, size_t shared_bytes) {
    device_->launch(name, stream_.get(),
                    {grid, {threads}, shared_bytes, /*overlaps_predecessor=*/true}, params);
  };
  const auto height = static_cast<unsigned>(rows.size());
  const auto slices = static_cast<unsigned>((params.vocab_size + kSampleSlice - 1) / kSampleSlice);
  if (rows.longest_history() > 0) {
    const auto blocks =
        static_cast<unsigned>((rows.longest_history() + kSampleThreads - 1) / kSampleThreads);
    run("sample_count", {std::min(blocks, kMaxCountBlocks), height}, kSampleThreads, 0);
  }
  run("sample_scores", {slices, height}, kSampleThreads, 0);
  if (rows.has_temperature()) run("sample_weights", {slices, height}, kSampleThreads, 0);
  run("sample_draw", {height}, kSampleDrawThreads, kSampleDrawSharedBytes);

  std::vector<int32_t> results(rows.size());
  download(results.data(), params.results, results.size() * sizeof(int32_t));
  for (size_t i = 0; i < results.size(); ++i) {
    require(results[i] == kSampleUndecided || (results[i] >= 0 && results[i] < params.vocab_size),
            "sample: an id outside the vocabulary");
    if (results[i] == kSampleUndecided) continue;
    ids[static_cast<size_t>(rows.logits_row(i))] = results[i];
  }
}

}  // namespace qvl::cuda
