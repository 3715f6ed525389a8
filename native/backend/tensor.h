#pragma once

#include <cstddef>
#include <cstdint>

namespace qvl {

// Shape letters used in comments everywhere:
//   B sequences   T tokens of a step   H query heads   G key/value heads   D head size
//   C hidden size   F feed-forward size   V vocabulary   P patches   E vision width   L layers

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr size_t dtype_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
constexpr const char* dtype_name(DType dtype) {
  return dtype == DType::kF32 ? "F32" : dtype == DType::kBF16 ? "BF16" : "F16";
}

/// A two-dimensional view of activations in a backend's memory: [rows, cols], element (r, c) at
/// r * row_stride + c. Does not own. Activations are F32 on the CPU.
struct Tensor {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements
  DType dtype = DType::kF32;

  float* f32() const { return static_cast<float*>(data); }

  /// Columns [first, first + count) of every row.
  Tensor columns(int64_t first, int64_t count) const {
    Tensor view = *this;
    view.data = static_cast<char*>(data) + static_cast<size_t>(first) * dtype_size(dtype);
    view.cols = count;
    return view;
  }
  /// Rows [first, first + count).
  Tensor slice(int64_t first, int64_t count) const {
    Tensor view = *this;
    view.data =
        static_cast<char*>(data) + static_cast<size_t>(first * row_stride) * dtype_size(dtype);
    view.rows = count;
    return view;
  }
};

}  // namespace qvl
