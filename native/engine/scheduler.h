#pragma once

// Which tokens of which sequences the next step computes. Pure bookkeeping: no tensors, no threads,
// no clock, so that every decision can be tested as a table.
//
// - Higher priorities first; first come, first served within one. The running sequences and the
//   waiting ones are both in this order, and of one priority every running one arrived before every
//   waiting one.
// - A step takes one token of every decoding sequence, then prompt chunks in order. Sequences have
//   their visual items encoded in order too, but one whose turn has begun keeps it.
// - A sequence is admitted when the pool can hold all its known tokens and still has one block to
//   grow for every running sequence; it then owns the blocks of all its known tokens. Nobody passes
//   a waiting sequence that does not fit yet, and nobody is preempted for it.
// - Full blocks are found again by content: those that a sequence begins with and that are in the
//   prefix cache are not computed again. Its last known token always is, for its logits.
// - When a decoding sequence finds no block, the last of the running ones (of the lowest priority,
//   the most recently admitted) gives up its own and goes back to the front of its priority's
//   queue; what is by then no longer in the prefix cache is computed again. So the first, the
//   oldest of the highest priority, always goes on, and because each fits alone, every one ends
//   unless higher priorities keep coming.
// - Guessed tokens are verified with what is left over: rows of a step that few rows leave cheap,
//   and blocks that nobody needs now. They are shared out evenly; nobody gives up anything for
//   them, and blocks that they did not turn into tokens are free again before the next step.

#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"

namespace qvl {

struct SchedulerOptions {
  int64_t max_sequences = 64;
  int64_t prefill_chunk = 256;    // prompt tokens of a step, over all sequences
  int64_t max_step_tokens = 512;  // tokens of a step; at least max_sequences
  int64_t block_tokens = 32;
  /// Drafts join a step while its decoding rows, theirs included, are at most so many: up to there
  /// a further row costs little beside the one pass over the weights.
  int64_t max_draft_rows = 8;
  /// The most tokens that any sequence can ever have in the KV cache; the pool bounds it too.
  int64_t max_cached = std::numeric_limits<int32_t>::max();
};

/// Tokens [first_token, first_token + count) of one sequence. Of a decoding one: its last known
/// token and, behind it, guesses; each row of logits decides whether the next is looked at.
struct StepItem {
  int64_t num_draft() const { return is_decode ? count - 1 : 0; }
  /// Row `index` of a decoding sequence by itself.
  StepItem row(int64_t index) const {
    return {sequence, first_token + index, 1, is_decode, wants_logits};
  }

  Sequence* sequence = nullptr;
  int64_t first_token = 0;
  int64_t count = 0;
  bool is_decode = false;
  bool wants_logits = false;  // it has the sequence's last known token; of what follows, too
};

struct StepPlan {
  std::vector<StepItem> items;
  Sequence* vision = nullptr;  // whose visual items are encoded next; runs beside the step
  std::vector<Sequence*> preempted;
};

class Scheduler {
 public:
  /// `pool` and `prefixes`, which indexes it, must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, BlockPool* pool, PrefixCache* prefixes);

  /// True when the pool, all of it, can hold the sequence at its longest.
  bool can_ever_fit(int64_t max_cached) const;
  /// Queues a sequence that can_ever_fit(). It must outlive its time here (until remove()).
  void add(Sequence* sequence);
  /// Decides the next step; preempts, admits and gives blocks. Calling it again without having
  /// computed anything plans the same step.
  StepPlan plan();
  /// The visual items that the sequence needs are encoded.
  void finish_vision(Sequence* sequence);
  /// The item's keys and values are in the cache. Of an item with guesses: row by row, and only
  /// those whose tokens are known by then.
  void finish_item(const StepItem& item);
  /// A token was sampled behind the last known one.
  void append_token(Sequence* sequence);
  /// Takes a sequence out, whatever its phase, and frees its blocks.
  void remove(Sequence* sequence);

  /// False when the pool is large enough for the running sequence and as many others as may run
  /// beside it, all at their longest: it will then never have to be computed again. Who runs now
  /// does not matter, for any of them may give its place to one of a higher priority.
  bool may_be_preempted(const Sequence* sequence) const;

  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  bool idle() const { return running_.empty() && waiting_.empty(); }
  const std::vector<Sequence*>& running() const { return running_; }

 private:
  int64_t blocks_for(int64_t tokens) const;
  bool grow_to(Sequence* sequence, int64_t tokens);
  void free_blocks(Sequence* sequence);
  void preempt_last(StepPlan& plan);
  void plan_decodes(StepPlan& plan);
  void admit();
  void plan_vision(StepPlan& plan);
  void plan_prefills(StepPlan& plan);
  void plan_drafts(StepPlan& plan);
  void take_back_draft_blocks();
  std::vector<int32_t> find_known_blocks(const Sequence& sequence) const;
  int32_t find_block(const Sequence& sequence, size_t index) const;
  void catch_up(Sequence* sequence);
  void index_full_blocks(Sequence* sequence, int64_t first_token);
  void replace_block(Sequence* sequence, size_t index, int32_t block);

  SchedulerOptions options_;
  BlockPool* pool_;
  PrefixCache* prefixes_;
  std::vector<Sequence*> running_;  // by priority, then in order of arrival
  std::deque<Sequence*> waiting_;   // likewise; of one priority, all later than running_
  Sequence* encoding_ = nullptr;    // running, in kVision: whose encoding has begun
};

}  // namespace qvl
