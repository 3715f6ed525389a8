#pragma once

// The CUDA backend's class, shared by the files that implement it. Others see cuda_backend.h.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/check.h"
#include "backend/cuda/blas.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_weight.h"
#include "backend/cuda/graph.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/module.h"
#include "kernels/cuda/sequence_table.h"

namespace qvl::cuda {

/// A stream of its own that is closed in the end.
class OwnStream {
 public:
  explicit OwnStream(Device& device);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  api::Stream get() const { return stream_; }

 private:
  Device& device_;
  api::Stream stream_ = nullptr;
};

/// [L] of the layers of kernels/cuda/sequence_table.h.
class CudaKvCache final : public KvCache {
 public:
  CudaKvCache(const std::shared_ptr<MemoryPool>& pool, const KvCacheSpec& spec);
  const KvCacheSpec& spec() const override { return spec_; }
  /// Nothing: what another process took meanwhile would be missing in the middle of an answer.
  void trim() override {}
  void* layer(int64_t index) const {
    return static_cast<char*>(memory_.data()) + static_cast<size_t>(index) * layer_bytes_;
  }

 private:
  KvCacheSpec spec_;
  size_t layer_bytes_;
  CudaBuffer memory_;
};

class CudaBackend;

/// The tables of a step in device memory, always at the same place for steps of the same shape.
class CudaSequenceBatch final : public SequenceBatch {
 public:
  CudaSequenceBatch(CudaBackend& backend, int64_t max_tokens, int64_t num_blocks)
      : backend_(backend), max_tokens_(max_tokens), num_blocks_(num_blocks) {}

  void assign(std::span<const SequenceSpan> sequences) override;
  std::span<const SequenceSpan> sequences() const override { return sequences_; }

  const SequenceTable& table() const { return table_; }
  const void* tiles() const { return tiles_; }
  int64_t num_tiles() const { return num_tiles_; }
  int64_t num_rows() const { return num_rows_; }
  /// Every row is a sequence's.
  bool covers_all_rows() const { return covers_all_rows_; }
  /// Keys of a row, at most, in all steps of this shape.
  int64_t max_keys() const { return int64_t{table_.max_blocks} * kKvBlockTokens; }
  /// Steps whose tables lie at the same places have the same shape.
  StepShape shape() const;

 private:
  void check(std::span<const SequenceSpan> sequences) const;

  CudaBackend& backend_;
  int64_t max_tokens_;
  int64_t num_blocks_;
  std::vector<SequenceSpan> sequences_;
  std::vector<int32_t> host_;
  Scratch memory_;
  SequenceTable table_{};
  const void* tiles_ = nullptr;  // PrefillTile [num_tiles]
  int64_t num_tiles_ = 0;
  int64_t num_rows_ = 0;
  bool covers_all_rows_ = false;
};

/// Operations are called from one thread at a time; allocate, create_weight, write_weight, upload,
/// download and parallel from any. All work is in one stream, but for uploads of weights.
class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<Device> device, std::shared_ptr<const Blas> blas, DType dtype);
  ~CudaBackend() override;

  const DeviceInfo& device() const override { return info_; }
  int64_t available_bytes() const override {
    return static_cast<int64_t>(pool_->available_bytes());
  }
  void release_unused() override { pool_->trim(); }
  DType activation_dtype() const override { return dtype_; }
  DType weight_dtype(DType) const override { return dtype_; }

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
  void sample(std::span<int32_t> ids, Tensor logits, std::span<const TokenChoice> choices) override;
  void run_step(const SequenceBatch& batch, bool repeatable,
                const std::function<void()>& body) override;

  /// What grows `scratch` moves what recorded steps refer to.
  void* scratch(Scratch& memory, size_t bytes);

 private:
  /// "rms_norm" -> "rms_norm_bf16"
  std::string name_of(std::string_view base) const;
  /// The name of a kernel that exists for some head sizes; throws where there is none for this one.
  std::string name_for_head(std::string_view base, int64_t head_dim);
  template <class Params>
  void launch(std::string_view name, Dim3 grid, unsigned threads, size_t shared_bytes,
              const Params& params) {
    device_->launch(name, stream_.get(), {grid, {threads}, shared_bytes}, params);
  }

  Tensor scratch_tensor(Scratch& memory, int64_t rows, int64_t cols, DType dtype);
  /// The numbers of a matrix [N, K] in the backend's type: its own, or dequantised ones, which are
  /// there until the next call.
  const void* dense(const Weight& weight);
  /// x in the backend's type: normalised, converted, or as it is.
  Tensor narrow(Tensor x, const RmsNorm& norm);
  void add_bias(Tensor x, const Buffer& bias, Activation activation);
  void linear_swiglu(Tensor out, Tensor x, const Weight& weight, const Buffer* bias);
  /// The kernels of a decode step read every weight once for all of few rows. False: there is none
  /// for this case.
  bool linear_few_rows(const Tensor& out, const Tensor& x, const Weight& weight,
                       const LinearOptions& options);
  bool qkv_few_rows(const Tensor& qkv, const AttentionInput& input, const CudaKvCache& cache,
                    int64_t layer, const CudaSequenceBatch& batch);
  bool attention_few_rows(const Tensor& out, const Tensor& q, const CudaKvCache& cache,
                          int64_t layer, const CudaSequenceBatch& batch, float scale);
  /// Counters that are zero between kernels: these leave zeros behind.
  void* zeroed_scratch(Scratch& memory, size_t bytes);
  template <class Epilogue>
  void launch_gemv(std::string_view epilogue_name, const Tensor& x, const Weight& weight,
                   const RmsNorm& norm, const Epilogue& epilogue);
  template <class Epilogue>
  void launch_quantized_gemv(std::string_view epilogue_name, const Tensor& x,
                             const CudaQuantizedWeight& weight, const RmsNorm& norm,
                             const Epilogue& epilogue);
  /// `values` in device memory, in the order of the stream.
  const int32_t* upload_indices(Scratch& memory, const std::vector<int32_t>& values);

  std::shared_ptr<Device> device_;
  DType dtype_;
  DeviceInfo info_;
  std::shared_ptr<MemoryPool> pool_;
  OwnStream stream_;
  UploadQueue uploads_;
  MatrixProducts products_;
  StepGraphs graphs_;
  Scratch narrow_scratch_, gate_up_scratch_, indices_scratch_, tiles_scratch_, dense_scratch_;
  Scratch partials_scratch_, arrivals_scratch_;  // of attention over splits of the keys
  Scratch sample_inputs_, sample_scores_, sample_counts_, sample_states_, sample_results_;
};

/// A count of rows, columns or heads as kernels take it.
inline int32_t narrow_count(int64_t count) {
  require(count >= 0 && count <= INT32_MAX, "a size above 2^31");
  return static_cast<int32_t>(count);
}
const float* f32_data(const Buffer& buffer, int64_t count);
/// The scale of attention's scores for kernels that raise 2 to them.
float scale_log2e(float scale);

}  // namespace qvl::cuda
