#pragma once

#include <memory>

#include "backend/backend.h"

namespace qvl {

struct CpuBackendOptions {
  /// 0 = the physical cores this process may use (affinity and cgroup quota respected).
  int threads = 0;
  /// "" = the best the processor has; a name of kernels::available_kernels() forces one. The addon
  /// fills it from QWEN2_VL_CPU. Throws Error(ERR_BACKEND_UNAVAILABLE) when unknown or absent.
  std::string instruction_set;
};

std::unique_ptr<Backend> create_cpu_backend(const CpuBackendOptions& options);

}  // namespace qvl
