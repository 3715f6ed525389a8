#include "constraint/constraint.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/error.h"

namespace qvl {

Constraint::Constraint(std::shared_ptr<GrammarMatcher> matcher, std::vector<int32_t> stop_ids)
    : matcher_(std::move(matcher)), stop_ids_(std::move(stop_ids)) {}

void Constraint::prepare() noexcept {
  try {
    if (!has_mask_) work_out();
  } catch (...) {
    has_mask_ = false;
  }
}

void Constraint::work_out() {
  if (!cursor_) cursor_.emplace(matcher_.get());
  mask_ = cursor_->allowed();
  for (const int32_t id : stop_ids_) {
    if (id < 0 || static_cast<size_t>(id) >= matcher_->vocabulary().size()) continue;
    if (cursor_->is_accepting()) {
      mask_.insert(id);
    } else {
      mask_.erase(id);
    }
  }
  has_mask_ = true;
}

std::span<const uint64_t> Constraint::mask() {
  if (!has_mask_) work_out();
  if (mask_.empty()) {
    throw Error("ERR_GRAMMAR_DEAD_END",
                "no token of the vocabulary can go on with the answer within the grammar: it asks "
                "for characters that the tokenizer cannot write, or nests too deeply");
  }
  return mask_.words();
}

void Constraint::accept(int32_t token) {
  has_mask_ = false;
  if (std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end()) return;
  if (!cursor_) cursor_.emplace(matcher_.get());
  if (cursor_->advance(token)) return;
  throw Error("ERR_INTERNAL", "token " + std::to_string(token) +
                                  " was taken although the grammar does not allow it; please "
                                  "report this");
}

bool Constraint::is_complete() const {
  return stop_ids_.empty() && cursor_ && cursor_->is_accepting() && cursor_->is_complete();
}

}  // namespace qvl
