#pragma once

// A scheduler whose steps are compared as text.

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "engine/scheduler.h"

namespace qvl::test {

/// Sequences a, b, c, ... over a scheduler with blocks of 4 tokens. Steps are compared as text:
/// "a d9" is a's token 9 decoded, "a d9+2" the same with two guesses behind it, "b p0+6" six prompt
/// tokens of b from token 0 on, a "!" behind it means that the item ends with a sampled token, "-c"
/// that c is preempted, "a v" that a's vision goes on.
class Harness {
 public:
  Harness(int64_t num_blocks, SchedulerOptions options)
      : pool(num_blocks), prefixes(&pool), scheduler(options, &pool, &prefixes) {}

  Sequence* add(int64_t prompt, int64_t max_answer = 100, bool needs_vision = false,
                int32_t priority = 0) {
    auto sequence = std::make_unique<TextSequence>();
    sequence->priority = priority;
    return add(std::move(sequence), prompt, max_answer, needs_vision);
  }
  Sequence* add_at(int32_t priority, int64_t prompt, int64_t max_answer = 100) {
    return add(prompt, max_answer, false, priority);
  }

  /// A sequence that uses the prefix cache; its tokens are the letters of `text`, and `answer` is
  /// what it will say.
  Sequence* add_text(const std::string& text, const std::string& answer = "") {
    auto sequence = std::make_unique<TextSequence>();
    for (const char letter : text + answer) sequence->tokens.push_back(letter);
    sequence->uses_cache = true;
    return add(std::move(sequence), static_cast<int64_t>(text.size()), 100, false);
  }

  std::string plan() {
    last_ = scheduler.plan();
    return describe(last_);
  }

  /// Plans a step, computes it and samples; returns the plan. Of each sequence's guesses, the first
  /// `num_right` come true.
  std::string step(int64_t num_right = 0) {
    const std::string text = plan();
    for (const StepItem& item : last_.items) {
      if (!item.is_decode) {
        scheduler.finish_item(item);
        if (item.wants_logits) scheduler.append_token(item.sequence);
      }
      for (int64_t row = 0; item.is_decode && row <= std::min(num_right, item.num_draft()); ++row) {
        scheduler.finish_item(item.row(row));
        scheduler.append_token(item.sequence);
      }
    }
    return text;
  }

  /// Computes a step in which something must go on, and ends the sequences that are at their
  /// longest, taking them out of `open`.
  void compute(const StepPlan& plan, std::vector<Sequence*>& open) {
    CHECK(!plan.items.empty() || plan.vision != nullptr);
    if (plan.vision != nullptr) finish_vision(plan.vision);
    for (const StepItem& item : plan.items) {
      scheduler.finish_item(item);
      if (!item.wants_logits) continue;
      scheduler.append_token(item.sequence);
      if (item.sequence->num_tokens <= item.sequence->max_cached) continue;
      scheduler.remove(item.sequence);
      std::erase(open, item.sequence);
    }
  }

  void finish_vision(Sequence* sequence) {
    sequence->vision_end = 0;
    scheduler.finish_vision(sequence);
  }

  BlockPool pool;
  PrefixCache prefixes;
  Scheduler scheduler;

 private:
  struct TextSequence : Sequence {
    BlockContent block_content(int64_t index) const override {
      const std::span<const int32_t> all = tokens;
      return {all.subspan(static_cast<size_t>(4 * index), 4), {}};
    }
    std::vector<int32_t> tokens;
  };

  Sequence* add(std::unique_ptr<TextSequence> owned, int64_t prompt, int64_t max_answer,
                bool needs_vision) {
    sequences_.push_back(std::move(owned));
    Sequence* sequence = sequences_.back().get();
    sequence->id = sequences_.size();
    sequence->num_tokens = prompt;
    sequence->max_cached = prompt + max_answer - 1;
    sequence->vision_end = needs_vision ? prompt : 0;
    scheduler.add(sequence);
    return sequence;
  }

  static std::string name(const Sequence* sequence) {
    return {static_cast<char>('a' + sequence->id - 1)};
  }
  static std::string describe(const StepPlan& plan) {
    std::ostringstream text;
    const char* separator = "";
    const auto part = [&]() -> std::ostringstream& {
      text << std::exchange(separator, ", ");
      return text;
    };
    for (const Sequence* sequence : plan.preempted) part() << "-" << name(sequence);
    for (const StepItem& item : plan.items) {
      part() << name(item.sequence) << (item.is_decode ? " d" : " p") << item.first_token;
      if (!item.is_decode) text << "+" << item.count;
      if (item.num_draft() > 0) text << "+" << item.num_draft();
      if (item.wants_logits) text << "!";
    }
    if (plan.vision != nullptr) part() << name(plan.vision) << " v";
    return text.str();
  }

  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepPlan last_;
};

inline SchedulerOptions options_of(int64_t max_sequences, int64_t prefill_chunk,
                                   int64_t max_step_tokens) {
  return {max_sequences, prefill_chunk, max_step_tokens, 4};
}

inline void check_steps(Harness& harness, const std::vector<std::string>& expected) {
  for (const std::string& step : expected) CHECK_EQ(harness.step(), step);
}

}  // namespace qvl::test
