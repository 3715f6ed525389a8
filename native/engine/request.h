#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "backend/sampling.h"
#include "constraint/grammar_matcher.h"
#include "io/image.h"

namespace qvl {

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
  float logit = 0.0f;                // raw; 0 unless log_probabilities or top_logits
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
