#include "engine/scheduler.h"

#include <algorithm>

namespace qvl {

Scheduler::Scheduler(const SchedulerOptions& options, BlockPool* pool)
    : options_(options), pool_(pool) {
  // Every running sequence must find room for a token in a step.
  options_.max_sequences = std::min(options_.max_sequences, options_.max_step_tokens);
}

bool Scheduler::can_ever_fit(int64_t max_cached) const {
  return blocks_for(max_cached) <= pool_->num_total();
}

void Scheduler::add(Sequence* sequence) {
  sequence->phase = SequencePhase::kWaiting;
  waiting_.push_back(sequence);
}

StepPlan Scheduler::plan() {
  StepPlan plan;
  plan_decodes(plan);
  admit();
  plan_prefills(plan);
  const auto vision = std::find_if(running_.begin(), running_.end(), [](const Sequence* sequence) {
    return sequence->phase == SequencePhase::kVision;
  });
  if (vision != running_.end()) plan.vision = *vision;
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
    if (blocks_for(sequence->num_tokens) + reserve > pool_->num_free()) return;
    grow_to(sequence, sequence->num_tokens);
    sequence->phase = sequence->needs_vision ? SequencePhase::kVision : SequencePhase::kPrefill;
    running_.push_back(sequence);
    waiting_.pop_front();
  }
}

void Scheduler::plan_prefills(StepPlan& plan) const {
  const int64_t decodes = static_cast<int64_t>(plan.items.size());
  int64_t budget = std::min(options_.prefill_chunk, options_.max_step_tokens - decodes);
  for (Sequence* sequence : running_) {
    if (budget <= 0) return;
    if (sequence->phase != SequencePhase::kPrefill) continue;
    const int64_t left = sequence->num_tokens - sequence->num_cached;
    const int64_t count = std::min(left, budget);
    plan.items.push_back({sequence, sequence->num_cached, count, false, count == left});
    budget -= count;
  }
}

void Scheduler::finish_vision(Sequence* sequence) {
  sequence->needs_vision = false;
  sequence->phase = SequencePhase::kPrefill;
}

void Scheduler::finish_item(const StepItem& item) {
  Sequence* sequence = item.sequence;
  sequence->num_cached = item.first_token + item.count;
  if (sequence->num_cached == sequence->num_tokens) sequence->phase = SequencePhase::kDecode;
}

void Scheduler::append_token(Sequence* sequence) { ++sequence->num_tokens; }

void Scheduler::remove(Sequence* sequence) {
  std::erase(running_, sequence);
  std::erase(waiting_, sequence);
  free_blocks(sequence);
  sequence->phase = SequencePhase::kFinished;
}

bool Scheduler::may_be_preempted(const Sequence* sequence) const {
  int64_t blocks = 0;
  for (const Sequence* other : running_) {
    blocks += blocks_for(other->max_cached);
    if (other == sequence) return blocks > pool_->num_total();
  }
  return true;
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

void Scheduler::free_blocks(Sequence* sequence) {
  for (const int32_t block : sequence->blocks) pool_->release(block);
  sequence->blocks.clear();
  sequence->num_cached = 0;
}

void Scheduler::preempt_last(StepPlan& plan) {
  Sequence* sequence = running_.back();
  running_.pop_back();
  free_blocks(sequence);
  sequence->phase = SequencePhase::kWaiting;
  waiting_.push_front(sequence);
  plan.preempted.push_back(sequence);
}

}  // namespace qvl
