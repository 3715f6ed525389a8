#include "backend/cuda/cuda_info.h"

#include "backend/cuda/blas.h"
#include "backend/cuda/driver.h"
#include "backend/cuda/embedded_modules.h"
#include "backend/cuda/module.h"
#include "common/error.h"

namespace qvl::cuda {
namespace {

std::string blas_version_text(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

/// Why device `ordinal` cannot be used, or ""; fills its summary.
std::string describe_device(const Driver& driver, int ordinal, bool ask_free, DeviceSummary* out) {
  out->properties = device_properties(driver, ordinal);
  std::string reason = why_device_is_unusable(out->properties);
  if (reason.empty() && ask_free) {
    out->free_bytes = static_cast<int64_t>(PrimaryContext(driver, ordinal).free_bytes());
  }
  return reason;
}

}  // namespace

CudaInfo cuda_info(std::optional<int> ordinal) {
  CudaInfo info;
  info.built = !embedded_modules().empty();
  info.built_reason = why_no_modules();
  const DriverState& driver = driver_state();
  info.driver = {driver.found, driver.path, driver.found ? version_text(driver.version) : ""};
  const BlasState& blas = blas_state();
  info.cublas_lt = {blas.found, blas.path, blas.version > 0 ? blas_version_text(blas.version) : ""};
  std::string device_reason;
  if (driver.driver != nullptr) {
    for (int i = 0; i < driver.driver->num_devices(); ++i) {
      DeviceSummary& summary = info.devices.emplace_back();
      try {
        const bool ask_free = info.built && (!ordinal || *ordinal == i);
        summary.reason = describe_device(*driver.driver, i, ask_free, &summary);
      } catch (const Error& error) {
        summary.reason = error.what();
      }
      if (summary.reason.empty()) info.usable = true;
      if (device_reason.empty()) device_reason = summary.reason;
    }
  }
  info.usable = info.usable && info.built && blas.blas != nullptr;
  if (info.usable) return info;
  info.reason = !info.built                ? "no CUDA kernels: " + info.built_reason
                : driver.driver == nullptr ? driver.reason
                : blas.blas == nullptr     ? blas.reason
                                           : device_reason;
  return info;
}

}  // namespace qvl::cuda
