#pragma once

// A grammar made ready for a vocabulary: which tokens may come next.

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "constraint/automaton.h"
#include "constraint/grammar.h"
#include "constraint/vocabulary.h"

namespace qvl {

/// Remembers states and masks, so that answers to one grammar should share one matcher. Not
/// thread-safe, but for the constructor and vocabulary(): one engine only may use it.
class GrammarMatcher {
 public:
  /// Throws Error(ERR_INVALID_ARGUMENT); see compile_grammar().
  GrammarMatcher(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary,
                 const AutomatonLimits& limits = {});
  GrammarMatcher(const GrammarMatcher&) = delete;
  GrammarMatcher& operator=(const GrammarMatcher&) = delete;

  const Vocabulary& vocabulary() const { return *vocabulary_; }

  /// A place in a text of the grammar; the matcher must outlive it.
  class Cursor {
   public:
    explicit Cursor(GrammarMatcher* matcher);
    ~Cursor();
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;

    /// Goes behind the token; false, and it stays, if the grammar does not allow it.
    bool advance(int32_t token);
    /// The tokens that may come next, whatever may end the answer aside; valid until the matcher is
    /// used again. Throws Error(ERR_GRAMMAR_TOO_COMPLEX), as advance() does.
    const TokenSet& allowed();
    bool is_accepting() const;
    /// No text may follow.
    bool is_complete() const;

   private:
    GrammarMatcher* matcher_;
    StateId state_;
  };

 private:
  struct CachedMask {
    StateId state;
    TokenSet tokens;
  };

  const TokenSet& mask(StateId state);
  TokenSet walk(StateId state);
  void collect_if_large();

  const std::shared_ptr<const Vocabulary> vocabulary_;
  Automaton automaton_;
  std::vector<StateId*> live_;   // of the cursors
  std::vector<StateId> path_;    // walk(): the state at each depth
  std::list<CachedMask> masks_;  // the last used first
  std::unordered_map<StateId, std::list<CachedMask>::iterator> mask_of_;
};

}  // namespace qvl
