#pragma once

// The operations a device offers. native/model is written once over this interface;
// native/backend/cpu implements it over kernels/cpu. The scalar CPU version of each operation is
// its specification.
//
// Rule of every operation: the result of a row depends on that row's own inputs only, bit for bit.
// Neither the other rows of the step, nor how a sequence was cut into chunks, nor the number of
// threads may change it. Reductions therefore have an order fixed by the sequence alone.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/sampling.h"
#include "backend/tensor.h"

namespace qvl {

/// Memory of a backend; released by its destructor.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual size_t size_bytes() const = 0;
};

/// How the numbers of a quantised matrix are kept: as integer codes with a scale for every output
/// and group of inputs. The kernels' headers have the formulas.
struct Quantization {
  int bits = 0;            // of a code: 8 or 4; 0 = not quantised
  int64_t group_size = 0;  // 32, 64 or 128 inputs; 0 = the whole row
  /// Products round the activations to 8-bit integers too, with a scale for every row and block of
  /// inputs, and sum integers. Otherwise activations stay as they are.
  bool int8_activations = false;
  /// There is a zero point for every output and group; otherwise it is 8 or 128.
  bool has_zeros = false;

  bool is_quantized() const { return bits != 0; }
};

/// What a weight matrix is, before its values are known. Stored as `[out_features, in_features]`
/// in the checkpoint; a backend keeps it in a layout of its own.
struct WeightSpec {
  int64_t out_features = 0;
  int64_t in_features = 0;
  DType dtype = DType::kBF16;
  /// The sum over in_features is made of this many equal, consecutive segments, each summed in the
  /// kernel's own order and then combined by a balanced binary tree in fp32, so that 1, 2, 4 or 8
  /// ranks can share the product and give identical bits. 1 = one segment. Divides in_features.
  int segments = 1;
  /// Where is_quantized(), dtype has no meaning. With 8-bit activations, a segment must be a whole
  /// number of groups, or of blocks of kActivationBlock inputs where groups are larger.
  Quantization quantization{};
  /// Of a quantised matrix: its input k, which groups are counted by, is input input_order[k] of
  /// what it is multiplied with. Empty: as they come.
  std::vector<int32_t> input_order{};
  /// Outputs n and n + pair_distance of every span of twice as many are needed together, by what
  /// follows the product: a layout may put them side by side. 0: none are.
  int64_t pair_distance = 0;
};

/// Inputs that share a scale of 8-bit activations, at most.
inline constexpr int64_t kActivationBlock = 128;

/// Consecutive rows of a matrix as a file holds them: [num_rows, in_features] in the weight's
/// dtype, of no alignment.
struct WeightRows {
  const void* data = nullptr;
  int64_t num_rows = 0;
};

/// A group of inputs of a matrix that comes quantised, for some of its outputs.
struct QuantizedBlock {
  int64_t group = 0;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  const uint8_t* codes = nullptr;    // [inputs of the group][num_rows], below 2^bits
  const uint16_t* scales = nullptr;  // [num_rows] fp16, finite
  const uint8_t* zeros = nullptr;    // [num_rows] below 2^bits; null where the matrix has none
};

/// A weight matrix in a backend's own layout, or where it lies in memory that somebody else owns.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual const WeightSpec& spec() const = 0;
};

struct KvCacheSpec {
  int64_t num_layers = 0;
  int64_t num_kv_heads = 0;   // G
  int64_t head_dim = 0;       // D
  int64_t num_blocks = 0;     // blocks in the pool; memory is committed as blocks are first used
  DType dtype = DType::kF32;  // F32 keeps greedy answers equal to the fp32 reference
};

/// Tokens of one KV block. Attention walks keys in blocks aligned to absolute positions, which is
/// what makes a result independent of chunking.
inline constexpr int kKvBlockTokens = 32;

/// A pool of KV blocks for all layers; sequences refer to blocks by index.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheSpec& spec() const = 0;
  /// Tells the backend that no sequence uses any block now: it may return the pages to the system,
  /// where it can be sure to get them again.
  virtual void trim() = 0;
};

/// One sequence's part of a ragged step.
struct SequenceSpan {
  int64_t first_row = 0;            // row of its first token in the step's tensors
  int64_t num_tokens = 0;           // its tokens in this step
  int64_t num_cached = 0;           // its tokens already in the cache before this step
  std::span<const int32_t> blocks;  // block table; covers num_cached + num_tokens tokens
};

/// The sequences of a step where a backend's operations find them: made once, filled for each step.
class SequenceBatch {
 public:
  virtual ~SequenceBatch() = default;
  /// Replaces the sequences; their block tables must outlive the step.
  virtual void assign(std::span<const SequenceSpan> sequences) = 0;
  virtual std::span<const SequenceSpan> sequences() const = 0;
};

/// x * rsqrt(mean(x^2) + eps) * weight, a row at a time, before an operation takes x in.
struct RmsNorm {
  const Buffer* weight = nullptr;  // [cols] F32; null: x as it is
  float eps = 0;
};

/// kSwiGlu: the weight is a gate's rows, then as many of what it lets through, and out has half of
/// its out_features: out = silu(x gate^T + b) * (x up^T + b). No residual.
enum class Activation : uint8_t { kNone, kQuickGelu, kGelu, kSwiGlu };

struct LinearOptions {
  const Buffer* bias = nullptr;      // [out_features] F32
  const Tensor* residual = nullptr;  // added last: out = residual + act(x W^T + b); may be `out`
  Activation activation = Activation::kNone;
  RmsNorm norm{};
};

/// What comes before attention in a decoder layer.
struct AttentionInput {
  Tensor x;                        // [T, C] residual stream
  RmsNorm norm;                    // of x
  const Weight* weight = nullptr;  // [(H + 2G) * D, C]
  const Buffer* bias = nullptr;    // [(H + 2G) * D] F32
  Tensor cos, sin;                 // [T, D / 2] F32, repeated once to D
};

struct DeviceInfo {
  std::string kind;             // "cpu", "cuda"
  std::string name;             // the processor's or the GPU's name
  std::string instruction_set;  // "scalar", "avx2", ...
  int threads = 1;
  int64_t memory_bytes = 0;  // of a GPU; 0 where the memory is the system's
  /// Rows of a product from which on more of them do not make it more efficient.
  int64_t busy_rows = 512;
  /// Floating-point operations that are to be started at a time, so that what is urgent does not
  /// wait long: about 0.1 s of two cores.
  double bounded_work = 16e9;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const DeviceInfo& device() const = 0;
  /// Bytes that can be had beside those in use, 0 when the system does not say. From any thread.
  virtual int64_t available_bytes() const = 0;
  /// Gives memory that is kept for the next operation back to the system.
  virtual void release_unused() = 0;
  /// What the activations between operations are kept as. The residual stream and the vision
  /// tower's, logits, cos and sin are F32 everywhere.
  virtual DType activation_dtype() const = 0;
  /// What a matrix is kept as that has `dtype` where the backend leaves the choice.
  virtual DType weight_dtype(DType dtype) const = 0;

  // ---- memory ----
  /// Throws Error(ERR_OUT_OF_MEMORY) when the memory is not to be had. Contents are undefined.
  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  /// device [count] F32 = the numbers of `dtype` at `host`, which need no alignment, widened.
  virtual void upload_f32(void* device, const void* host, DType dtype, int64_t count) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;

  // ---- weights ----
  virtual std::unique_ptr<Weight> create_weight(const WeightSpec& spec) = 0;
  /// Stores rows [first_row, first_row + num_rows), given row-major [num_rows, in_features] in
  /// `dtype`, converting to the weight's dtype if they differ, or quantising. Safe to call from
  /// several threads for disjoint row ranges that begin at multiples of kWeightRowAlignment.
  virtual void write_weight(Weight& weight, int64_t first_row, int64_t num_rows, const void* rows,
                            DType dtype) = 0;
  static constexpr int64_t kWeightRowAlignment = 32;
  /// Stores a block of a matrix whose codes are known already. Safe to call from several threads
  /// for blocks of different groups, and for rows as write_weight().
  virtual void write_quantized(Weight& weight, const QuantizedBlock& block) = 0;
  /// A weight that stays where it is: `parts` on top of each other. Operations give the same bits
  /// as with a packed one, more slowly. `owner` keeps the memory.
  virtual std::unique_ptr<Weight> wrap_weight(const WeightSpec& spec,
                                              std::span<const WeightRows> parts,
                                              std::shared_ptr<const void> owner) = 0;

  /// Runs task(0) ... task(num_tasks - 1) on the backend's host threads and returns when all are
  /// done. The first exception of a task is rethrown here.
  virtual void parallel(int64_t num_tasks, const std::function<void(int64_t)>& task) = 0;

  // ---- operations; outputs first; out may not alias an input unless said ----
  /// out[t] = weight row ids[t], widened. ids are within [0, out_features).
  virtual void embed(Tensor out, const Weight& weight, std::span<const int32_t> ids) = 0;
  /// dst row dst_rows[i] = src row src_rows[i].
  virtual void copy_rows(Tensor dst, std::span<const int32_t> dst_rows, Tensor src,
                         std::span<const int32_t> src_rows) = 0;
  /// out = x * rsqrt(mean(x^2) + eps) * weight. weight [cols] F32.
  virtual void rms_norm(Tensor out, Tensor x, const Buffer& weight, float eps) = 0;
  /// out = (x - mean) / sqrt(var + eps) * weight + bias. weight, bias [cols] F32.
  virtual void layer_norm(Tensor out, Tensor x, const Buffer& weight, const Buffer& bias,
                          float eps) = 0;
  /// out [T, out_features] = residual + activation(x [T, in_features] * weight^T + bias).
  virtual void linear(Tensor out, Tensor x, const Weight& weight, const LinearOptions& options) = 0;
  /// Rotates each head in place, half convention: x = x * cos + rot(x) * sin with
  /// rot(x) = [-x[D/2..D), x[0..D/2)]. x [T, heads * D]; cos, sin [T, D/2] F32, repeated once to D.
  virtual void rope(Tensor x, int64_t head_dim, Tensor cos, Tensor sin) = 0;
  /// Stores k, v [T, G * D] of every sequence's new tokens in its blocks.
  virtual void append_kv(KvCache& cache, int64_t layer, Tensor k, Tensor v,
                         const SequenceBatch& batch) = 0;
  /// qkv [T, (H + 2G) * D] = norm(x) * weight^T + bias, with every query and key head rotated as
  /// rope() does; keys and values of the new tokens are stored in the cache as append_kv() does.
  /// Only the queries, the first H * D columns of qkv, are there to be read afterwards.
  virtual void attention_input(Tensor qkv, const AttentionInput& input, KvCache& cache,
                               int64_t layer, const SequenceBatch& batch) = 0;
  /// Causal grouped-query attention over the cache, which already holds this step's keys:
  /// query head h reads kv head h / (H / G). out, q [T, H * D].
  virtual void attention(Tensor out, Tensor q, const KvCache& cache, int64_t layer,
                         const SequenceBatch& batch, float scale) = 0;
  /// Full attention inside each segment [cu_seqlens[i], cu_seqlens[i + 1]) of the rows of k and v
  /// [P, heads * D], for some of their queries: row i of q and out is row first_query + i of k.
  virtual void segment_attention(Tensor out, Tensor q, Tensor k, Tensor v, int64_t head_dim,
                                 std::span<const int32_t> cu_seqlens, int64_t first_query,
                                 float scale) = 0;

  /// ids[i] = the token that choices[i] takes from row i of logits [T, V], the same as the engine's
  /// Sampler would: so logits need not leave the device. kNotChosen where the backend leaves the
  /// choice to its caller, who then reads the logits and meets their errors; always where there are
  /// no options.
  virtual void sample(std::span<int32_t> ids, Tensor logits,
                      std::span<const TokenChoice> choices) = 0;

  virtual std::unique_ptr<KvCache> create_kv_cache(const KvCacheSpec& spec) = 0;
  /// For steps of at most `max_tokens` tokens over a cache of `num_blocks` blocks.
  virtual std::unique_ptr<SequenceBatch> create_sequence_batch(int64_t max_tokens,
                                                               int64_t num_blocks) = 0;

  /// Runs body(), the operations of a step. When it is `repeatable`, what differs between steps
  /// with as many rows and sequences is only in `batch` and in the contents of buffers: a backend
  /// may then record the operations once and repeat them without calling body().
  virtual void run_step(const SequenceBatch& batch, bool repeatable,
                        const std::function<void()>& body) = 0;
};

}  // namespace qvl
