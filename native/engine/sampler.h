#pragma once

// Chooses the next token from a row of logits. The order is the reference's (transformers' logits
// processors): the mask of allowed ids, logit bias, repetition penalty, no-repeat n-gram, frequency
// and presence penalty, temperature, top-k, top-p, min-p, one draw. Scores are float32 as in the
// reference. Weights are summed as integers and every operation is one that IEEE 754 defines, so a
// seed draws the same on every processor, and on a GPU (kernels/cuda/sample.cuh).

#include <cstdint>
#include <span>
#include <vector>

#include "backend/sampling.h"
#include "engine/request.h"

namespace qvl {

/// A token that may be drawn.
struct Candidate {
  int32_t id = 0;
  float score = 0.0f;   // after penalties and temperature
  float weight = 0.0f;  // exp(score - largest score): probability but for the common factor
};

/// Holds scratch memory only: a choice depends on nothing but the arguments. Not thread-safe.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);

  /// The next id. `history` is the prompt and, from `num_prompt` on, the answer so far; the draw
  /// depends on options.seed and the length of the answer alone. Throws Error(ERR_NUMERICS) when a
  /// logit is NaN or +infinity, or all are -infinity (which is otherwise allowed: a masked id),
  /// Error(ERR_GRAMMAR_DEAD_END) when all allowed ones are, and Error(ERR_INVALID_ARGUMENT) when
  /// no_repeat_ngram_size leaves no id. `mask`: the allowed ids, bit id % 64 of word id / 64; empty
  /// = all.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history,
                 int64_t num_prompt, const SamplingOptions& options,
                 std::span<const uint64_t> mask = {});

  /// What sample() draws from when options.temperature > 0, in order of id; valid until the next
  /// call.
  std::span<const Candidate> candidates(std::span<const float> logits,
                                        std::span<const int32_t> history, int64_t num_prompt,
                                        const SamplingOptions& options,
                                        std::span<const uint64_t> mask = {});

  /// The logits after mask, bias, penalties and bans; valid until the next call.
  std::span<const float> penalized(std::span<const float> logits, std::span<const int32_t> history,
                                   int64_t num_prompt, const SamplingOptions& options,
                                   std::span<const uint64_t> mask = {});

 private:
  void apply(std::span<const uint64_t> mask);
  void penalize(std::span<const int32_t> history, int64_t num_prompt,
                const SamplingOptions& options);
  void ban_repeated_ngrams(std::span<const int32_t> history, int64_t size);
  void keep_top_p(const SamplingOptions& options);

  std::vector<float> scores_;           // V
  std::vector<Candidate> candidates_;   // up to V
  std::vector<Candidate> sorted_;       // top-p
  std::vector<float> largest_;          // top-k
  std::vector<uint32_t> answer_count_;  // V; occurrences in the window's part of the answer
  std::vector<uint8_t> seen_;           // V; 1 = in the window
  std::vector<int32_t> seen_ids_;       // ids with seen_ = 1, so that resetting is cheap
};

/// A number of [0, 1) that depends on its arguments alone (counter-based SplitMix64).
double uniform_draw(uint64_t seed, uint64_t index);

/// log(sum(exp(logits))), summed in double in order of id.
double log_sum_exp(std::span<const float> logits);

/// The `count` largest logits, largest first; the lowest id first among equal ones.
std::vector<TopLogit> top_logits(std::span<const float> logits, int64_t count);

/// Throws Error(ERR_INVALID_ARGUMENT) when an option is out of its range.
void check_sampling_options(const SamplingOptions& options, int64_t vocab_size);

}  // namespace qvl
