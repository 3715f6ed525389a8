#pragma once

// A model that computes nothing and forgets nothing: its KV cache stores what each token was (id or
// visual row, and its three positions) in blocks, and its logits are a hash of all that a
// sequence's block table leads to. A wrong position, block table, chunk border or visual row, or a
// block given to two sequences, gives another answer than reference_answer(), which has no cache at
// all.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "constraint/constraint.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "model/positions.h"

namespace qvl::test {

/// What a test sees of the model from outside; outlives it.
struct FakeModelLog {
  std::atomic<int> forwards{0}, stopped_forwards{0};
  std::atomic<int> trims{0}, releases{0};
  std::atomic<int> encodings_begun{0}, encodings_alive{0}, pieces{0};
  std::atomic<int> embeddings_alive{0}, embeddings_peak{0};
  std::atomic<size_t> largest_batch{0};
  std::atomic<bool> destroyed{false};
};

struct FakeModelOptions {
  int64_t num_blocks = 256;
  int64_t max_step_tokens = 128;
  int pieces_per_item = 3;
  /// Runs at the begin of every forward(); may throw or wait.
  std::function<void(std::span<const StepSequence>)> on_forward;
  /// Runs before every piece of a vision encode.
  std::function<void()> on_piece;
  /// Runs when what is unused is to go back to the system; may throw.
  std::function<void()> on_release;
  /// May spoil the logits of one sequence, [V].
  std::function<void(const StepSequence&, std::span<float>)> on_logits;
};

inline ModelConfig fake_config() {
  ModelConfig config;
  config.hidden_size = 1;
  config.num_heads = 1;
  config.vocab_size = 211;
  config.image_token_id = 3;
  config.video_token_id = 4;
  return config;
}

inline uint64_t mix(uint64_t hash, int64_t value) {
  hash = (hash ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

/// One token as the fake cache stores it.
struct FakeEntry {
  int64_t value = -1;  // token id, or kVisualValue + what the visual row holds; -1 = never written
  int32_t t = 0, h = 0, w = 0;
};
inline constexpr int64_t kVisualValue = 1'000'000;

/// What row `row` of an item's embedding holds.
inline float visual_row(const VisionItem& item, int64_t row) {
  return static_cast<float>(item.frames.front()->pixels.front()) * 1000.0f +
         static_cast<float>(row) + (item.is_video ? 500'000.0f : 0.0f);
}

inline void fill_logits(const std::vector<FakeEntry>& history, std::span<float> logits) {
  uint64_t hash = 1;
  for (const FakeEntry& entry : history) {
    hash = mix(mix(mix(mix(hash, entry.value), entry.t), entry.h), entry.w);
  }
  for (size_t id = 0; id < logits.size(); ++id) {
    const uint64_t bits = mix(mix(hash, static_cast<int64_t>(id)), 7) >> 40;  // 24 bits
    logits[id] = static_cast<float>(bits) * 0x1.0p-21f - 4.0f;                // [-4, 4)
  }
}

class FakeBuffer : public Buffer {
 public:
  FakeBuffer(std::vector<float> values, std::shared_ptr<FakeModelLog> log)
      : values_(std::move(values)), log_(std::move(log)) {
    const int alive = ++log_->embeddings_alive;
    if (alive > log_->embeddings_peak) log_->embeddings_peak = alive;
  }
  ~FakeBuffer() override { --log_->embeddings_alive; }
  void* data() const override { return const_cast<float*>(values_.data()); }
  size_t size_bytes() const override { return values_.size() * sizeof(float); }

 private:
  std::vector<float> values_;
  std::shared_ptr<FakeModelLog> log_;
};

class FakeEncoding : public VisionEncoding {
 public:
  FakeEncoding(VisionItem item, const FakeModelOptions& options, std::shared_ptr<FakeModelLog> log)
      : item_(std::move(item)), options_(options), log_(std::move(log)) {
    ++log_->encodings_begun;
    ++log_->encodings_alive;
  }
  ~FakeEncoding() override { --log_->encodings_alive; }

  bool advance() override {
    if (options_.on_piece) options_.on_piece();
    ++log_->pieces;
    return ++done_ == options_.pieces_per_item;
  }

  VisionEmbedding take_result() override {
    if (done_ != options_.pieces_per_item) throw std::logic_error("taken before the end");
    std::vector<float> rows;
    for (int64_t row = 0; row < item_.num_tokens(); ++row) rows.push_back(visual_row(item_, row));
    auto buffer = std::make_shared<FakeBuffer>(std::move(rows), log_);
    return {buffer, {buffer->data(), item_.num_tokens(), 1, 1, DType::kF32}};
  }

 private:
  VisionItem item_;
  const FakeModelOptions& options_;
  std::shared_ptr<FakeModelLog> log_;
  int done_ = 0;
};

class FakeModel : public Model {
 public:
  FakeModel(FakeModelOptions options, std::shared_ptr<FakeModelLog> log)
      : options_(std::move(options)),
        log_(std::move(log)),
        cache_(static_cast<size_t>(options_.num_blocks * kKvBlockTokens)) {}
  ~FakeModel() override { log_->destroyed = true; }

  const ModelConfig& config() const override { return config_; }
  int64_t num_kv_blocks() const override { return options_.num_blocks; }
  int64_t max_step_tokens() const override { return options_.max_step_tokens; }

  void trim_kv_cache() override {
    ++log_->trims;
    std::fill(cache_.begin(), cache_.end(), FakeEntry{});
  }
  void release_unused() override {
    ++log_->releases;
    if (options_.on_release) options_.on_release();
  }

  std::unique_ptr<VisionEncoding> begin_vision(VisionItem item) override {
    return std::make_unique<FakeEncoding>(std::move(item), options_, log_);
  }

  void forward(std::span<const StepSequence> sequences,
               const std::function<bool()>& should_stop) override {
    ++log_->forwards;
    if (sequences.size() > log_->largest_batch) log_->largest_batch = sequences.size();
    check_step(sequences);
    if (options_.on_forward) options_.on_forward(sequences);
    for (const StepSequence& sequence : sequences) store(sequence);
    if (should_stop()) {
      ++log_->stopped_forwards;
      for (const StepSequence& sequence : sequences) forget(sequence);
      throw Cancelled{};
    }
    logits_.clear();
    for (const StepSequence& sequence : sequences) {
      const int64_t length = sequence.num_cached + static_cast<int64_t>(sequence.token_ids.size());
      if (sequence.logits == LogitsWanted::kLast) append_logits(sequence, length);
      if (sequence.logits != LogitsWanted::kAll) continue;
      for (int64_t end = sequence.num_cached + 1; end <= length; ++end) {
        append_logits(sequence, end);
      }
    }
  }

  std::span<const NextToken> sample(std::span<const TokenChoice> choices) override {
    const size_t vocab_size = static_cast<size_t>(config_.vocab_size);
    require(choices.size() * vocab_size == logits_.size(), "a choice for every row of logits");
    next_tokens_.clear();
    for (size_t row = 0; row < choices.size(); ++row) {
      const auto logits = std::span(logits_).subspan(row * vocab_size, vocab_size);
      // As a backend that chooses, and as one that does not, by turns.
      const int32_t id = ++num_rows_ % 2 == 0 ? choose(choices[row], logits) : kNotChosen;
      if (id == kNotChosen) {
        next_tokens_.push_back({id, logits});
      } else {
        next_tokens_.push_back({id, {}});
      }
    }
    return next_tokens_;
  }

 private:
  FakeEntry& entry(const StepSequence& sequence, int64_t token) {
    const int64_t block = sequence.blocks[static_cast<size_t>(token / kKvBlockTokens)];
    return cache_[static_cast<size_t>(block * kKvBlockTokens + token % kKvBlockTokens)];
  }

  void check_step(std::span<const StepSequence> sequences) const {
    int64_t num_tokens = 0;
    std::set<int32_t> blocks, written;  // of all sequences
    for (const StepSequence& sequence : sequences) {
      const int64_t count = static_cast<int64_t>(sequence.token_ids.size());
      num_tokens += count;
      require(count > 0, "a sequence without tokens");
      require(sequence.pos_t.size() == sequence.token_ids.size() &&
                  sequence.pos_h.size() == sequence.token_ids.size() &&
                  sequence.pos_w.size() == sequence.token_ids.size(),
              "a position for every token");
      const int64_t capacity = static_cast<int64_t>(sequence.blocks.size()) * kKvBlockTokens;
      require(sequence.num_cached + count <= capacity, "the block table is too short");
      std::set<int32_t> own;
      for (size_t i = 0; i < sequence.blocks.size(); ++i) {
        const int32_t block = sequence.blocks[i];
        require(block >= 0 && block < options_.num_blocks, "no such block");
        require(own.insert(block).second, "a block stands twice in a table");
        // What others have computed may be shared, what is being written may not.
        const bool is_full = static_cast<int64_t>(i + 1) * kKvBlockTokens <= sequence.num_cached;
        require(!written.contains(block), "a block is written by one and owned by another");
        require(is_full || !blocks.contains(block), "a shared block is written");
        if (!is_full) written.insert(block);
      }
      blocks.insert(own.begin(), own.end());
    }
    require(num_tokens <= options_.max_step_tokens, "too many tokens in a step");
  }

  void store(const StepSequence& sequence) {
    for (size_t i = 0; i < sequence.token_ids.size(); ++i) {
      entry(sequence, sequence.num_cached + static_cast<int64_t>(i)) = {
          sequence.token_ids[i], sequence.pos_t[i], sequence.pos_h[i], sequence.pos_w[i]};
    }
    for (const VisionSpan& span : sequence.vision) {
      for (int64_t i = 0; i < span.count; ++i) {
        const int64_t row = span.first_row + i;
        require(row < span.embedding->rows.rows, "a row behind the embedding");
        require(span.first_token + i < static_cast<int64_t>(sequence.token_ids.size()),
                "a span behind the step's tokens");
        FakeEntry& target = entry(sequence, sequence.num_cached + span.first_token + i);
        require(target.value == config_.image_token_id || target.value == config_.video_token_id,
                "a visual row for a token that is no pad");
        target.value = kVisualValue + static_cast<int64_t>(span.embedding->rows.f32()[row]);
      }
    }
  }

  void forget(const StepSequence& sequence) {
    for (size_t i = 0; i < sequence.token_ids.size(); ++i) {
      entry(sequence, sequence.num_cached + static_cast<int64_t>(i)) = {};
    }
  }

  /// Those of its token `length` - 1.
  void append_logits(const StepSequence& sequence, int64_t length) {
    std::vector<FakeEntry> history;
    for (int64_t token = 0; token < length; ++token) {
      history.push_back(entry(sequence, token));
      require(history.back().value >= 0, "a token that was never stored");
    }
    const size_t vocab_size = static_cast<size_t>(config_.vocab_size);
    const size_t first = logits_.size();
    logits_.resize(first + vocab_size);
    const std::span<float> row(logits_.data() + first, vocab_size);
    fill_logits(history, row);
    if (options_.on_logits) options_.on_logits(sequence, row);
  }

  int32_t choose(const TokenChoice& choice, std::span<const float> logits) {
    if (choice.options == nullptr) return kNotChosen;
    std::vector<int32_t> history(choice.history.begin(), choice.history.end());
    history.insert(history.end(), choice.guesses.begin(), choice.guesses.end());
    try {
      return sampler_.sample(logits, history, choice.num_prompt, *choice.options, choice.mask);
    } catch (const Error&) {
      return kNotChosen;
    }
  }

  static void require(bool condition, const char* what) {
    if (!condition) throw std::logic_error(what);
  }

  const ModelConfig config_ = fake_config();
  const FakeModelOptions options_;
  std::shared_ptr<FakeModelLog> log_;
  std::vector<FakeEntry> cache_;
  std::vector<float> logits_;
  std::vector<NextToken> next_tokens_;
  Sampler sampler_{config_.vocab_size};
  uint64_t num_rows_ = 0;  // that sample() has seen
};

/// A grey item of `value`, `frames` frames of 28 h' x 28 w' pixels.
inline VisionItem make_item(uint8_t value, int merged_h, int merged_w, int frames = 1,
                            bool is_video = false) {
  VisionItem item;
  item.is_video = is_video;
  RgbImage image{28 * merged_w, 28 * merged_h, {}};
  image.pixels.assign(static_cast<size_t>(28 * 28 * 3 * merged_h * merged_w), value);
  const auto shared = std::make_shared<const RgbImage>(std::move(image));
  item.frames.assign(static_cast<size_t>(frames), shared);
  return item;
}

/// `length` text ids that depend on `salt`.
inline std::vector<int32_t> text(int64_t length, int64_t salt) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) {
    ids.push_back(static_cast<int32_t>(10 + (mix(mix(3, salt), i) >> 8) % 200));
  }
  return ids;
}

inline GenerationRequest text_request(int64_t length, int64_t salt, int64_t max_tokens) {
  GenerationRequest request;
  request.prompt = text(length, salt);
  request.max_tokens = max_tokens;
  return request;
}

/// Text, the item's pads, text.
inline GenerationRequest item_request(const VisionItem& item, int64_t salt, int64_t max_tokens) {
  GenerationRequest request = text_request(5, salt, max_tokens);
  const int32_t pad = item.is_video ? fake_config().video_token_id : fake_config().image_token_id;
  request.prompt.insert(request.prompt.end(), static_cast<size_t>(item.num_tokens()), pad);
  for (const int32_t id : text(4, salt + 1000)) request.prompt.push_back(id);
  request.items = {item};
  return request;
}

/// The answer by the book: one sequence, no cache, no chunks. Uses the request's grammar, which
/// must not be in use elsewhere.
inline std::vector<int32_t> reference_answer(const GenerationRequest& request,
                                             int64_t max_context = 32768) {
  const ModelConfig config = fake_config();
  std::vector<VisionGrid> grids;
  std::vector<float> rows[2];  // of all images, of all videos
  for (const VisionItem& item : request.items) {
    grids.push_back({item.grid_t(), item.grid_h(), item.grid_w(), item.is_video});
    for (int64_t r = 0; r < item.num_tokens(); ++r) {
      rows[item.is_video ? 1 : 0].push_back(visual_row(item, r));
    }
  }
  const MropePositions positions =
      compute_positions(request.prompt, grids, config.image_token_id, config.video_token_id);
  std::vector<FakeEntry> history;
  size_t next_row[2] = {0, 0};
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    int64_t value = request.prompt[i];
    if (value == config.image_token_id || value == config.video_token_id) {
      const size_t kind = value == config.video_token_id ? 1 : 0;
      value = kVisualValue + static_cast<int64_t>(rows[kind][next_row[kind]++]);
    }
    history.push_back({value, positions.t[i], positions.h[i], positions.w[i]});
  }
  std::vector<int32_t> tokens = request.prompt;
  std::vector<int32_t> answer;
  std::vector<float> logits(static_cast<size_t>(config.vocab_size));
  Sampler sampler(config.vocab_size);
  std::optional<Constraint> constraint;
  if (request.grammar != nullptr) constraint.emplace(request.grammar, request.stop_ids);
  for (;;) {
    fill_logits(history, logits);
    std::span<const uint64_t> mask;
    if (constraint) mask = constraint->mask();
    const int32_t id = sampler.sample(logits, tokens, static_cast<int64_t>(request.prompt.size()),
                                      request.sampling, mask);
    answer.push_back(id);
    if (constraint) constraint->accept(id);
    const bool stop =
        (constraint && constraint->is_complete()) ||
        std::find(request.stop_ids.begin(), request.stop_ids.end(), id) != request.stop_ids.end();
    const int32_t position = static_cast<int32_t>(tokens.size()) + positions.delta;
    tokens.push_back(id);
    if (stop || static_cast<int64_t>(answer.size()) == request.max_tokens ||
        static_cast<int64_t>(tokens.size()) == max_context) {
      return answer;
    }
    history.push_back({id, position, position, position});
  }
}

/// Keeps what it is told, and complains about events after the last one.
class Recorder : public GenerationListener {
 public:
  void on_token(const TokenOutput& token) override {
    const std::lock_guard lock(mutex_);
    if (ended_) late_events_ = true;
    tokens_.push_back(token.id);
    outputs_.push_back(token);
    changed_.notify_all();
  }
  void on_finish(FinishReason reason, const GenerationStats& stats) override {
    if (before_finish) before_finish();
    const std::lock_guard lock(mutex_);
    if (ended_) late_events_ = true;
    reason_ = reason;
    stats_ = stats;
    ended_ = true;
    changed_.notify_all();
  }
  void on_error(std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    if (ended_) late_events_ = true;
    try {
      std::rethrow_exception(error);
    } catch (const Error& e) {
      error_code_ = e.code();
      error_message_ = e.what();
    }
    ended_ = true;
    changed_.notify_all();
  }

  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_; });
  }
  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || tokens_.size() >= count; });
  }

  /// The answer; waits for the end and expects a good one.
  std::vector<int32_t> answer() {
    wait();
    const std::lock_guard lock(mutex_);
    if (!error_code_.empty()) throw std::runtime_error(error_code_ + ": " + error_message_);
    if (late_events_) throw std::runtime_error("an event after the last one");
    return tokens_;
  }
  FinishReason reason() {
    wait();
    if (!error_code_.empty()) throw std::runtime_error(error_code_ + ": " + error_message_);
    return reason_;
  }
  std::string error_code() {
    wait();
    if (late_events_) throw std::runtime_error("an event after the last one");
    return error_code_;
  }
  GenerationStats stats() {
    wait();
    return stats_;
  }
  std::vector<TokenOutput> outputs() {
    const std::lock_guard lock(mutex_);
    return outputs_;
  }

  std::function<void()> before_finish;  // runs first in on_finish

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::vector<TokenOutput> outputs_;
  FinishReason reason_ = FinishReason::kStop;
  GenerationStats stats_;
  std::string error_code_, error_message_;
  bool ended_ = false, late_events_ = false;
};

/// Holds a thread at a point until the test lets it go.
class Gate {
 public:
  /// Called by the held thread.
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  /// Waits until a thread is held (or has passed).
  void wait_for_arrival() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ > 0; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  bool open_ = false;
};

/// An engine over a fake model, and the view from outside.
struct FakeEngine {
  explicit FakeEngine(FakeModelOptions model = {}, EngineOptions options = {})
      : engine(std::make_shared<Engine>(std::make_unique<FakeModel>(std::move(model), log),
                                        options)) {}

  std::shared_ptr<Recorder> submit(const GenerationRequest& request, uint64_t* id = nullptr) {
    auto recorder = std::make_shared<Recorder>();
    const uint64_t given = engine->submit(request, recorder);
    if (id != nullptr) *id = given;
    return recorder;
  }

  std::shared_ptr<FakeModelLog> log = std::make_shared<FakeModelLog>();
  std::shared_ptr<Engine> engine;
};

inline std::ostream& operator<<(std::ostream& out, FinishReason reason) {
  return out << static_cast<int>(reason);
}

/// Nothing is used; and nothing is left when what is kept for later requests is given up.
inline void check_blocks_are_back(const FakeEngine& fake) {
  CHECK_EQ(fake.engine->metrics().kv_blocks_used, 0);
  fake.engine->clear_cache();
  const EngineMetrics metrics = fake.engine->metrics();
  CHECK_EQ(metrics.kv_blocks_used, 0);
  CHECK_EQ(metrics.kv_blocks_cached, 0);
  CHECK_EQ(metrics.running, 0);
  CHECK_EQ(metrics.waiting, 0);
  CHECK_EQ(fake.log->embeddings_alive.load(), 0);
  CHECK_EQ(fake.log->encodings_alive.load(), 0);
}

}  // namespace qvl::test

namespace std {
inline ostream& operator<<(ostream& out, const vector<int32_t>& values) {
  out << "[";
  for (const int32_t value : values) out << " " << value;
  return out << " ]";
}
}  // namespace std
