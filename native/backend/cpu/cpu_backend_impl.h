#pragma once

// The CPU backend's class, shared by the files that implement it. Others see cpu_backend.h.

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/check.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/memory.h"
#include "backend/cpu/thread_pool.h"
#include "backend/format.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/quantized.h"

namespace qvl {

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes);
  void* data() const override { return memory_.data(); }
  size_t size_bytes() const override { return bytes_; }

 private:
  size_t bytes_;
  PageMemory memory_;
};

/// A matrix in panels of 32 output features, or row by row in somebody else's memory.
class CpuWeight final : public Weight {
 public:
  explicit CpuWeight(const WeightSpec& spec);
  CpuWeight(const WeightSpec& spec, std::span<const WeightRows> parts,
            std::shared_ptr<const void> owner);
  const WeightSpec& spec() const override { return spec_; }
  /// Null: the matrix is in rows().
  void* panels() const { return memory_.data(); }
  /// [panels * 32] rows, null behind the last; or null: the matrix is in panels().
  const void* const* rows() const { return rows_.empty() ? nullptr : rows_.data(); }
  /// Null: not quantised.
  const kernels::QuantizedLayout* layout() const { return layout_ ? &*layout_ : nullptr; }

 private:
  void check_spec() const;
  void check_input_order() const;

  WeightSpec spec_;
  std::optional<kernels::QuantizedLayout> layout_;
  PageMemory memory_;
  std::vector<const void*> rows_;
  std::shared_ptr<const void> owner_;  // of the rows
};

/// All layers' blocks in one map of lazily committed pages: [L][num_blocks][G] of a key block and a
/// value block.
class CpuKvCache final : public KvCache {
 public:
  explicit CpuKvCache(const KvCacheSpec& spec);
  const KvCacheSpec& spec() const override { return spec_; }
  void trim() override { memory_.discard(); }

  /// The key block of one head in block 0 of a layer; block i is i * block_stride() further.
  char* keys(int64_t layer, int64_t head) const;
  char* values(int64_t layer, int64_t head) const { return keys(layer, head) + key_bytes_; }
  int64_t block_stride() const { return block_bytes_; }  // bytes

 private:
  KvCacheSpec spec_;
  int64_t key_bytes_ = 0;    // of a key block
  int64_t head_bytes_ = 0;   // key block and value block
  int64_t block_bytes_ = 0;  // of all heads
  int64_t layer_bytes_ = 0;
  PageMemory memory_;
};

class CpuSequenceBatch final : public SequenceBatch {
 public:
  void assign(std::span<const SequenceSpan> sequences) override {
    sequences_.assign(sequences.begin(), sequences.end());
  }
  std::span<const SequenceSpan> sequences() const override { return sequences_; }

 private:
  std::vector<SequenceSpan> sequences_;
};

/// Operations are called from one thread at a time; allocate, create_weight, write_weight, upload,
/// download and parallel from any.
class CpuBackend final : public Backend {
 public:
  CpuBackend(const kernels::KernelTable& kernels, DeviceInfo device);

  const DeviceInfo& device() const override { return device_; }
  int64_t available_bytes() const override;
  void release_unused() override {}
  DType activation_dtype() const override { return DType::kF32; }
  DType weight_dtype(DType dtype) const override { return dtype; }

  std::unique_ptr<Buffer> allocate(size_t bytes) override;
  void upload(void* device, const void* host, size_t bytes) override;
  void upload_f32(void* device, const void* host, DType dtype, int64_t count) override;
  void download(void* host, const void* device, size_t bytes) override;
  std::unique_ptr<Weight> create_weight(const WeightSpec& spec) override;
  void write_weight(Weight& weight, int64_t first_row, int64_t num_rows, const void* rows,
                    DType dtype) override;
  void write_quantized(Weight& weight, const QuantizedBlock& block) override;
  std::unique_ptr<Weight> wrap_weight(const WeightSpec& spec, std::span<const WeightRows> parts,
                                      std::shared_ptr<const void> owner) override;
  /// Logits are where the engine's sampler reads them.
  void sample(std::span<int32_t> ids, Tensor, std::span<const TokenChoice>) override {
    std::fill(ids.begin(), ids.end(), kNotChosen);
  }
  std::unique_ptr<KvCache> create_kv_cache(const KvCacheSpec& spec) override;
  std::unique_ptr<SequenceBatch> create_sequence_batch(int64_t max_tokens,
                                                       int64_t num_blocks) override;
  void parallel(int64_t num_tasks, const std::function<void(int64_t)>& task) override;

  void embed(Tensor out, const Weight& weight, std::span<const int32_t> ids) override;
  void copy_rows(Tensor dst, std::span<const int32_t> dst_rows, Tensor src,
                 std::span<const int32_t> src_rows) override;
  void rms_norm(Tensor out, Tensor x, const Buffer& weight, float eps) override;
  void layer_norm(Tensor out, Tensor x, const Buffer& weight, const Buffer& bias,
                  float eps) override;
  void linear(Tensor out, Tensor x, const Weight& weight, const LinearOptions& options) override;
  void rope(Tensor x, int64_t head_dim, Tensor cos, Tensor sin) override;
  void append_kv(KvCache& cache, int64_t layer, Tensor k, Tensor v,
                 const SequenceBatch& batch) override;
  void attention_input(Tensor qkv, const AttentionInput& input, KvCache& cache, int64_t layer,
                       const SequenceBatch& batch) override;
  void attention(Tensor out, Tensor q, const KvCache& cache, int64_t layer,
                 const SequenceBatch& batch, float scale) override;
  void segment_attention(Tensor out, Tensor q, Tensor k, Tensor v, int64_t head_dim,
                         std::span<const int32_t> cu_seqlens, int64_t first_query,
                         float scale) override;
  void run_step(const SequenceBatch& batch, bool repeatable,
                const std::function<void()>& body) override;

 private:
  /// Memory that grows on demand and is kept for the next operation.
  class Scratch {
   public:
    float* get(int64_t floats);

   private:
    PageMemory memory_;
  };

  /// body(first_row, last_row) for parts of [0, rows); serial when the work is small.
  template <class Body>
  void for_rows(int64_t rows, int64_t elements_per_row, const Body& body);
  /// A part of the product of packed rows with a weight.
  struct Part {
    int64_t first_panel;
    int64_t last_panel;
    int64_t first_tile;
    int64_t last_tile;
  };
  void run_panels_by_tiles(int64_t panels, int64_t tiles,
                           const std::function<void(const Part&, int thread)>& body);
  void linear_packed(const kernels::LinearArgs& args);
  /// SwiGLU of a weight whose halves do not begin at panels: in two steps.
  void linear_then_swiglu(Tensor out, Tensor x, const Weight& weight, const Buffer* bias);
  /// The rows of x with their columns in the order of the weight's inputs.
  Tensor in_input_order(Tensor x, const std::vector<int32_t>& order);
  void linear_int8(const kernels::LinearArgs& args);
  /// x, or where it has a norm, x normalised in scratch memory.
  Tensor normalized(Tensor x, const RmsNorm& norm);
  /// Checks a sequence of a step of `rows` rows against the cache; cuts its new tokens where blocks
  /// end and calls body(task) for each part and key/value head.
  struct AppendTask {
    int64_t row;           // of the step
    int64_t num_rows;      // in one block
    int64_t head;          // of the keys and values
    int64_t slot;          // in the block
    int64_t block_offset;  // bytes
  };
  void for_new_tokens(const CpuKvCache& store, int64_t layer, int64_t rows,
                      const SequenceBatch& batch,
                      const std::function<void(const AppendTask&)>& body);
  /// One key/value head's queries in one sequence or segment: an AttentionArgs and a row range.
  struct AttentionTask {
    kernels::AttentionArgs args;
    int64_t first_row;
    int64_t last_row;
    int64_t num_parts;  // of its keys; these two are for run_attention
    int64_t partials;   // offset of the results of its parts
  };
  /// Rows [0, rows) of `task`, `step` a task.
  static void append_tasks(std::vector<AttentionTask>& tasks, AttentionTask task, int64_t rows,
                           int64_t step);
  void run_attention(std::vector<AttentionTask>& tasks);
  /// Query rows of a task, a multiple of the group where possible: enough tasks for all threads.
  int64_t attention_task_rows(int64_t total_rows, int64_t group) const;

  const kernels::KernelTable& kernels_;
  ThreadPool pool_;
  DeviceInfo device_;
  std::vector<Scratch> thread_scratch_;  // one a thread
  Scratch shared_scratch_;
  Scratch gate_up_scratch_;
  Scratch ordered_scratch_;  // of in_input_order
  Scratch norm_scratch_;
  Scratch partials_;  // of attention over parts of the keys
};

}  // namespace qvl
