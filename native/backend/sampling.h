#pragma once

// How a token is chosen from a row of logits.

#include <cstdint>
#include <span>
#include <vector>

namespace qvl {

/// Added to the logit of one token.
struct LogitBias {
  int32_t id = 0;
  float bias = 0.0f;
};

/// Options of the sampler, in the reference's meaning and order (transformers' logits processors),
/// behind the grammar's mask: logit bias, repetition penalty, no-repeat n-gram, frequency and
/// presence penalty, temperature, top-k, top-p, min-p, one draw.
struct SamplingOptions {
  float temperature = 0.0f;  // 0 = greedy: argmax after the penalties, lowest id on ties
  int64_t top_k = 0;         // 0 = off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // over prompt and answer, each id once
  float frequency_penalty = 0.0f;   // over the answer, as in the OpenAI API
  float presence_penalty = 0.0f;    // over the answer
  /// How many last tokens of prompt and answer the penalties see; -1 = all, 0 = none.
  int64_t penalty_last_n = -1;
  /// No sequence of this many tokens occurs twice in prompt and answer; 0 = off.
  int64_t no_repeat_ngram_size = 0;
  std::vector<LogitBias> logit_bias;
  uint64_t seed = 0;  // a draw depends on the seed and the index of the token in the answer alone
};

inline bool has_penalties(const SamplingOptions& options) {
  return options.penalty_last_n != 0 &&
         (options.repetition_penalty != 1.0f || options.frequency_penalty != 0.0f ||
          options.presence_penalty != 0.0f);
}

/// How the token behind a row of logits is chosen. What it refers to outlives the call.
struct TokenChoice {
  const SamplingOptions* options = nullptr;  // null: it is not, the logits are wanted
  std::span<const int32_t> history;          // prompt, then answer
  std::span<const int32_t> guesses;          // what this row takes for the answer's next tokens
  int64_t num_prompt = 0;                    // of the history
  std::span<const uint64_t> mask;            // allowed ids, bit id % 64 of word id / 64; empty: all
};

/// Instead of an id where a backend leaves a choice to its caller.
inline constexpr int32_t kNotChosen = -1;

}  // namespace qvl
