#pragma once

// Weight matrices in device memory, and how they get there.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>

#include "backend/backend.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/quantized_layout.h"

namespace qvl::cuda {

/// A matrix as the checkpoint has it, row by row in the backend's type.
class CudaWeight final : public Weight {
 public:
  CudaWeight(const std::shared_ptr<MemoryPool>& pool, WeightSpec spec);
  const WeightSpec& spec() const override { return spec_; }
  const void* data() const { return memory_.data(); }

  /// See Backend::write_weight().
  void write_rows(int64_t first_row, int64_t num_rows, const void* rows, DType dtype,
                  UploadQueue& uploads);

 private:
  WeightSpec spec_;
  CudaBuffer memory_;
};

/// A matrix of integer codes in the layout of kernels/cuda/quantized_matrix.h. Its numbers come in
/// pieces that lie scattered there; they are put together in memory of the host, which is there
/// from the first piece to the last.
class CudaQuantizedWeight final : public Weight {
 public:
  /// Throws Error(ERR_CHECKPOINT_UNSUPPORTED) for what the kernels do not know.
  CudaQuantizedWeight(const std::shared_ptr<MemoryPool>& pool, WeightSpec spec);
  const WeightSpec& spec() const override { return spec_; }
  const QuantizedMatrixLayout& layout() const { return layout_; }
  /// What the kernels are given.
  QuantizedMatrix matrix() const { return layout_.matrix(arrays_at(memory_.data())); }
  /// WeightSpec::input_order in device memory; null where inputs are in order.
  int32_t* input_order() const {
    return order_ == nullptr ? nullptr : static_cast<int32_t*>(order_->data());
  }

  /// Outputs `distance` apart lie side by side, for what follows the product.
  bool has_pairs(int64_t distance) const { return layout_.spec().pair_distance == distance; }

  /// See Backend::write_quantized() and Backend::write_weight(), which quantises to the codes that
  /// the CPU backend makes.
  void write_block(const QuantizedBlock& block, UploadQueue& uploads);
  void write_rows(int64_t first_row, int64_t num_rows, const void* rows, DType dtype,
                  UploadQueue& uploads);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  int64_t num_groups() const;
  size_t size_bytes() const;
  QuantizedArrays arrays_at(void* memory) const;
  /// On the host, zeroed at first.
  QuantizedArrays staged();
  /// So many groups of rows are in place: after the last, the matrix goes to the device.
  void count(int64_t groups_of_rows, UploadQueue& uploads);

  WeightSpec spec_;
  QuantizedMatrixLayout layout_;
  CudaBuffer memory_;                  // codes, scales, zero points
  std::unique_ptr<CudaBuffer> order_;  // [in_features]
  std::mutex mutex_;
  std::unique_ptr<void, Free> stage_;
  std::atomic<int64_t> missing_;  // groups of rows
};

/// Null where the weight is not quantised.
CudaQuantizedWeight* as_quantized(Weight& weight);
const CudaQuantizedWeight* as_quantized(const Weight& weight);

}  // namespace qvl::cuda
