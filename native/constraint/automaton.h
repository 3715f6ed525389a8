#pragma once

// Runs a program over bytes. A state is all that the bytes so far may have led to: the nodes that
// wait for a byte, each with its stacks. Equal states are one, and each step from one to another is
// worked out once, so that going round in a loop costs a look-up a byte.

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "constraint/frames.h"
#include "constraint/intern_table.h"
#include "constraint/program.h"

namespace qvl {

using StateId = uint32_t;

/// The state that nothing leads out of: the bytes so far begin no text of the grammar.
inline constexpr StateId kDeadState = 0;

struct AutomatonLimits {
  /// Rules within rules, unless in last place: deeper ones are as if the grammar did not have them.
  uint32_t max_depth = 4096;
  /// The most units of work (about 10 ns each) between two calls of begin_work().
  uint64_t max_work = 30'000'000;
  /// The most memory that states and stacks may take at all, and above which those that no cursor
  /// can need again are dropped.
  size_t max_bytes = size_t{256} << 20;
  size_t keep_bytes = size_t{16} << 20;
};

/// Not thread-safe.
class Automaton {
 public:
  /// `horizon`: canonical() may take states as alike that so many bytes do not tell apart.
  Automaton(std::shared_ptr<const Program> program, uint32_t horizon,
            const AutomatonLimits& limits = {});

  StateId start();
  /// Throws Error(ERR_GRAMMAR_TOO_COMPLEX) when a limit is reached.
  StateId next(StateId state, uint8_t byte) {
    const uint32_t byte_class = program_->byte_class(byte);
    const StateId known = steps_[size_t{state} * num_classes_ + byte_class];
    return known != kUnknown ? known : work_out(state, byte);
  }
  /// The bytes so far are a text of the grammar.
  bool is_accepting(StateId state) const { return states_[state].accepting; }
  /// No trigger has come, or the text behind the grammar's is free again.
  bool is_free(StateId state) const;
  /// No byte may follow.
  bool is_complete(StateId state) const { return states_[state].count == 0; }
  /// A state from which the same texts lead as far as the horizon goes.
  StateId canonical(StateId state);

  /// Begins a piece of work whose cost is limited.
  void begin_work() { work_ = 0; }
  /// Whether to call collect().
  bool is_large() const { return size_bytes() > collect_above_; }
  /// Forgets all but the states in `live`, which it renumbers.
  void collect(std::span<StateId* const> live);

  size_t size_bytes() const;
  size_t num_states() const { return states_.size(); }

 private:
  static constexpr StateId kUnknown = UINT32_MAX;

  /// A node that waits for a byte.
  struct Item {
    NodeId node = 0;
    FrameId frame = 0;

    auto operator<=>(const Item&) const = default;
  };

  struct State {
    uint32_t first = 0, count = 0;  // items
    StateId canonical = kUnknown;
    bool accepting = false;
  };

  /// A place that the bytes so far lead to, on the way to those that wait for a byte.
  struct Place {
    NodeId node = 0;
    uint32_t count = 0;  // at a repetition: its matches so far
    FrameId frame = 0;
    bool is_fresh = false;  // its rule has read no byte yet

    auto operator<=>(const Place&) const = default;
  };

  std::span<const Item> items(StateId state) const;
  StateId work_out(StateId state, uint8_t byte);
  void reach(const Place& place);
  void follow_places();
  void follow(const Place& place);
  void call(uint32_t rule, const ReturnPoint& back);
  void enter_called_rules();
  void discard_places();
  StateId intern(std::vector<Item>& items, bool accepting);
  void count_work(size_t units);

  const std::shared_ptr<const Program> program_;
  const uint32_t num_classes_;
  const uint32_t horizon_;
  const AutomatonLimits limits_;
  size_t collect_above_;
  uint64_t work_ = 0;

  FrameTable frames_;
  std::vector<Item> items_;
  std::vector<State> states_;
  std::vector<StateId> steps_;  // [states, byte classes]
  InternTable table_;           // of states
  StateId start_ = kUnknown;

  // The state that is being worked out:
  std::vector<Place> places_;  // a queue: from next_place_ on still to be followed
  size_t next_place_ = 0;
  InternTable place_table_;
  std::vector<std::vector<ReturnPoint>> calls_;  // by rank of the rule: where it is to return to
  std::vector<uint32_t> called_ranks_;           // a heap, smallest first
  std::vector<Item> found_;
  bool is_accepted_ = false;
};

}  // namespace qvl
