#pragma once

// A grammar as a byte-level pushdown automaton: per rule a small graph of nodes whose edges read
// one byte, and whose actions read none: go on, call a rule, repeat it, end.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "constraint/grammar.h"

namespace qvl {

using NodeId = uint32_t;

/// Reached when the start has matched: what was read may be all.
inline constexpr NodeId kAcceptNode = 0;

/// Reads a byte of [first, last].
struct ByteEdge {
  uint8_t first = 0;
  uint8_t last = 0;
  NodeId target = 0;
};

enum class ActionKind : uint8_t {
  kEnd,     // the rule has matched
  kJump,    // to `next`
  kCall,    // match `rule`, then go to `next`
  kRepeat,  // match `rule` from `min` to `max` times, then go to `next`; a node's only action
};

inline constexpr uint32_t kUnbounded = UINT32_MAX;

struct Action {
  ActionKind kind = ActionKind::kEnd;
  uint32_t rule = 0;
  NodeId next = 0;
  uint32_t min = 0;  // 0 where the rule matches the empty string: that may fill up any count
  uint32_t max = 0;  // kUnbounded = no bound
};

struct ProgramRule {
  NodeId entry = 0;
  /// A rule is called without a byte read before only by rules of smaller rank.
  uint32_t rank = 0;
  bool nullable = false;
};

/// Flat and immutable: shared by all that use the grammar.
class Program {
 public:
  std::span<const ByteEdge> edges(NodeId node) const {
    return {edges_.data() + first_edge_[node], first_edge_[node + 1] - first_edge_[node]};
  }
  std::span<const Action> actions(NodeId node) const {
    return {actions_.data() + first_action_[node], first_action_[node + 1] - first_action_[node]};
  }
  const ProgramRule& rule(uint32_t index) const { return rules_[index]; }
  uint32_t num_rules() const { return static_cast<uint32_t>(rules_.size()); }
  uint32_t rule_of_rank(uint32_t rank) const { return rule_of_rank_[rank]; }
  /// The rule that matches all of an answer.
  uint32_t top_rule() const { return num_rules() - 1; }
  size_t num_nodes() const { return first_edge_.size() - 1; }

  /// Nothing but the end of the rule follows: who calls from here need not be come back to.
  bool is_end(NodeId node) const { return is_end_[node] != 0; }
  /// Text there is free: no trigger has come yet.
  bool is_free(NodeId node) const { return node >= first_free_ && node < end_free_; }

  /// Bytes of one class are alike to every edge.
  uint8_t byte_class(uint8_t byte) const { return byte_classes_[byte]; }
  uint32_t num_byte_classes() const { return num_byte_classes_; }

 private:
  friend class ProgramBuilder;

  std::vector<uint32_t> first_edge_, first_action_;  // nodes + 1
  std::vector<ByteEdge> edges_;                      // of a node in order of `first`
  std::vector<Action> actions_;
  std::vector<uint8_t> is_end_;  // nodes
  std::vector<ProgramRule> rules_;
  std::vector<uint32_t> rule_of_rank_;
  NodeId first_free_ = 0, end_free_ = 0;
  std::array<uint8_t, 256> byte_classes_{};
  uint32_t num_byte_classes_ = 0;
};

/// Checks and compiles. What cannot match is left out, so that all that is read can be completed.
/// Throws Error(ERR_INVALID_ARGUMENT): see check_grammar(); also for a grammar that matches no
/// text, or that has left recursion.
std::shared_ptr<const Program> compile_grammar(const Grammar& grammar);

}  // namespace qvl
