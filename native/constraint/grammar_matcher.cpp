#include "constraint/grammar_matcher.h"

#include <algorithm>
#include <utility>

namespace qvl {
namespace {

/// What the masks of one grammar may take: some 200 of a published vocabulary.
constexpr size_t kMaxMaskBytes = size_t{4} << 20;

}  // namespace

GrammarMatcher::GrammarMatcher(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary,
                               const AutomatonLimits& limits)
    : vocabulary_(std::move(vocabulary)),
      // A match that is under way may end with the first byte: it counts as one more.
      automaton_(compile_grammar(grammar), vocabulary_->max_length() + 1, limits),
      path_(vocabulary_->max_length() + size_t{1}) {}

const TokenSet& GrammarMatcher::mask(StateId state) {
  state = automaton_.canonical(state);
  const auto known = mask_of_.find(state);
  if (known != mask_of_.end()) {
    masks_.splice(masks_.begin(), masks_, known->second);
    return masks_.front().tokens;
  }
  TokenSet tokens = walk(state);
  const size_t most = std::max<size_t>(1, kMaxMaskBytes / std::max<size_t>(1, tokens.size_bytes()));
  while (masks_.size() >= most) {
    mask_of_.erase(masks_.back().state);
    masks_.pop_back();
  }
  masks_.push_front({state, std::move(tokens)});
  mask_of_.emplace(state, masks_.begin());
  return masks_.front().tokens;
}

/// Tries all tokens at once: what no text begins with is skipped with all that follows it.
TokenSet GrammarMatcher::walk(StateId state) {
  TokenSet tokens(vocabulary_->size());
  const auto trie = vocabulary_->trie();
  path_[0] = state;
  for (size_t i = 0; i < trie.size();) {
    const TrieNode& node = trie[i];
    const StateId next = automaton_.next(path_[node.depth - size_t{1}], node.byte);
    if (next == kDeadState) {
      i = node.skip;
      continue;
    }
    path_[node.depth] = next;
    if (node.token >= 0) tokens.insert(node.token);
    ++i;
  }
  for (const auto& [in_trie, other] : vocabulary_->twins()) {
    if (tokens.contains(in_trie)) tokens.insert(other);
  }
  if (automaton_.is_free(state)) tokens.insert_all(vocabulary_->textless());
  return tokens;
}

void GrammarMatcher::collect_if_large() {
  if (!automaton_.is_large()) return;
  automaton_.collect(live_);
  mask_of_.clear();  // the states have other numbers now
  masks_.clear();
}

// ---- cursors ----

GrammarMatcher::Cursor::Cursor(GrammarMatcher* matcher) : matcher_(matcher) {
  matcher_->automaton_.begin_work();
  state_ = matcher_->automaton_.start();
  matcher_->live_.push_back(&state_);
}

GrammarMatcher::Cursor::~Cursor() { std::erase(matcher_->live_, &state_); }

bool GrammarMatcher::Cursor::advance(int32_t token) {
  matcher_->collect_if_large();
  Automaton& automaton = matcher_->automaton_;
  const auto bytes = matcher_->vocabulary_->bytes(token);
  if (bytes.empty()) return automaton.is_free(state_);
  automaton.begin_work();
  StateId state = state_;
  for (const uint8_t byte : bytes) state = automaton.next(state, byte);
  if (state == kDeadState) return false;
  state_ = state;
  return true;
}

const TokenSet& GrammarMatcher::Cursor::allowed() {
  matcher_->collect_if_large();
  matcher_->automaton_.begin_work();
  return matcher_->mask(state_);
}

bool GrammarMatcher::Cursor::is_accepting() const {
  return matcher_->automaton_.is_accepting(state_);
}

bool GrammarMatcher::Cursor::is_complete() const {
  return matcher_->automaton_.is_complete(state_);
}

}  // namespace qvl
