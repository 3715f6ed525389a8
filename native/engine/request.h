#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "constraint/grammar_matcher.h"
#include "io/image.h"

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

/// Far beyond what any step verifies at little cost.
inline constexpr int64_t kMaxDraftTokens = 64;

struct GenerationRequest {
  std::vector<int32_t> prompt;    // vision pads already expanded
  std::vector<VisionItem> items;  // images and videos, each kind in order of its pad runs
  SamplingOptions sampling;
  /// An answer ends at the first of these. It is emitted, as the last token, and counted; it is not
  /// text.
  std::vector<int32_t> stop_ids;
  int64_t max_tokens = 1024;
  int32_t priority = 0;  // higher runs first; an answer does not depend on it
  /// False: nothing of it comes from the prefix and the image cache, and nothing goes there.
  bool use_cache = true;
  bool log_probabilities = false;  // TokenOutput::log_sum_exp is wanted
  int top_logits = 0;              // how many (id, raw logit) pairs come with each token
  /// Speculative prompt lookup: the longest draft, guessed from prompt and answer, that one step
  /// verifies; 0 = off. The answer is the same.
  int64_t max_draft_tokens = 0;
  /// What the answer must look like; null = anything. For this engine's model only; requests of one
  /// grammar should share it.
  std::shared_ptr<GrammarMatcher> grammar;
};

/// kStop: a stop id was emitted. kLength: max_tokens, or prompt and answer reached max_context.
enum class FinishReason : uint8_t { kStop, kLength, kCancelled };

struct TopLogit {
  int32_t id;
  float logit;
};

/// The logarithm of a token's probability (before bias, penalties and temperature) is its raw logit
/// less log_sum_exp.
struct TokenOutput {
  int32_t id = 0;
  float logit = 0.0f;                // raw
  double log_sum_exp = 0.0;          // of all raw logits; 0 unless log_probabilities
  std::vector<TopLogit> top_logits;  // raw, largest first
};

/// Times in milliseconds. queue: submit to first work; vision: encoding this request's items;
/// prefill: the steps that carried its prompt (other sequences may share them); first_token: submit
/// to first token; decode: first to last token.
struct GenerationStats {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, taken from the prefix cache
  int64_t completion_tokens = 0;
  int64_t draft_tokens = 0;           // guesses that were verified
  int64_t accepted_draft_tokens = 0;  // of them, those that came true
  std::vector<bool> reused_items;     // by item: it was not encoded for this request
  double queue_ms = 0, vision_ms = 0, prefill_ms = 0, first_token_ms = 0, decode_ms = 0;
};

/// Receives what happens to one request, on the engine's thread. Exactly one of on_finish and
/// on_error is called, last. Must not block and must not throw.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  virtual void on_token(const TokenOutput& token) = 0;
  virtual void on_finish(FinishReason reason, const GenerationStats& stats) = 0;
  virtual void on_error(std::exception_ptr error) = 0;
};

}  // namespace qvl
