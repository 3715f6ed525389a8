#include "constraint/program.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "constraint/grammar_analysis.h"
#include "constraint/trigger_table.h"
#include "constraint/utf8_ranges.h"

namespace qvl {

class ProgramBuilder {
 public:
  explicit ProgramBuilder(const Grammar& grammar)
      : grammar_(grammar), facts_(analyze_grammar(grammar)) {}

  std::shared_ptr<const Program> build();

 private:
  struct Node {
    std::vector<ByteEdge> edges;
    std::vector<Action> actions;
  };

  NodeId add_node() {
    nodes_.emplace_back();
    return static_cast<NodeId>(nodes_.size() - 1);
  }
  void add_top_rule();
  void add_trigger_nodes(uint32_t top_rule);
  void add_rule(uint32_t rule);
  void add_sequence(const GrammarSequence& sequence, NodeId entry, NodeId end);
  NodeId add_symbol(const GrammarSymbol& symbol, NodeId from, NodeId to);
  void add_chars(const CharSymbol& symbol, NodeId from, NodeId to);
  NodeId add_text(const std::string& text, NodeId from, NodeId to);
  void add_rule_symbol(const RuleSymbol& symbol, NodeId from, NodeId to);
  bool is_skipped(const GrammarSymbol& symbol) const;

  void rank_rules();
  std::vector<uint32_t> first_calls(uint32_t rule);
  [[noreturn]] void refuse_left_recursion(const std::vector<std::vector<uint32_t>>& calls,
                                          const std::vector<uint32_t>& callers) const;
  void flatten();
  void find_byte_classes();

  const Grammar& grammar_;
  const GrammarFacts facts_;
  std::shared_ptr<Program> program_ = std::make_shared<Program>();
  std::vector<Node> nodes_;
  std::vector<bool> is_needed_;   // rules
  std::vector<uint32_t> needed_;  // rules that are called, in order of discovery
  /// Texts at the begin of a rule's alternatives share their nodes, as in a trie.
  std::map<std::pair<NodeId, uint8_t>, NodeId> shared_;
  std::vector<bool> is_reached_;  // nodes; by first_calls()
};

std::shared_ptr<const Program> ProgramBuilder::build() {
  if (!facts_.productive[0]) {
    throw Error("ERR_INVALID_ARGUMENT",
                "the grammar matches no text at all: its start, rule 0, needs an alternative that "
                "comes to an end",
                {{"path", std::string("grammar.rules[0]")}, {"rule", int64_t{0}}});
  }
  program_->rules_.resize(grammar_.rules.size() + 1);
  is_needed_.resize(grammar_.rules.size());
  add_node();  // kAcceptNode
  add_top_rule();
  for (size_t i = 0; i < needed_.size(); ++i) add_rule(needed_[i]);
  rank_rules();
  flatten();
  find_byte_classes();
  return program_;
}

void ProgramBuilder::add_top_rule() {
  const uint32_t top = program_->top_rule();
  program_->rules_[top].nullable = !grammar_.triggers.empty() || facts_.nullable[0];
  if (!grammar_.triggers.empty()) return add_trigger_nodes(top);
  const NodeId entry = add_node();
  const NodeId end = add_node();
  program_->rules_[top].entry = entry;
  nodes_[end].actions.push_back({ActionKind::kEnd});
  add_rule_symbol({}, entry, end);
}

/// The text may end in each state of the table. A trigger calls the grammar; what has followed it
/// may end, too, or with `repeat` go on in the table's start.
void ProgramBuilder::add_trigger_nodes(uint32_t top_rule) {
  const TriggerTable table = build_trigger_table(grammar_.triggers);
  const NodeId first = static_cast<NodeId>(nodes_.size());
  nodes_.resize(nodes_.size() + table.next.size());
  const NodeId found = add_node();
  const NodeId end = add_node();
  nodes_[end].actions.push_back({ActionKind::kEnd});
  add_rule_symbol({}, found, grammar_.repeat ? first : end);
  for (size_t state = 0; state < table.next.size(); ++state) {
    Node& node = nodes_[first + state];
    node.actions.push_back({ActionKind::kEnd});
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t next = table.next[state][byte];
      const NodeId target = next == TriggerTable::kFound ? found : first + next;
      const auto value = static_cast<uint8_t>(byte);
      if (!node.edges.empty() && node.edges.back().target == target) {
        node.edges.back().last = value;
      } else {
        node.edges.push_back({value, value, target});
      }
    }
  }
  program_->rules_[top_rule].entry = first;
  program_->first_free_ = first;
  program_->end_free_ = found;
}

void ProgramBuilder::add_rule(uint32_t rule) {
  const NodeId entry = add_node();
  const NodeId end = add_node();
  nodes_[end].actions.push_back({ActionKind::kEnd});
  program_->rules_[rule].entry = entry;
  program_->rules_[rule].nullable = facts_.nullable[rule];
  shared_.clear();
  for (const GrammarSequence& sequence : grammar_.rules[rule]) {
    const bool can_match = std::all_of(sequence.begin(), sequence.end(), [&](const auto& symbol) {
      return is_productive(symbol, facts_.productive);
    });
    if (can_match) add_sequence(sequence, entry, end);
  }
}

/// Whether a symbol matches the empty string only.
bool ProgramBuilder::is_skipped(const GrammarSymbol& symbol) const {
  if (const auto* text = std::get_if<TextSymbol>(&symbol)) return text->text.empty();
  const auto* call = std::get_if<RuleSymbol>(&symbol);
  return call != nullptr && (call->max == 0u || !facts_.productive[call->rule]);
}

void ProgramBuilder::add_sequence(const GrammarSequence& sequence, NodeId entry, NodeId end) {
  std::vector<const GrammarSymbol*> symbols;
  for (const GrammarSymbol& symbol : sequence) {
    if (!is_skipped(symbol)) symbols.push_back(&symbol);
  }
  NodeId node = entry;
  size_t next = 0;
  for (; next < symbols.size(); ++next) {
    const auto* text = std::get_if<TextSymbol>(symbols[next]);
    if (text == nullptr) break;
    for (const char c : text->text) {
      const auto byte = static_cast<uint8_t>(c);
      const auto [found, is_new] = shared_.try_emplace({node, byte}, 0);
      if (is_new) {
        found->second = add_node();
        nodes_[node].edges.push_back({byte, byte, found->second});
      }
      node = found->second;
    }
  }
  if (next == symbols.size()) nodes_[node].actions.push_back({ActionKind::kEnd});
  for (; next < symbols.size(); ++next) {
    const bool is_last = next + 1 == symbols.size();
    node = add_symbol(*symbols[next], node, is_last ? end : add_node());
  }
}

/// Returns `to`.
NodeId ProgramBuilder::add_symbol(const GrammarSymbol& symbol, NodeId from, NodeId to) {
  if (const auto* chars = std::get_if<CharSymbol>(&symbol)) {
    add_chars(*chars, from, to);
  } else if (const auto* text = std::get_if<TextSymbol>(&symbol)) {
    add_text(text->text, from, to);
  } else {
    add_rule_symbol(std::get<RuleSymbol>(symbol), from, to);
  }
  return to;
}

/// Encodings that end alike share their last nodes.
void ProgramBuilder::add_chars(const CharSymbol& symbol, NodeId from, NodeId to) {
  std::map<std::tuple<uint8_t, uint8_t, NodeId>, NodeId> tails;
  for (const ByteRangeSequence& sequence : utf8_sequences(symbol.ranges)) {
    NodeId target = to;
    for (size_t i = static_cast<size_t>(sequence.length) - 1; i > 0; --i) {
      const auto [first, last] = sequence.ranges[i];
      const auto [found, is_new] = tails.try_emplace({first, last, target}, 0);
      if (is_new) {
        found->second = add_node();
        nodes_[found->second].edges.push_back({first, last, target});
      }
      target = found->second;
    }
    nodes_[from].edges.push_back({sequence.ranges[0].first, sequence.ranges[0].last, target});
  }
}

NodeId ProgramBuilder::add_text(const std::string& text, NodeId from, NodeId to) {
  for (size_t i = 0; i < text.size(); ++i) {
    const NodeId target = i + 1 == text.size() ? to : add_node();
    const auto byte = static_cast<uint8_t>(text[i]);
    nodes_[from].edges.push_back({byte, byte, target});
    from = target;
  }
  return to;
}

void ProgramBuilder::add_rule_symbol(const RuleSymbol& symbol, NodeId from, NodeId to) {
  if (!is_needed_[symbol.rule]) {
    is_needed_[symbol.rule] = true;
    needed_.push_back(symbol.rule);
  }
  if (symbol.min == 1 && symbol.max == 1u) {
    nodes_[from].actions.push_back({ActionKind::kCall, symbol.rule, to});
    return;
  }
  const NodeId repeat = add_node();
  const uint32_t min = facts_.nullable[symbol.rule] ? 0 : symbol.min;
  nodes_[repeat].actions.push_back(
      {ActionKind::kRepeat, symbol.rule, to, min, symbol.max.value_or(kUnbounded)});
  nodes_[from].actions.push_back({ActionKind::kJump, 0, repeat});
}

/// The rules that a rule may call before it has read a byte.
std::vector<uint32_t> ProgramBuilder::first_calls(uint32_t rule) {
  std::vector<NodeId> reached = {program_->rules_[rule].entry};
  std::vector<uint32_t> calls;
  const auto reach = [&](NodeId node) {
    if (!is_reached_[node]) reached.push_back(node);
    is_reached_[node] = true;
  };
  for (size_t i = 0; i < reached.size(); ++i) {
    for (const Action& action : nodes_[reached[i]].actions) {
      if (action.kind == ActionKind::kEnd) continue;
      if (action.kind == ActionKind::kJump) {
        reach(action.next);
        continue;
      }
      calls.push_back(action.rule);
      const bool may_skip =
          action.kind == ActionKind::kRepeat ? action.min == 0 : facts_.nullable[action.rule];
      if (may_skip) reach(action.next);
    }
  }
  std::sort(calls.begin(), calls.end());
  calls.erase(std::unique(calls.begin(), calls.end()), calls.end());
  return calls;
}

/// Topological order of "calls before it has read a byte"; a cycle is a left recursion.
void ProgramBuilder::rank_rules() {
  const uint32_t top = program_->top_rule();
  is_reached_.resize(nodes_.size());
  std::vector<std::vector<uint32_t>> calls(program_->rules_.size());
  std::vector<uint32_t> callers(program_->rules_.size());  // those without a rank yet
  calls[top] = first_calls(top);
  for (const uint32_t rule : needed_) calls[rule] = first_calls(rule);
  for (const auto& called : calls) {
    for (const uint32_t rule : called) ++callers[rule];
  }
  std::vector<uint32_t>& order = program_->rule_of_rank_;
  if (callers[top] == 0) order.push_back(top);
  for (const uint32_t rule : needed_) {
    if (callers[rule] == 0) order.push_back(rule);
  }
  for (size_t i = 0; i < order.size(); ++i) {
    program_->rules_[order[i]].rank = static_cast<uint32_t>(i);
    for (const uint32_t rule : calls[order[i]]) {
      if (--callers[rule] == 0) order.push_back(rule);
    }
  }
  if (order.size() != needed_.size() + 1) refuse_left_recursion(calls, callers);
}

void ProgramBuilder::refuse_left_recursion(const std::vector<std::vector<uint32_t>>& calls,
                                           const std::vector<uint32_t>& callers) const {
  // Each rule without a rank has a caller without one: going back from caller to caller must come
  // round.
  std::vector<uint32_t> caller_of(calls.size(), UINT32_MAX);
  uint32_t rule = UINT32_MAX;
  for (uint32_t i = 0; i < calls.size(); ++i) {
    if (callers[i] == 0) continue;
    rule = i;
    for (const uint32_t called : calls[i]) caller_of[called] = i;
  }
  std::vector<bool> seen(calls.size());
  while (!seen[rule]) {
    seen[rule] = true;
    rule = caller_of[rule];
  }
  std::string cycle = std::to_string(rule);
  size_t length = 0;
  for (uint32_t caller = caller_of[rule];; caller = caller_of[caller]) {
    cycle = std::to_string(caller) + " -> " + cycle;
    if (caller == rule) break;
    if (++length == 16) {
      cycle = std::to_string(rule) + " -> ... -> " + cycle;
      break;
    }
  }
  throw Error("ERR_INVALID_ARGUMENT",
              "rule " + std::to_string(rule) +
                  " of the grammar calls itself before it has matched a character (" + cycle +
                  "): write left recursion as a repetition",
              {{"path", "grammar.rules[" + std::to_string(rule) + "]"},
               {"rule", static_cast<int64_t>(rule)}});
}

void ProgramBuilder::flatten() {
  Program& program = *program_;
  for (Node& node : nodes_) {
    std::stable_sort(node.edges.begin(), node.edges.end(),
                     [](const ByteEdge& a, const ByteEdge& b) { return a.first < b.first; });
    program.first_edge_.push_back(static_cast<uint32_t>(program.edges_.size()));
    program.first_action_.push_back(static_cast<uint32_t>(program.actions_.size()));
    program.edges_.insert(program.edges_.end(), node.edges.begin(), node.edges.end());
    program.actions_.insert(program.actions_.end(), node.actions.begin(), node.actions.end());
    const bool is_end =
        node.edges.empty() && node.actions.size() == 1 && node.actions[0].kind == ActionKind::kEnd;
    program.is_end_.push_back(is_end ? 1 : 0);
  }
  program.first_edge_.push_back(static_cast<uint32_t>(program.edges_.size()));
  program.first_action_.push_back(static_cast<uint32_t>(program.actions_.size()));
}

void ProgramBuilder::find_byte_classes() {
  std::array<bool, 257> begins_class{};
  for (const ByteEdge& edge : program_->edges_) {
    begins_class[edge.first] = true;
    begins_class[size_t{edge.last} + 1] = true;
  }
  uint8_t current = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte > 0 && begins_class[byte]) ++current;
    program_->byte_classes_[byte] = current;
  }
  program_->num_byte_classes_ = uint32_t{current} + 1;
}

std::shared_ptr<const Program> compile_grammar(const Grammar& grammar) {
  check_grammar(grammar);
  return ProgramBuilder(grammar).build();
}

}  // namespace qvl
