#include "constraint/automaton.h"

#include <algorithm>
#include <functional>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

[[noreturn]] void refuse_too_complex(const char* what) {
  throw Error(
      "ERR_GRAMMAR_TOO_COMPLEX",
      std::string("the grammar takes too much ") + what +
          " to find out what may come next: too many ways to read the text so far are open. "
          "Make it less ambiguous");
}

}  // namespace

Automaton::Automaton(std::shared_ptr<const Program> program, uint32_t horizon,
                     const AutomatonLimits& limits)
    : program_(std::move(program)),
      num_classes_(program_->num_byte_classes()),
      horizon_(horizon),
      limits_(limits),
      collect_above_(limits.keep_bytes),
      frames_(program_.get(), horizon),
      calls_(program_->num_rules()) {
  std::vector<Item> none;
  intern(none, /*accepting=*/false);  // kDeadState
  std::fill(steps_.begin(), steps_.end(), kDeadState);
}

std::span<const Automaton::Item> Automaton::items(StateId state) const {
  return std::span(items_).subspan(states_[state].first, states_[state].count);
}

bool Automaton::is_free(StateId state) const {
  const auto waiting = items(state);
  return std::any_of(waiting.begin(), waiting.end(),
                     [&](const Item& item) { return program_->is_free(item.node); });
}

void Automaton::count_work(size_t units) {
  work_ += units;
  if (work_ > limits_.max_work) refuse_too_complex("work");
}

// ---- the steps ----

StateId Automaton::start() {
  if (start_ != kUnknown) return start_;
  discard_places();
  call(program_->top_rule(), {kAcceptNode, 0, 0});
  is_accepted_ = program_->rule(program_->top_rule()).nullable;
  enter_called_rules();
  return start_ = intern(found_, is_accepted_);
}

StateId Automaton::work_out(StateId state, uint8_t byte) {
  discard_places();
  for (const Item& item : items(state)) {
    const auto edges = program_->edges(item.node);
    count_work(1 + edges.size() / 8);
    for (const ByteEdge& edge : edges) {
      if (edge.first > byte) break;
      if (byte <= edge.last) reach({edge.target, 0, item.frame, /*is_fresh=*/false});
    }
  }
  follow_places();
  enter_called_rules();
  const StateId next = intern(found_, is_accepted_);
  return steps_[size_t{state} * num_classes_ + program_->byte_class(byte)] = next;
}

/// Also what a step has left behind that ended with an error.
void Automaton::discard_places() {
  for (const uint32_t rank : called_ranks_) calls_[rank].clear();
  called_ranks_.clear();
  places_.clear();
  next_place_ = 0;
  place_table_.clear();
  found_.clear();
  is_accepted_ = false;
}

void Automaton::reach(const Place& place) {
  uint64_t hash = mix_hash((uint64_t{place.node} << 32) | place.frame, place.count);
  hash = mix_hash(hash, place.is_fresh ? 1 : 0);
  const uint32_t known =
      place_table_.find(hash, [&](uint32_t index) { return places_[index] == place; });
  if (known != InternTable::kNone) return;
  place_table_.insert(hash, static_cast<uint32_t>(places_.size()));
  places_.push_back(place);
  count_work(4);
}

void Automaton::follow_places() {
  while (next_place_ < places_.size()) follow(Place(places_[next_place_++]));
}

void Automaton::follow(const Place& place) {
  if (place.node == kAcceptNode) is_accepted_ = true;
  if (!program_->edges(place.node).empty()) found_.push_back({place.node, place.frame});
  for (const Action& action : program_->actions(place.node)) {
    switch (action.kind) {
      case ActionKind::kEnd:
        // What has matched without a byte its caller knows already: the rule is nullable.
        if (place.is_fresh) break;
        for (const ReturnPoint& back : frames_.points(place.frame)) {
          reach({back.node, back.count, back.frame, /*is_fresh=*/false});
        }
        break;
      case ActionKind::kJump:
        reach({action.next, 0, place.frame, place.is_fresh});
        break;
      case ActionKind::kCall:
        call(action.rule, {action.next, 0, place.frame});
        if (!program_->rule(action.rule).nullable) break;
        reach({action.next, 0, place.frame, place.is_fresh});
        break;
      case ActionKind::kRepeat:
        if (place.count >= action.min) reach({action.next, 0, place.frame, place.is_fresh});
        // After the last match there is nothing to come back for.
        if (action.max != kUnbounded && place.count + 1 == action.max) {
          call(action.rule, {action.next, 0, place.frame});
        } else if (place.count < action.max) {
          const uint32_t count = FrameTable::next_count(action, place.count);
          call(action.rule, {place.node, count, place.frame});
        }
        break;
    }
  }
}

/// Collects where a rule is to return to: from all callers at once, since they share what it reads.
void Automaton::call(uint32_t rule, const ReturnPoint& back) {
  const uint32_t rank = program_->rule(rule).rank;
  std::vector<ReturnPoint>& points = calls_[rank];
  const bool is_first = points.empty();
  if (program_->is_end(back.node)) {
    // In last place: straight to where the caller returns to. Lists written as right recursion
    // need no stack so.
    const auto beyond = frames_.points(back.frame);
    count_work(beyond.size());
    points.insert(points.end(), beyond.begin(), beyond.end());
  } else {
    const bool is_outermost = back.node == kAcceptNode;
    if (!is_outermost && frames_.depth(back.frame) >= limits_.max_depth) return;
    points.push_back(back);
    count_work(1);
  }
  if (!is_first || points.empty()) return;
  called_ranks_.push_back(rank);
  std::push_heap(called_ranks_.begin(), called_ranks_.end(), std::greater<>());
}

/// In order of rank: all calls of a rule are known before it is entered.
void Automaton::enter_called_rules() {
  while (!called_ranks_.empty()) {
    const uint32_t rank = called_ranks_.front();
    const FrameId frame = frames_.intern(calls_[rank]);
    calls_[rank].clear();
    std::pop_heap(called_ranks_.begin(), called_ranks_.end(), std::greater<>());
    called_ranks_.pop_back();
    const ProgramRule& rule = program_->rule(program_->rule_of_rank(rank));
    reach({rule.entry, 0, frame, /*is_fresh=*/true});
    follow_places();
  }
}

// ---- states ----

StateId Automaton::intern(std::vector<Item>& items, bool accepting) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  uint64_t hash = accepting ? 1 : 0;
  for (const Item& item : items) hash = mix_hash(hash, (uint64_t{item.node} << 32) | item.frame);
  const StateId known = table_.find(hash, [&](uint32_t state) {
    return states_[state].accepting == accepting && std::ranges::equal(this->items(state), items);
  });
  if (known != InternTable::kNone) return known;
  count_work(num_classes_ / 8 + items.size());
  if (size_bytes() > limits_.max_bytes) refuse_too_complex("memory");
  const auto id = static_cast<StateId>(states_.size());
  const auto first = static_cast<uint32_t>(items_.size());
  steps_.resize((states_.size() + 1) * num_classes_, kUnknown);
  items_.insert(items_.end(), items.begin(), items.end());
  states_.push_back({first, static_cast<uint32_t>(items.size()), kUnknown, accepting});
  table_.insert(hash, id);
  return id;
}

StateId Automaton::canonical(StateId state) {
  if (states_[state].canonical != kUnknown) return states_[state].canonical;
  std::vector<Item> alike(items(state).begin(), items(state).end());
  for (Item& item : alike) item.frame = frames_.canonical(item.frame);
  const StateId canonical = intern(alike, states_[state].accepting);
  states_[canonical].canonical = canonical;
  return states_[state].canonical = canonical;
}

/// Frames refer to earlier ones only: one pass backwards finds those in use, one forwards moves
/// them.
void Automaton::collect(std::span<StateId* const> live) {
  std::vector<bool> in_use(frames_.size());
  for (const StateId* state : live) {
    for (const Item& item : items(*state)) in_use[item.frame] = true;
  }
  for (size_t frame = frames_.size(); frame-- > 0;) {
    if (!in_use[frame]) continue;
    for (const ReturnPoint& point : frames_.points(static_cast<FrameId>(frame))) {
      if (point.node != kAcceptNode) in_use[point.frame] = true;
    }
  }
  FrameTable frames(program_.get(), horizon_);
  std::vector<FrameId> moved(frames_.size());
  for (size_t frame = 0; frame < frames_.size(); ++frame) {
    if (!in_use[frame]) continue;
    const auto old = frames_.points(static_cast<FrameId>(frame));
    std::vector<ReturnPoint> points(old.begin(), old.end());
    for (ReturnPoint& point : points) {
      if (point.node != kAcceptNode) point.frame = moved[point.frame];
    }
    moved[frame] = frames.intern(points);
  }

  Automaton fresh(program_, horizon_, limits_);
  fresh.frames_ = std::move(frames);
  std::vector<StateId> renumbered;
  for (const StateId* state : live) {
    std::vector<Item> kept(items(*state).begin(), items(*state).end());
    for (Item& item : kept) item.frame = moved[item.frame];
    renumbered.push_back(fresh.intern(kept, states_[*state].accepting));
  }
  for (size_t i = 0; i < live.size(); ++i) *live[i] = renumbered[i];
  frames_ = std::move(fresh.frames_);
  items_ = std::move(fresh.items_);
  states_ = std::move(fresh.states_);
  steps_ = std::move(fresh.steps_);
  table_ = std::move(fresh.table_);
  start_ = kUnknown;
  collect_above_ = std::max(limits_.keep_bytes, 2 * size_bytes());
}

size_t Automaton::size_bytes() const {
  return frames_.size_bytes() + items_.size() * sizeof(Item) + states_.size() * sizeof(State) +
         steps_.size() * sizeof(StateId) + table_.size_bytes();
}

}  // namespace qvl
