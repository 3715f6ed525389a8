#pragma once

#include <memory>

#include "backend/backend.h"

namespace qvl {

/// Activations [rows, cols] with the memory they live in.
class TensorBuffer {
 public:
  TensorBuffer() = default;
  TensorBuffer(Backend& backend, int64_t rows, int64_t cols, DType dtype = DType::kF32)
      : buffer_(backend.allocate(static_cast<size_t>(rows) * static_cast<size_t>(cols) *
                                 dtype_size(dtype))),
        rows_(rows),
        cols_(cols),
        dtype_(dtype) {}

  bool empty() const { return buffer_ == nullptr; }
  int64_t rows() const { return rows_; }
  /// All rows.
  Tensor tensor() const { return first_rows(rows_); }
  /// The first `count` rows.
  Tensor first_rows(int64_t count) const { return reshaped(count, cols_); }
  /// The same memory as [rows, cols], densely packed.
  Tensor reshaped(int64_t rows, int64_t cols) const {
    return {buffer_->data(), rows, cols, cols, dtype_};
  }

 private:
  std::unique_ptr<Buffer> buffer_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace qvl
