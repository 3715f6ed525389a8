// What the engine's own thread does, turn after turn.

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "engine/engine_impl.h"

namespace qvl {
namespace {

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// The exception in flight as an Error: listeners get no other type.
std::exception_ptr current_error() {
  try {
    throw;
  } catch (const Error&) {
    return std::current_exception();
  } catch (const std::bad_alloc&) {
    return std::make_exception_ptr(
        Error("ERR_OUT_OF_MEMORY",
              "the system gave no memory for this step: run fewer or smaller requests at once"));
  } catch (const std::exception& error) {
    return std::make_exception_ptr(
        Error("ERR_INTERNAL", std::string("unexpected: ") + error.what() + "; please report this"));
  } catch (...) {
    return std::make_exception_ptr(Error(
        "ERR_INTERNAL", "an operation stopped although nobody asked it to; please report this"));
  }
}

Generation& generation_of(const StepItem& item) { return *static_cast<Generation*>(item.sequence); }

/// A decoding sequence's last known token and the guesses behind it, with the position that each
/// has or will have on all three axes.
struct DraftRows {
  std::vector<int32_t> tokens, positions;

  explicit DraftRows(const StepItem& item) {
    if (item.num_draft() == 0) return;
    const Generation& generation = generation_of(item);
    const auto draft = generation.draft.first(static_cast<size_t>(item.num_draft()));
    tokens.push_back(generation.tokens.back());
    tokens.insert(tokens.end(), draft.begin(), draft.end());
    for (int64_t row = 0; row < item.count; ++row) {
      positions.push_back(static_cast<int32_t>(item.first_token + row) +
                          generation.positions.delta);
    }
  }
};

/// Whether what is told of a token needs more than its id.
bool wants_logits(const GenerationRequest& request) {
  return request.log_probabilities || request.top_logits > 0;
}

/// How the tokens of a step are chosen, one for each row of logits in the order of the items.
std::vector<TokenChoice> choices(std::span<const StepItem> items) {
  std::vector<TokenChoice> all;
  for (const StepItem& item : items) {
    if (!item.wants_logits) continue;
    Generation& generation = generation_of(item);
    for (int64_t row = 0; row <= item.num_draft(); ++row) {
      // What a grammar allows behind a guess is known when the guess has come true.
      const bool is_known = row == 0 || !generation.constraint;
      TokenChoice& choice = all.emplace_back();
      if (wants_logits(generation.request) || !is_known) continue;
      try {
        if (generation.constraint) choice.mask = generation.constraint->mask();
      } catch (...) {
        continue;  // it is met again where the token is taken, and ends this request alone
      }
      choice.options = &generation.request.sampling;
      choice.history = generation.tokens;
      choice.guesses = generation.draft.first(static_cast<size_t>(row));
      choice.num_prompt = generation.num_prompt;
    }
  }
  return all;
}

}  // namespace

void Engine::Impl::run() {
  for (;;) {
    try {
      if (!take_messages()) break;
      turn();
    } catch (...) {
      fail_all(current_error());
    }
  }
  fail_all(std::make_exception_ptr(disposed_error()));
  prefixes_.clear();
  embeddings_.close();
  publish_metrics();
  model_.reset();
  const std::lock_guard lock(mutex_);
  has_ended_ = true;
  cleared_.notify_all();
}

/// Waits while there is nothing to do. False when the engine is to end.
bool Engine::Impl::take_messages() {
  std::vector<Generation*> arrived;
  std::vector<Generation*> cancelled;
  uint64_t clears = 0;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] {
      return shutdown_ || cancels_pending_ || clears_asked_ != clears_done_ || !inbox_.empty() ||
             !scheduler_.idle();
    });
    if (shutdown_) return false;
    clears = clears_asked_;
    arrived.swap(inbox_);
    if (std::exchange(cancels_pending_, false)) {
      for (const auto& [id, generation] : live_) {
        if (generation->cancelled) cancelled.push_back(generation.get());
      }
    }
  }
  for (Generation* generation : arrived) scheduler_.add(generation);
  for (Generation* generation : cancelled) finish(*generation, FinishReason::kCancelled);
  if (clears != clears_done_) {
    std::exception_ptr error;
    try {
      forget_cached();
    } catch (...) {
      error = current_error();
    }
    const std::lock_guard lock(mutex_);
    clears_done_ = clears;
    clear_error_ = error;
    cleared_.notify_all();
  }
  return true;
}

void Engine::Impl::forget_cached() {
  prefixes_.clear();
  embeddings_.clear();
  if (scheduler_.idle()) model_->trim_kv_cache();
  model_->release_unused();
  publish_metrics();
}

void Engine::Impl::turn() {
  const StepPlan plan = scheduler_.plan();
  counters_.preemptions += static_cast<int64_t>(plan.preempted.size());
  publish_metrics();
  // One piece beside one step: sequences that decode wait for a piece, not for an image.
  if (plan.vision != nullptr) advance_vision(*static_cast<Generation*>(plan.vision));
  if (!plan.items.empty() && !shutdown_) run_step(plan.items);
}

void Engine::Impl::advance_vision(Generation& generation) {
  note_start(generation);
  const Clock::time_point begin = Clock::now();
  try {
    if (generation.advance_vision(*model_, embeddings_)) scheduler_.finish_vision(&generation);
  } catch (...) {
    fail(generation, current_error());
    return;
  }
  generation.stats.vision_ms += milliseconds(Clock::now() - begin);
}

/// A step that fails is run again with each sequence alone and without drafts, so that an error
/// ends only the sequence that causes it, and only where it would without drafts.
void Engine::Impl::run_step(std::span<const StepItem> items) {
  std::exception_ptr error;
  if (forward(items, &error)) return;
  if (error == nullptr) return;  // stopped
  if (items.size() == 1 && items[0].num_draft() == 0) {
    return fail(generation_of(items[0]), error);
  }
  for (const StepItem& item : items) {
    const StepItem alone = item.is_decode ? item.row(0) : item;
    const std::span<const StepItem> step(&alone, 1);
    if (should_stop(step)) continue;
    std::exception_ptr own_error;
    if (!forward(step, &own_error) && own_error) fail(generation_of(alone), own_error);
  }
}

/// Runs the items and takes their tokens. False with an error, or without one when it was stopped.
bool Engine::Impl::forward(std::span<const StepItem> items, std::exception_ptr* error) {
  std::vector<std::vector<VisionSpan>> spans(items.size());
  std::vector<StepSequence> sequences;
  std::vector<DraftRows> drafts(items.begin(), items.end());
  for (size_t i = 0; i < items.size(); ++i) {
    Generation& generation = generation_of(items[i]);
    note_start(generation);
    if (items[i].num_draft() > 0) {
      const std::span<const int32_t> positions = drafts[i].positions;
      sequences.push_back({drafts[i].tokens,
                           positions,
                           positions,
                           positions,
                           items[i].first_token,
                           generation.blocks,
                           {},
                           LogitsWanted::kAll});
      continue;
    }
    const size_t first = static_cast<size_t>(items[i].first_token);
    const size_t count = static_cast<size_t>(items[i].count);
    spans[i] = generation.vision_spans(items[i].first_token, items[i].count);
    const auto part = [&](const std::vector<int32_t>& values) {
      return std::span<const int32_t>(values).subspan(first, count);
    };
    sequences.push_back({part(generation.tokens), part(generation.positions.t),
                         part(generation.positions.h), part(generation.positions.w),
                         items[i].first_token, generation.blocks, spans[i],
                         items[i].wants_logits ? LogitsWanted::kLast : LogitsWanted::kNone});
  }
  const Clock::time_point begin = Clock::now();
  std::span<const NextToken> next;
  begin_masks(items);
  try {
    model_->forward(sequences, [&] { return should_stop(items); });
    mask_thread_.wait();
    next = model_->sample(choices(items));
  } catch (const Cancelled&) {
    mask_thread_.wait();
    if (!should_stop(items)) *error = current_error();
    return false;
  } catch (...) {
    mask_thread_.wait();
    *error = current_error();
    return false;
  }
  ++counters_.steps;
  note_prefill(items, Clock::now() - begin);
  take_results(items, next);
  return true;
}

/// What the answers so far allow is known before their logits are: it is worked out meanwhile.
void Engine::Impl::begin_masks(std::span<const StepItem> items) {
  std::vector<Constraint*> constraints;
  for (const StepItem& item : items) {
    std::optional<Constraint>& constraint = generation_of(item).constraint;
    if (item.wants_logits && constraint) constraints.push_back(&*constraint);
  }
  if (constraints.empty()) return;
  mask_thread_.start([constraints = std::move(constraints)] {
    for (Constraint* constraint : constraints) constraint->prepare();
  });
}

bool Engine::Impl::should_stop(std::span<const StepItem> items) const {
  return shutdown_ || std::all_of(items.begin(), items.end(), [](const StepItem& item) {
           return generation_of(item).cancelled.load();
         });
}

void Engine::Impl::take_results(std::span<const StepItem> items, std::span<const NextToken> next) {
  bool prompt_ended = false;
  for (const StepItem& item : items) {
    Generation& generation = generation_of(item);
    prompt_ended |= item.wants_logits && generation.num_answer() == 0;
    const size_t rows = item.wants_logits ? static_cast<size_t>(item.num_draft() + 1) : 0;
    if (take_rows(item, next.first(rows))) generation.guess_draft();
    next = next.subspan(rows);
  }
  if (prompt_ended) free_embeddings();
}

/// Takes the token of each row as if it were a step of its own, up to the first that is not what
/// was guessed: what follows that was computed for nothing, and will be overwritten. True when a
/// token was taken and the generation goes on.
bool Engine::Impl::take_rows(const StepItem& item, std::span<const NextToken> next) {
  Generation& generation = generation_of(item);
  if (item.num_draft() == 0) {
    generation.note_computed(item.first_token, item.count);
    scheduler_.finish_item(item);
    return item.wants_logits && take_token(generation, next[0]);
  }
  generation.stats.draft_tokens += item.num_draft();
  counters_.draft_tokens += item.num_draft();
  for (size_t row = 0;; ++row) {
    const StepItem token = item.row(static_cast<int64_t>(row));
    const bool is_last = row == static_cast<size_t>(item.num_draft());
    const int32_t guess = is_last ? 0 : generation.draft[row];
    generation.note_computed(token.first_token, 1);
    scheduler_.finish_item(token);
    if (!take_token(generation, next[row])) return false;
    if (is_last || generation.tokens.back() != guess) return true;
    ++generation.stats.accepted_draft_tokens;
    ++counters_.accepted_draft_tokens;
  }
}

/// The token that the backend chose, or else the sampler.
int32_t Engine::Impl::choose(Generation& generation, const NextToken& next) {
  if (next.id != kNotChosen) return next.id;
  std::span<const uint64_t> mask;
  if (generation.constraint) mask = generation.constraint->mask();
  return sampler_.sample(next.logits, generation.tokens, generation.num_prompt,
                         generation.request.sampling, mask);
}

/// Emits a row's token. True when the generation goes on behind it.
bool Engine::Impl::take_token(Generation& generation, const NextToken& next) {
  if (generation.cancelled) return false;  // the next take_messages() ends it
  TokenOutput output;
  try {
    output.id = choose(generation, next);
    if (wants_logits(generation.request)) {
      output.logit = next.logits[static_cast<size_t>(output.id)];
    }
    if (generation.request.log_probabilities) output.log_sum_exp = log_sum_exp(next.logits);
    output.top_logits = top_logits(next.logits, generation.request.top_logits);
    if (generation.constraint) generation.constraint->accept(output.id);
    generation.append(output.id);
  } catch (...) {
    fail(generation, current_error());
    return false;
  }
  scheduler_.append_token(&generation);
  ++counters_.generated_tokens;
  const Clock::time_point now = Clock::now();
  if (generation.stats.completion_tokens == 1) {
    counters_.prompt_tokens += generation.num_prompt;
    counters_.cached_prompt_tokens += generation.stats.cached_tokens;
    generation.first_token_at = now;
    generation.stats.first_token_ms = milliseconds(now - generation.submitted_at);
  }
  generation.stats.decode_ms = milliseconds(now - generation.first_token_at);

  notify(generation, [&](GenerationListener& listener) { listener.on_token(output); });
  const bool is_stop = generation.is_stop(output.id) ||
                       (generation.constraint && generation.constraint->is_complete());
  if (!is_stop && generation.num_answer() < generation.max_answer) return true;
  finish(generation, is_stop ? FinishReason::kStop : FinishReason::kLength);
  return false;
}

void Engine::Impl::note_start(Generation& generation) {
  if (std::exchange(generation.started, true)) return;
  generation.stats.queue_ms = milliseconds(Clock::now() - generation.submitted_at);
}

void Engine::Impl::note_prefill(std::span<const StepItem> items, Clock::duration duration) {
  for (const StepItem& item : items) {
    Generation& generation = generation_of(item);
    if (generation.num_answer() == 0) generation.stats.prefill_ms += milliseconds(duration);
  }
}

/// Visual tokens are needed until the prompt is in the cache, and again after a preemption. They
/// are kept while one is possible: they are small beside the KV of the same tokens (C floats
/// against L * 2 * G * D values), and encoding again would take seconds.
void Engine::Impl::free_embeddings() {
  for (Sequence* sequence : scheduler_.running()) {
    auto& generation = *static_cast<Generation*>(sequence);
    if (generation.embeddings.empty() || generation.phase != SequencePhase::kDecode) continue;
    if (!scheduler_.may_be_preempted(sequence)) generation.embeddings.clear();
  }
}

// ---- events ----

template <class Event>
void Engine::Impl::notify(Generation& generation, const Event& event) {
  try {
    event(*generation.listener);
  } catch (...) {
    // Against its contract; the engine must live on, so it is not told anything more than the end.
    const std::lock_guard lock(mutex_);
    generation.cancelled = cancels_pending_ = true;
  }
}

/// Gives back all that the generation holds, then tells its listener, so that a listener who looks
/// finds the memory free.
template <class Event>
void Engine::Impl::end(Generation& generation, const Event& last_event) {
  scheduler_.remove(&generation);
  generation.encoding.reset();
  generation.embeddings.clear();
  decltype(live_)::node_type owner;  // destroyed last and without the lock: listeners may call us
  bool is_last = false;
  {
    const std::lock_guard lock(mutex_);
    owner = live_.extract(generation.id);
    is_last = live_.empty();
  }
  // Blocks that are kept for later requests hold their memory; without any, all goes back.
  if (is_last && pool_.num_cached() == 0) model_->trim_kv_cache();
  publish_metrics();
  notify(generation, last_event);
}

void Engine::Impl::finish(Generation& generation, FinishReason reason) {
  end(generation,
      [&](GenerationListener& listener) { listener.on_finish(reason, generation.stats); });
}

void Engine::Impl::fail(Generation& generation, const std::exception_ptr& error) {
  end(generation, [&](GenerationListener& listener) { listener.on_error(error); });
}

/// Ends all that were submitted before now, oldest first. Allocates nothing.
void Engine::Impl::fail_all(const std::exception_ptr& error) {
  uint64_t end_id = 0;
  {
    const std::lock_guard lock(mutex_);
    inbox_.clear();
    end_id = next_id_;
  }
  for (uint64_t id = 0; id < end_id;) {
    Generation* oldest = nullptr;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [live_id, generation] : live_) {
        if (live_id >= id && live_id < end_id && (oldest == nullptr || live_id < oldest->id)) {
          oldest = generation.get();
        }
      }
    }
    if (oldest == nullptr) return;
    id = oldest->id + 1;
    fail(*oldest, error);
  }
}

void Engine::Impl::publish_metrics() {
  const std::lock_guard lock(mutex_);
  metrics_ = counters_;
  metrics_.running = scheduler_.num_running();
  metrics_.waiting = scheduler_.num_waiting();
  metrics_.kv_blocks_used = pool_.num_used();
  metrics_.kv_blocks_cached = pool_.num_cached();
  metrics_.kv_blocks_total = pool_.num_total();
}

}  // namespace qvl
