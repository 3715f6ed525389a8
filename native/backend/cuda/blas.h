#pragma once

// Matrix products of many rows by cuBLASLt, which is opened when it is first needed.

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "backend/cuda/blas_api.h"
#include "backend/cuda/library.h"
#include "backend/cuda/memory.h"
#include "backend/tensor.h"

namespace qvl::cuda {

/// cuBLASLt's functions. One for the process.
class Blas {
 public:
  /// Opens QWEN2_VL_CUBLASLT, or libcublasLt.so.13 or .12, once. Throws
  /// Error(ERR_BACKEND_UNAVAILABLE) saying what is missing.
  static std::shared_ptr<const Blas> open();

  const std::string& path() const { return library_.path(); }
  size_t version() const { return version_; }

#define QVL_DECLARE(member, symbol, parameters) blas::Status(*member) parameters = nullptr;
  struct Functions {
    using Handle = blas::Handle;
    using MatmulDescriptor = blas::MatmulDescriptor;
    using MatrixLayout = blas::MatrixLayout;
    using Preference = blas::Preference;
    using HeuristicResult = blas::HeuristicResult;
    using Algorithm = blas::Algorithm;
    QVL_CUBLASLT_FUNCTIONS(QVL_DECLARE)
  };
#undef QVL_DECLARE
  const Functions* operator->() const { return &functions_; }

 private:
  friend const struct BlasState& blas_state();

  Library library_;
  Functions functions_;
  size_t version_ = 0;
};

/// What is there of cuBLASLt, whether or not it can be used.
struct BlasState {
  bool found = false;
  std::string path;
  size_t version = 0;  // 130200 = 13.2
  std::string reason;  // "" when usable
  std::shared_ptr<const Blas> blas;
};
/// Looked for once a process.
const BlasState& blas_state();

/// Products on one device. Not for several threads at once.
class MatrixProducts {
 public:
  MatrixProducts(Device& device, const std::shared_ptr<MemoryPool>& pool,
                 std::shared_ptr<const Blas> blas);
  ~MatrixProducts();
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  /// out [T, N] = x [T, K] * weight^T, or with `add` out += that. weight [N, K] and x have one
  /// 16-bit type; out has it too or is F32. Sums are F32. Products whose numbers of rows are in
  /// one class (see blas.cpp) use one algorithm, so that a row's result is the same in all of them;
  /// where the library does not take it for some number, that has one of its own.
  void multiply(const Tensor& out, const Tensor& x, const void* weight, bool add,
                api::Stream stream);

 private:
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, DType, DType, bool>;
  struct Choice {
    blas::Algorithm algorithm;
    size_t workspace_bytes;
  };
  struct Layouts;

  const Choice& choose(const Key& key);
  blas::Status run(const Choice& choice, const Layouts& layouts, const Tensor& out, const Tensor& x,
                   const void* weight, bool add, api::Stream stream);
  void check(blas::Status status, const char* what) const;

  Device& device_;
  std::shared_ptr<const Blas> blas_;
  blas::Handle handle_ = nullptr;
  blas::MatmulDescriptor descriptor_ = nullptr;
  CudaBuffer workspace_;
  std::map<Key, Choice> choices_;
};

}  // namespace qvl::cuda
