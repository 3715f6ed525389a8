#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
/// Up to this k a bounded heap (one pass, nearly no writes) beats selecting in a copy.
constexpr int64_t kHeapTopK = 256;

/// Whether scores are anything but the logits.
bool changes_scores(const SamplingOptions& options) {
  return has_penalties(options) || options.no_repeat_ngram_size != 0 || !options.logit_bias.empty();
}

[[noreturn]] void fail_numerics(size_t id, float logit) {
  throw Error("ERR_NUMERICS", "the logit of token " + std::to_string(id) + " is " +
                                  std::to_string(logit) +
                                  ", a finite number is expected: the weights are damaged or "
                                  "overflow in this precision; check the checkpoint or load it as "
                                  "fp32");
}

/// Index of the largest value, the lowest one on ties.
size_t argmax(std::span<const float> values) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

void check_logits(std::span<const float> logits) {
  float largest = -kInfinity;
  bool bad = false;
  for (const float logit : logits) {
    bad |= !(logit < kInfinity);  // also true for NaN
    largest = logit > largest ? logit : largest;
  }
  if (bad) {
    const auto at =
        std::find_if(logits.begin(), logits.end(), [](float x) { return !(x < kInfinity); });
    fail_numerics(static_cast<size_t>(at - logits.begin()), *at);
  }
  if (largest == -kInfinity) fail_numerics(0, -kInfinity);
}

/// The k-th largest value, 1 <= k <= values.size().
float kth_largest(std::span<const float> values, int64_t k, std::vector<float>& scratch) {
  const auto count = static_cast<std::ptrdiff_t>(k);
  if (k > kHeapTopK) {
    scratch.assign(values.begin(), values.end());
    std::nth_element(scratch.begin(), scratch.begin() + count - 1, scratch.end(), std::greater<>());
    return scratch[static_cast<size_t>(k) - 1];
  }
  scratch.assign(values.begin(), values.begin() + count);
  std::make_heap(scratch.begin(), scratch.end(), std::greater<>());  // smallest in front
  for (const float value : values.subspan(static_cast<size_t>(k))) {
    if (value <= scratch.front()) continue;
    std::pop_heap(scratch.begin(), scratch.end(), std::greater<>());
    scratch.back() = value;
    std::push_heap(scratch.begin(), scratch.end(), std::greater<>());
  }
  return scratch.front();
}

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

/// exp(x), x <= 0, of operations that IEEE 754 defines to the last bit, so that every processor and
/// GPU gives candidates the same weights (kernels/cuda/sample.cuh has the same).
float weight_of(float x) {
  if (!(x > -104.0f)) return 0.0f;  // less than half of the smallest number
  constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
  constexpr double kRound = 0x1.8p52;  // adding it leaves the nearest integer
  constexpr double kInverseFactorials[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                           1.0 / 720,     1.0 / 120,    1.0 / 24,    1.0 / 6,
                                           1.0 / 2,       1.0,          1.0};
  const double t = static_cast<double>(x) * kLog2E;
  const double exponent = (t + kRound) - kRound;
  const double rest = (t - exponent) * kLn2;  // within +-0.35
  double power = 0.0;
  for (const double c : kInverseFactorials) power = power * rest + c;
  const uint64_t bits = static_cast<uint64_t>(1023 + static_cast<int64_t>(exponent)) << 52;
  return static_cast<float>(power * std::bit_cast<double>(bits));
}

/// A weight in units of 2^-44, rounded down: sums of integers are exact in any order.
uint64_t share_of(float weight) {
  return static_cast<uint64_t>(static_cast<double>(weight) * 0x1p44);
}

uint64_t total_share(std::span<const Candidate> candidates) {
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += share_of(candidate.weight);
  return total;
}

/// The part `fraction` < 1 of a total, rounded down.
uint64_t part_of(uint64_t total, double fraction) {
  return static_cast<uint64_t>(fraction * static_cast<double>(total));
}

/// One draw, walking the candidates in order of id.
int32_t draw(std::span<const Candidate> candidates, double uniform) {
  const uint64_t total = total_share(candidates);
  const uint64_t target = std::min(part_of(total, uniform), total - 1);
  uint64_t sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += share_of(candidate.weight);
    if (sum > target) return candidate.id;
  }
  return candidates.back().id;  // not reached: sum is total at last
}

uint64_t split_mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void check_range(const char* name, double value, bool in_range, const char* range) {
  if (in_range) return;
  throw Error("ERR_INVALID_ARGUMENT",
              std::string(name) + " is " + std::to_string(value) + "; it must be " + range,
              {{"path", std::string(name)}});
}

}  // namespace

Sampler::Sampler(int64_t vocab_size)
    : answer_count_(static_cast<size_t>(vocab_size)), seen_(static_cast<size_t>(vocab_size)) {}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                        int64_t num_prompt, const SamplingOptions& options,
                        std::span<const uint64_t> mask) {
  if (options.temperature == 0.0f) {
    check_logits(logits);
    if (!changes_scores(options) && mask.empty()) return static_cast<int32_t>(argmax(logits));
    return static_cast<int32_t>(argmax(penalized(logits, history, num_prompt, options, mask)));
  }
  const uint64_t index = history.size() - static_cast<uint64_t>(num_prompt);
  return draw(candidates(logits, history, num_prompt, options, mask),
              uniform_draw(options.seed, index));
}

std::span<const float> Sampler::penalized(std::span<const float> logits,
                                          std::span<const int32_t> history, int64_t num_prompt,
                                          const SamplingOptions& options,
                                          std::span<const uint64_t> mask) {
  scores_.assign(logits.begin(), logits.end());
  if (!mask.empty()) apply(mask);
  for (const LogitBias& entry : options.logit_bias) {
    scores_[static_cast<size_t>(entry.id)] += entry.bias;
  }
  if (has_penalties(options)) penalize(history, num_prompt, options);
  // No penalty changes -infinity, so the bans may come last: behind frequency and presence too.
  if (options.no_repeat_ngram_size > 0) ban_repeated_ngrams(history, options.no_repeat_ngram_size);
  return scores_;
}

void Sampler::apply(std::span<const uint64_t> mask) {
  float largest = -kInfinity;
  for (size_t id = 0; id < scores_.size(); ++id) {
    const bool is_allowed = (mask[id / 64] >> (id % 64) & 1) != 0;
    scores_[id] = is_allowed ? scores_[id] : -kInfinity;
    largest = std::max(largest, scores_[id]);
  }
  if (largest > -kInfinity) return;
  throw Error("ERR_GRAMMAR_DEAD_END",
              "the model rules out every token that the grammar allows: ask for a form that the "
              "prompt asks for too");
}

/// An id is banned where it would complete n tokens that stand in the history already.
void Sampler::ban_repeated_ngrams(std::span<const int32_t> history, int64_t size) {
  if (static_cast<int64_t>(history.size()) < size) return;
  const size_t context = static_cast<size_t>(size) - 1;  // tokens of the n-gram that are there
  const auto last = history.last(context);
  for (size_t next = context; next < history.size(); ++next) {
    const auto before = history.subspan(next - context, context);
    // Backwards, since most places differ in the token right before.
    if (!std::equal(before.rbegin(), before.rend(), last.rbegin())) continue;
    scores_[static_cast<size_t>(history[next])] = -kInfinity;
  }
  if (std::all_of(scores_.begin(), scores_.end(), [](float x) { return x == -kInfinity; })) {
    throw Error(
        "ERR_INVALID_ARGUMENT",
        "noRepeatNgramSize is " + std::to_string(size) +
            ", and every token that could come next would repeat one: raise it or set it to 0",
        {{"path", std::string("noRepeatNgramSize")}});
  }
}

void Sampler::penalize(std::span<const int32_t> history, int64_t num_prompt,
                       const SamplingOptions& options) {
  const int64_t length = static_cast<int64_t>(history.size());
  const int64_t first =
      options.penalty_last_n < 0 ? 0 : std::max<int64_t>(0, length - options.penalty_last_n);
  for (int64_t i = first; i < length; ++i) {
    const size_t id = static_cast<size_t>(history[static_cast<size_t>(i)]);
    if (seen_[id] == 0) {
      seen_[id] = 1;
      seen_ids_.push_back(static_cast<int32_t>(id));
    }
    if (i >= num_prompt) ++answer_count_[id];
  }
  for (const int32_t token : seen_ids_) {
    const size_t id = static_cast<size_t>(token);
    float& score = scores_[id];
    const float repetition = options.repetition_penalty;
    if (repetition != 1.0f) score = score < 0.0f ? score * repetition : score / repetition;
    if (answer_count_[id] != 0) {
      score -= static_cast<float>(answer_count_[id]) * options.frequency_penalty;
      score -= options.presence_penalty;
    }
    seen_[id] = 0;
    answer_count_[id] = 0;
  }
  seen_ids_.clear();
}

std::span<const Candidate> Sampler::candidates(std::span<const float> logits,
                                               std::span<const int32_t> history, int64_t num_prompt,
                                               const SamplingOptions& options,
                                               std::span<const uint64_t> mask) {
  check_logits(logits);
  penalized(logits, history, num_prompt, options, mask);
  const size_t best = argmax(scores_);
  const float largest = scores_[best] / options.temperature;
  candidates_.clear();
  if (!std::isfinite(largest)) {
    // The quotient overflows: a temperature this low leaves the best id alone.
    candidates_.push_back({static_cast<int32_t>(best), largest, 1.0f});
    return candidates_;
  }
  if (options.temperature != 1.0f) {
    for (float& score : scores_) score /= options.temperature;
  }
  float threshold = -kInfinity;
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(scores_.size())) {
    threshold = kth_largest(scores_, options.top_k, largest_);
  }
  for (size_t id = 0; id < scores_.size(); ++id) {
    const float score = scores_[id];
    if (score < threshold) continue;
    const float weight = weight_of(score - largest);
    if (weight > 0.0f) candidates_.push_back({static_cast<int32_t>(id), score, weight});
  }
  if (options.top_p < 1.0f) keep_top_p(options);
  if (options.min_p > 0.0f) {
    // The largest weight is exp(0) = 1, so a weight is its probability relative to the best one's.
    std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < options.min_p; });
  }
  return candidates_;
}

/// Keeps the fewest largest candidates whose share of all weight reaches top_p; at least one.
void Sampler::keep_top_p(const SamplingOptions& options) {
  const uint64_t total = total_share(candidates_);
  const uint64_t needed = part_of(total, static_cast<double>(options.top_p));
  // Candidates whose share is below this are together less than what is cut off, so none of them
  // survives: what remains to be sorted is short, except for nearly flat distributions. What min-p
  // will drop need not be ranked either.
  const uint64_t negligible = (total - needed) / candidates_.size();
  sorted_.clear();
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight < options.min_p || share_of(candidate.weight) < negligible) continue;
    sorted_.push_back(candidate);
  }
  std::sort(sorted_.begin(), sorted_.end(), ranks_before);
  uint64_t sum = 0;
  size_t last = 0;
  for (;; ++last) {
    sum += share_of(sorted_[last].weight);
    if (sum >= needed || last + 1 == sorted_.size()) break;
  }
  const Candidate cut = sorted_[last];
  std::erase_if(candidates_, [&](const Candidate& c) { return ranks_before(cut, c); });
}

double uniform_draw(uint64_t seed, uint64_t index) {
  // Seeds are spread first, so that neighbouring seeds do not share a shifted stream.
  const uint64_t state = split_mix(seed + 0x9e3779b97f4a7c15u) + (index + 1) * 0x9e3779b97f4a7c15u;
  return static_cast<double>(split_mix(state) >> 11) * 0x1.0p-53;
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = static_cast<double>(logits[argmax(logits)]);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

std::vector<TopLogit> top_logits(std::span<const float> logits, int64_t count) {
  const size_t wanted = std::min(static_cast<size_t>(std::max<int64_t>(count, 0)), logits.size());
  const auto before = [](const TopLogit& a, const TopLogit& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  std::vector<TopLogit> top;  // a heap with its last-ranked entry in front
  top.reserve(wanted);
  for (size_t id = 0; id < logits.size() && wanted > 0; ++id) {
    const TopLogit entry{static_cast<int32_t>(id), logits[id]};
    if (top.size() == wanted) {
      if (!before(entry, top.front())) continue;
      std::pop_heap(top.begin(), top.end(), before);
      top.pop_back();
    }
    top.push_back(entry);
    std::push_heap(top.begin(), top.end(), before);
  }
  std::sort_heap(top.begin(), top.end(), before);
  return top;
}

void check_sampling_options(const SamplingOptions& options, int64_t vocab_size) {
  const auto at_least = [](float value, float low) { return std::isfinite(value) && value >= low; };
  check_range("temperature", options.temperature, at_least(options.temperature, 0.0f),
              "0 (greedy) or a positive number");
  check_range("topK", static_cast<double>(options.top_k), options.top_k >= 0,
              "0 (off) or a positive integer");
  check_range("topP", options.top_p, options.top_p >= 0.0f && options.top_p <= 1.0f,
              "between 0 and 1");
  check_range("minP", options.min_p, options.min_p >= 0.0f && options.min_p <= 1.0f,
              "between 0 and 1");
  check_range("repetitionPenalty", options.repetition_penalty,
              at_least(options.repetition_penalty, std::numeric_limits<float>::min()),
              "a positive number");
  // Far beyond use, but bounded: a sum of penalties can then never be infinite.
  check_range("frequencyPenalty", options.frequency_penalty,
              std::fabs(options.frequency_penalty) <= 1000.0f, "between -1000 and 1000");
  check_range("presencePenalty", options.presence_penalty,
              std::fabs(options.presence_penalty) <= 1000.0f, "between -1000 and 1000");
  check_range("penaltyLastN", static_cast<double>(options.penalty_last_n),
              options.penalty_last_n >= -1, "-1 (all) or the number of last tokens to look at");
  check_range("noRepeatNgramSize", static_cast<double>(options.no_repeat_ngram_size),
              options.no_repeat_ngram_size >= 0, "0 (off) or a positive integer");
  for (const LogitBias& entry : options.logit_bias) {
    check_range("logitBias", entry.id, entry.id >= 0 && entry.id < vocab_size,
                "for ids of the model's vocabulary");
    check_range("logitBias", static_cast<double>(entry.bias), std::fabs(entry.bias) <= 1e9f,
                "between -1e9 and 1e9");
  }
}

}  // namespace qvl
