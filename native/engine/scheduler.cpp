#include "engine/scheduler.h"

#include <algorithm>

namespace qvl {
namespace {

/// Where sequences of lower priorities begin.
template <class Sequences>
auto behind_priority(Sequences& ordered, int32_t priority) {
  return std::find_if(ordered.begin(), ordered.end(),
                      [&](const Sequence* sequence) { return sequence->priority < priority; });
}

/// Where sequences of the priority begin, or would.
template <class Sequences>
auto front_of_priority(Sequences& ordered, int32_t priority) {
  return std::find_if(ordered.begin(), ordered.end(),
                      [&](const Sequence* sequence) { return sequence->priority <= priority; });
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, BlockPool* pool, PrefixCache* prefixes)
    : options_(options), pool_(pool), prefixes_(prefixes) {
  // Every running sequence must find room for a token in a step.
  options_.max_sequences = std::min(options_.max_sequences, options_.max_step_tokens);
}

bool Scheduler::can_ever_fit(int64_t max_cached) const {
  return blocks_for(max_cached) <= pool_->num_total();
}

void Scheduler::add(Sequence* sequence) {
  sequence->phase = SequencePhase::kWaiting;
  waiting_.insert(behind_priority(waiting_, sequence->priority), sequence);
}

StepPlan Scheduler::plan() {
  StepPlan plan;
  take_back_draft_blocks();
  plan_decodes(plan);
  admit();
  plan_prefills(plan);
  plan_drafts(plan);
  plan_vision(plan);
  return plan;
}

void Scheduler::plan_decodes(StepPlan& plan) {
  // The list shrinks from its end when sequences are preempted: what was planned stays planned.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->phase != SequencePhase::kDecode) continue;
    while (i < running_.size() && !grow_to(sequence, sequence->num_cached + 1)) preempt_last(plan);
    if (i == running_.size()) break;  // it was the last one itself
    plan.items.push_back({sequence, sequence->num_cached, 1, true, true});
  }
}

void Scheduler::admit() {
  while (!waiting_.empty() && num_running() < options_.max_sequences) {
    Sequence* sequence = waiting_.front();
    const int64_t reserve = num_running();
    const std::vector<int32_t> known = find_known_blocks(*sequence);
    // Those in use by others cost nothing.
    const int64_t shared = std::count_if(
        known.begin(), known.end(), [&](int32_t block) { return pool_->num_owners(block) > 0; });
    if (blocks_for(sequence->num_tokens) - shared + reserve > pool_->num_available()) return;
    for (const int32_t block : known) pool_->retain(block);
    sequence->blocks = known;
    sequence->num_cached = static_cast<int64_t>(known.size()) * options_.block_tokens;
    grow_to(sequence, sequence->num_tokens);
    const bool needs_vision = sequence->num_cached < sequence->vision_end;
    sequence->phase = needs_vision ? SequencePhase::kVision : SequencePhase::kPrefill;
    running_.insert(behind_priority(running_, sequence->priority), sequence);
    waiting_.pop_front();
  }
}

void Scheduler::plan_vision(StepPlan& plan) {
  if (encoding_ == nullptr) {
    const auto next = std::find_if(running_.begin(), running_.end(), [](const Sequence* sequence) {
      return sequence->phase == SequencePhase::kVision;
    });
    if (next != running_.end()) encoding_ = *next;
  }
  plan.vision = encoding_;
}

void Scheduler::plan_prefills(StepPlan& plan) {
  const int64_t decodes = static_cast<int64_t>(plan.items.size());
  int64_t budget = std::min(options_.prefill_chunk, options_.max_step_tokens - decodes);
  for (Sequence* sequence : running_) {
    if (budget <= 0) return;
    if (sequence->phase != SequencePhase::kPrefill) continue;
    catch_up(sequence);
    const int64_t left = sequence->num_tokens - sequence->num_cached;
    const int64_t count = std::min(left, budget);
    plan.items.push_back({sequence, sequence->num_cached, count, false, count == left});
    budget -= count;
  }
}

/// One guess for each in turn, since the first ones of a draft are the likeliest to come true.
void Scheduler::plan_drafts(StepPlan& plan) {
  int64_t decodes = 0, tokens = 0;
  for (const StepItem& item : plan.items) {
    decodes += item.is_decode ? 1 : 0;
    tokens += item.count;
  }
  int64_t budget = std::min(options_.max_draft_rows - decodes, options_.max_step_tokens - tokens);
  for (bool found = true; found;) {
    found = false;
    for (StepItem& item : plan.items) {
      if (!item.is_decode || item.num_draft() == item.sequence->num_draft) continue;
      if (budget <= 0) return;
      if (!grow_to(item.sequence, item.first_token + item.count + 1)) continue;
      ++item.count;
      --budget;
      found = true;
    }
  }
}

/// What guesses that did not come true leave behind.
void Scheduler::take_back_draft_blocks() {
  for (Sequence* sequence : running_) {
    if (sequence->phase != SequencePhase::kDecode) continue;
    const size_t needed = static_cast<size_t>(blocks_for(sequence->num_cached + 1));
    while (sequence->blocks.size() > needed) {
      pool_->release(sequence->blocks.back());
      sequence->blocks.pop_back();
    }
  }
}

void Scheduler::finish_vision(Sequence* sequence) {
  sequence->phase = SequencePhase::kPrefill;
  if (encoding_ == sequence) encoding_ = nullptr;
}

void Scheduler::finish_item(const StepItem& item) {
  Sequence* sequence = item.sequence;
  sequence->num_cached = item.first_token + item.count;
  if (sequence->num_cached == sequence->num_tokens) sequence->phase = SequencePhase::kDecode;
  index_full_blocks(sequence, item.first_token);
}

void Scheduler::append_token(Sequence* sequence) { ++sequence->num_tokens; }

void Scheduler::remove(Sequence* sequence) {
  std::erase(running_, sequence);
  std::erase(waiting_, sequence);
  if (encoding_ == sequence) encoding_ = nullptr;
  free_blocks(sequence);
  sequence->phase = SequencePhase::kFinished;
}

bool Scheduler::may_be_preempted(const Sequence* sequence) const {
  const int64_t largest = std::min(blocks_for(options_.max_cached), pool_->num_total());
  const int64_t others = (options_.max_sequences - 1) * largest;
  return blocks_for(sequence->max_cached) + others > pool_->num_total();
}

int64_t Scheduler::blocks_for(int64_t tokens) const {
  return (tokens + options_.block_tokens - 1) / options_.block_tokens;
}

/// Gives the sequence the blocks of `tokens` tokens; false when the pool runs out on the way.
bool Scheduler::grow_to(Sequence* sequence, int64_t tokens) {
  const size_t wanted = static_cast<size_t>(blocks_for(tokens));
  while (sequence->blocks.size() < wanted) {
    const int32_t block = pool_->allocate();
    if (block < 0) return false;
    sequence->blocks.push_back(block);
  }
  return true;
}

/// Last block first: of a chain in the prefix cache, the end is evicted before what leads to it.
void Scheduler::free_blocks(Sequence* sequence) {
  auto& blocks = sequence->blocks;
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) pool_->release(*block);
  blocks.clear();
  sequence->num_cached = 0;
}

/// The block with the content of the sequence's block `index`, behind those that it has.
int32_t Scheduler::find_block(const Sequence& sequence, size_t index) const {
  const int32_t parent = index == 0 ? PrefixCache::kNone : sequence.blocks[index - 1];
  return prefixes_->find(parent, sequence.block_content(static_cast<int64_t>(index)));
}

/// The longest chain of known blocks that the sequence begins with, its last token left out.
std::vector<int32_t> Scheduler::find_known_blocks(const Sequence& sequence) const {
  std::vector<int32_t> known;
  if (!sequence.uses_cache) return known;
  const int64_t limit = (sequence.num_tokens - 1) / options_.block_tokens;
  int32_t last = PrefixCache::kNone;
  for (int64_t index = 0; index < limit; ++index) {
    last = prefixes_->find(last, sequence.block_content(index));
    if (last == PrefixCache::kNone) break;
    known.push_back(last);
  }
  return known;
}

/// Takes over the next blocks of a prompt where others have computed them since it was admitted.
void Scheduler::catch_up(Sequence* sequence) {
  if (!sequence->uses_cache) return;
  while (sequence->num_cached % options_.block_tokens == 0 &&
         sequence->num_cached + options_.block_tokens < sequence->num_tokens) {
    const size_t index = static_cast<size_t>(sequence->num_cached / options_.block_tokens);
    const int32_t known = find_block(*sequence, index);
    if (known == PrefixCache::kNone) return;
    replace_block(sequence, index, known);
    sequence->num_cached += options_.block_tokens;
  }
}

/// Enters the blocks that are full since `first_token` was computed. One that another sequence has
/// entered meanwhile is used instead of its own, whose contents are the same: so whoever owns a
/// block owns the one that stands before it in the prefix cache.
void Scheduler::index_full_blocks(Sequence* sequence, int64_t first_token) {
  if (!sequence->uses_cache) return;
  const size_t end = static_cast<size_t>(sequence->num_cached / options_.block_tokens);
  for (size_t index = static_cast<size_t>(first_token / options_.block_tokens); index < end;
       ++index) {
    const int32_t known = find_block(*sequence, index);
    if (known != PrefixCache::kNone) {
      replace_block(sequence, index, known);
      continue;
    }
    const int32_t parent = index == 0 ? PrefixCache::kNone : sequence->blocks[index - 1];
    prefixes_->insert(parent, sequence->block_content(static_cast<int64_t>(index)),
                      sequence->blocks[index]);
  }
}

void Scheduler::replace_block(Sequence* sequence, size_t index, int32_t block) {
  if (sequence->blocks[index] == block) return;
  pool_->retain(block);
  pool_->release(sequence->blocks[index]);
  sequence->blocks[index] = block;
}

void Scheduler::preempt_last(StepPlan& plan) {
  Sequence* sequence = running_.back();
  running_.pop_back();
  free_blocks(sequence);
  sequence->phase = SequencePhase::kWaiting;
  if (encoding_ == sequence) encoding_ = nullptr;
  waiting_.insert(front_of_priority(waiting_, sequence->priority), sequence);
  plan.preempted.push_back(sequence);
}

}  // namespace qvl
