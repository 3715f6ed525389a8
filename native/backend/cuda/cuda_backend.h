#pragma once

#include <memory>

#include "backend/backend.h"

namespace qvl {

struct CudaBackendOptions {
  int ordinal = 0;
  /// Of weights, activations and the key/value cache: kBF16 or kF16.
  DType dtype = DType::kBF16;
};

/// Throws Error(ERR_BACKEND_UNAVAILABLE) saying what is missing: see cuda_info.h.
std::unique_ptr<Backend> create_cuda_backend(const CudaBackendOptions& options);

}  // namespace qvl
