#pragma once

// Guesses the next tokens of an answer from what prompt and answer say already, so that one step
// can verify several. Whether a guess is worth rows of a step is learned from guesses that cost
// nothing: there is one for every token, whether the model is asked about it or not.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ngram_index.h"

namespace qvl {

class Drafter {
 public:
  /// Drafts are at most `max_tokens` long. The barriers are never drafted (see NgramIndex).
  Drafter(int64_t max_tokens, int32_t first_barrier, int32_t second_barrier)
      : max_tokens_(max_tokens), index_(first_barrier, second_barrier) {}

  /// The answer's next token: tells how good the guess was that guess() made last.
  void note(int32_t token);
  /// Guesses how `tokens`, prompt and answer, go on; returns what is worth verifying, up to `room`
  /// tokens, valid until the next call.
  std::span<const int32_t> guess(std::span<const int32_t> tokens, int64_t room);

  /// Tokens of the next draft, if there are as many. One guess that came true doubles it, one that
  /// did not halves it; 0 until the first came true.
  int64_t length() const { return length_; }

 private:
  int64_t max_tokens_;
  NgramIndex index_;
  int64_t length_ = 0;
  std::vector<int32_t> guessed_;  // the next tokens, the first `num_noted_` of which have come
  size_t num_noted_ = 0;
};

}  // namespace qvl
