#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "constraint/grammar_matcher.h"

namespace qvl {

/// What one answer may go on with, token after token. Used by one thread at a time: by the helper
/// between the engine's start() and wait(), by the engine otherwise.
class Constraint {
 public:
  /// `stop_ids` may come exactly where the grammar may end. Touches nothing of the matcher yet: may
  /// be made on any thread.
  Constraint(std::shared_ptr<GrammarMatcher> matcher, std::vector<int32_t> stop_ids);

  /// Works out the mask ahead of time. An error is kept for mask(), which meets it again.
  void prepare() noexcept;
  /// The tokens that may come next: bit id % 64 of word id / 64. Valid until accept(). Throws
  /// Error(ERR_GRAMMAR_DEAD_END) if there are none, Error(ERR_GRAMMAR_TOO_COMPLEX).
  std::span<const uint64_t> mask();
  /// The answer goes on with this token, one of the mask.
  void accept(int32_t token);
  /// The text is complete, and the request has no token that would say so.
  bool is_complete() const;

 private:
  void work_out();

  const std::shared_ptr<GrammarMatcher> matcher_;
  const std::vector<int32_t> stop_ids_;
  std::optional<GrammarMatcher::Cursor> cursor_;
  TokenSet mask_;
  bool has_mask_ = false;
};

}  // namespace qvl
