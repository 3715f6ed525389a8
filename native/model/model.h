#pragma once

// Qwen2-VL over the backend interface. The engine sees only the abstract Model, so that it can be
// tested with a model that computes nothing.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/sampling.h"
#include "common/cancellation.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "model/positions.h"
#include "model/quantization.h"

namespace qvl {

/// Visual tokens of one item, [num_tokens, C], in the backend's memory.
struct VisionEmbedding {
  std::shared_ptr<Buffer> buffer;
  Tensor rows;
};

/// A vision encode in progress. It is cut into short pieces so that decoding sequences can go on
/// between them and a cancel takes effect at once.
class VisionEncoding {
 public:
  virtual ~VisionEncoding() = default;
  /// Does a bounded piece of the work. True when finished. The model must outlive the encoding.
  virtual bool advance() = 0;
  /// After advance() returned true.
  virtual VisionEmbedding take_result() = 0;
};

/// `count` rows of `embedding` from `first_row` on replace the token embeddings of the sequence's
/// tokens [first_token, first_token + count) of this step.
struct VisionSpan {
  int64_t first_token = 0;
  int64_t count = 0;
  const VisionEmbedding* embedding = nullptr;
  int64_t first_row = 0;
};

enum class LogitsWanted : uint8_t { kNone, kLast, kAll };

/// One sequence's part of a step: some new tokens behind `num_cached` tokens already in the cache.
struct StepSequence {
  std::span<const int32_t> token_ids;            // T
  std::span<const int32_t> pos_t, pos_h, pos_w;  // T each
  int64_t num_cached = 0;
  std::span<const int32_t> blocks;  // covers num_cached + T tokens
  std::span<const VisionSpan> vision;
  LogitsWanted logits = LogitsWanted::kLast;
};

/// The token behind a row of logits, or the logits where the backend did not choose one.
struct NextToken {
  int32_t id = kNotChosen;
  std::span<const float> logits;  // [V] or empty
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual int64_t num_kv_blocks() const = 0;
  /// The most tokens one forward() may carry, over all its sequences.
  virtual int64_t max_step_tokens() const = 0;
  /// No sequence uses the KV cache now: memory may go back to the system.
  virtual void trim_kv_cache() = 0;
  /// Memory that is kept for the next step or image may go back to the system.
  virtual void release_unused() = 0;

  virtual std::unique_ptr<VisionEncoding> begin_vision(VisionItem item) = 0;

  /// Runs one ragged step, which appends to the KV cache and leaves rows of logits behind for
  /// sample(). It may return before the device has done all that. `should_stop` is asked between
  /// layers; when it says true, throws Cancelled (the cache then holds nothing that the caller may
  /// rely on beyond num_cached).
  virtual void forward(std::span<const StepSequence> sequences,
                       const std::function<bool()>& should_stop) = 0;
  /// Ends the step: what becomes of each row of logits that it wanted, in the order of the
  /// sequences. Valid until the next step. Throws Error(ERR_NUMERICS) when logits are not finite.
  virtual std::span<const NextToken> sample(std::span<const TokenChoice> choices) = 0;
};

struct LoadProgress {
  uint64_t loaded_bytes = 0;
  uint64_t total_bytes = 0;
};

struct ModelOptions {
  int64_t num_kv_blocks = 0;
  DType kv_dtype = DType::kF32;
  int64_t max_step_tokens = 512;
  /// Weights are kept as stored unless this names another type.
  bool convert_weights = false;
  DType weight_dtype = DType::kBF16;
  /// Matrices stay in the files, which are mapped; nobody may change them. Not with
  /// convert_weights, but for a type that they have anyway.
  bool map_weights = false;
  /// Matrices that it names are quantised instead.
  QuantizationOptions quantization{};
};

/// Loads Qwen2-VL from a checkpoint: accepts the published and the newer tensor names, checks every
/// shape and dtype, reads in parallel straight into the backend's layout, or maps the files.
/// `progress` is called from several threads, one at a time. Throws Error(ERR_CHECKPOINT_*),
/// Cancelled.
std::unique_ptr<Model> load_qwen2_vl(std::shared_ptr<const Checkpoint> checkpoint,
                                     const ModelConfig& config, std::shared_ptr<Backend> backend,
                                     const ModelOptions& options,
                                     const std::function<void(const LoadProgress&)>& progress,
                                     const CancellationFlag* cancellation);

/// Checks all that load_qwen2_vl() would before it reads numbers: names, shapes and types of all
/// tensors, and groups of inputs. Throws Error(ERR_CHECKPOINT_*).
void check_qwen2_vl(const Checkpoint& checkpoint, const ModelConfig& config);

/// What a checkpoint holds, and the memory it takes: as stored, or converted or quantised where the
/// options ask for that.
struct WeightSizes {
  int64_t num_parameters = 0;
  int64_t size_bytes = 0;
};
WeightSizes measure_weights(const Checkpoint& checkpoint, const StoredQuantization& stored,
                            const ModelOptions& options);

}  // namespace qvl
