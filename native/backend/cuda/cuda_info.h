#pragma once

// What there is of CUDA on this machine, and what is missing.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/module.h"

namespace qvl::cuda {

/// A shared library that was looked for.
struct LibraryInfo {
  bool found = false;
  std::string path;
  std::string version;  // "" when it does not say
};

struct DeviceSummary {
  DeviceProperties properties;
  std::optional<int64_t> free_bytes;  // where it was asked
  std::string reason;                 // why no model can run on it
};

struct CudaInfo {
  bool built = false;        // kernels are inside
  std::string built_reason;  // why not
  LibraryInfo driver;
  LibraryInfo cublas_lt;
  std::vector<DeviceSummary> devices;
  bool usable = false;
  std::string reason;  // why not: what is missing first
};

/// Never throws for what is missing. Free memory is asked of device `ordinal` only, of all devices
/// without one: asking starts a device, which takes a while.
CudaInfo cuda_info(std::optional<int> ordinal);

}  // namespace qvl::cuda
