#pragma once

// Matrices in the memory of a CUDA backend, for the tests of its operations as the model calls
// them.

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "kernels/compare.h"

namespace qvl::test {

inline DType dtype_of(Half type) { return type == Half::kBf16 ? DType::kBF16 : DType::kF16; }
inline const char* name_of(Half type) { return type == Half::kBf16 ? "bf16" : "fp16"; }

inline std::unique_ptr<Backend> cuda_backend(Half type) {
  return create_cuda_backend({0, dtype_of(type)});
}

/// A matrix whose rows are `padding` elements further apart than they are wide: those hold NaN,
/// and reading the matrix back checks that nothing wrote there.
class OnDevice {
 public:
  OnDevice(Backend& backend, const std::vector<float>& values, int64_t cols, DType dtype,
           int64_t padding = 0)
      : backend_(&backend),
        rows_(static_cast<int64_t>(values.size()) / cols),
        cols_(cols),
        stride_(cols + padding),
        dtype_(dtype),
        buffer_(backend.allocate(size_bytes())) {
    std::vector<unsigned char> bytes(size_bytes(), 0xff);
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(&bytes[at(i)], &values[i], sizeof(float));
      } else {
        const uint16_t bits = narrow(values[i], half());
        std::memcpy(&bytes[at(i)], &bits, sizeof bits);
      }
    }
    backend.upload(buffer_->data(), bytes.data(), bytes.size());
  }
  /// All NaN, for an operation to write.
  OnDevice(Backend& backend, int64_t rows, int64_t cols, DType dtype, int64_t padding = 0)
      : OnDevice(backend, std::vector<float>(static_cast<size_t>(rows * cols), NAN), cols, dtype,
                 padding) {}

  Tensor tensor() const { return {buffer_->data(), rows_, cols_, stride_, dtype_}; }
  const Buffer& buffer() const { return *buffer_; }

  std::vector<float> values() const {
    std::vector<unsigned char> bytes(size_bytes());
    backend_->download(bytes.data(), buffer_->data(), bytes.size());
    std::vector<float> values(static_cast<size_t>(rows_ * cols_));
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype_ == DType::kF32) {
        std::memcpy(&values[i], &bytes[at(i)], sizeof(float));
      } else {
        uint16_t bits = 0;
        std::memcpy(&bits, &bytes[at(i)], sizeof bits);
        values[i] = widen(bits, half());
      }
    }
    for (int64_t i = 0; i < rows_; ++i) {
      for (size_t byte = at(static_cast<size_t>(i * cols_)) + row_bytes();
           byte < static_cast<size_t>(i + 1) * stride_bytes(); ++byte) {
        if (bytes[byte] != 0xff) fail(__FILE__, __LINE__, "something was written between rows");
      }
    }
    return values;
  }

 private:
  Half half() const { return dtype_ == DType::kBF16 ? Half::kBf16 : Half::kFp16; }
  size_t row_bytes() const { return static_cast<size_t>(cols_) * dtype_size(dtype_); }
  size_t stride_bytes() const { return static_cast<size_t>(stride_) * dtype_size(dtype_); }
  size_t size_bytes() const { return static_cast<size_t>(rows_) * stride_bytes(); }
  size_t at(size_t element) const {
    const auto cols = static_cast<size_t>(cols_);
    return element / cols * stride_bytes() + element % cols * dtype_size(dtype_);
  }

  Backend* backend_;
  int64_t rows_, cols_, stride_;
  DType dtype_;
  std::unique_ptr<Buffer> buffer_;
};

inline std::unique_ptr<Buffer> buffer_of(Backend& backend, const std::vector<float>& values) {
  auto buffer = backend.allocate(values.size() * sizeof(float));
  backend.upload(buffer->data(), values.data(), values.size() * sizeof(float));
  return buffer;
}

inline std::unique_ptr<Weight> weight_of(Backend& backend, const std::vector<float>& values,
                                         int64_t in_features, Half type) {
  const int64_t rows = static_cast<int64_t>(values.size()) / in_features;
  auto weight = backend.create_weight({rows, in_features, dtype_of(type)});
  backend.write_weight(*weight, 0, rows, values.data(), DType::kF32);
  return weight;
}

/// NaN equals NaN.
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// Bits that look like chance, the same for the same index.
inline uint32_t random_word(uint32_t index) {
  uint32_t x = index * 2654435761u + 12345u;
  x ^= x >> 15;
  x *= 2246822519u;
  return x ^ x >> 13;
}

/// Rows [first, first + count) of a matrix.
inline std::vector<float> rows_of(const std::vector<float>& values, int64_t cols, int64_t first,
                                  int64_t count) {
  return {values.begin() + first * cols, values.begin() + (first + count) * cols};
}

/// F32 results, whose error is `slack` alone.
inline void check_floats(const std::vector<float>& actual, const std::vector<Expected>& expected,
                         const std::string& where) {
  CHECK_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::fabs(double{actual[i]} - expected[i].value) <= expected[i].slack) continue;
    fail(__FILE__, __LINE__,
         describe(where, ": element ", i, " is ", actual[i], ", expected ", expected[i].value,
                  " within ", expected[i].slack));
  }
}

}  // namespace qvl::test
