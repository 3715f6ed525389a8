#include "engine/drafter.h"

#include <algorithm>

namespace qvl {

void Drafter::note(int32_t token) {
  if (num_noted_ >= guessed_.size()) return;
  if (guessed_[num_noted_] == token) {
    ++num_noted_;
    length_ = std::min(std::max<int64_t>(1, 2 * length_), max_tokens_);
  } else {
    guessed_.clear();  // what stands behind a wrong token was a guess about another text
    length_ /= 2;
  }
}

std::span<const int32_t> Drafter::guess(std::span<const int32_t> tokens, int64_t room) {
  index_.extend(tokens);
  // One more than is drafted, so that the token behind a draft that came true counts too.
  guessed_ = index_.continuation(tokens, static_cast<size_t>(max_tokens_) + 1);
  num_noted_ = 0;
  const int64_t count = std::min({length_, room, static_cast<int64_t>(guessed_.size())});
  return std::span(guessed_).first(static_cast<size_t>(std::max<int64_t>(0, count)));
}

}  // namespace qvl
