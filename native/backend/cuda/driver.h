#pragma once

// The CUDA driver, libcuda.so.1, opened when the first GPU is asked for.

#include <memory>
#include <string>

#include "backend/cuda/driver_api.h"
#include "backend/cuda/library.h"

namespace qvl::cuda {

/// The oldest driver whose interface the kernels' images need, as cuDriverGetVersion() counts.
inline constexpr int kLeastDriverVersion = 13000;
/// "13.0"
std::string version_text(int version);

struct DriverState;

/// The driver's functions. One for the process.
class Driver {
 public:
  /// Opens QWEN2_VL_CUDA_DRIVER, or libcuda.so.1, once. Throws Error(ERR_BACKEND_UNAVAILABLE)
  /// saying what is missing: the library, a newer driver, or a device.
  static std::shared_ptr<const Driver> open();
  /// Looks for the driver anew; driver_state() keeps the first answer. Never throws.
  static DriverState find();

  const std::string& path() const { return library_.path(); }
  int version() const { return version_; }
  int num_devices() const { return num_devices_; }

  /// Throws unless `result` is success: Error(ERR_OUT_OF_MEMORY) for want of memory, otherwise
  /// Error(ERR_BACKEND_FAILED) with the driver's words; `what` says what was tried.
  void check(api::Result result, const std::string& what) const;
  /// "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"
  std::string describe(api::Result result) const;

#define QVL_DECLARE(member, symbol, parameters) api::Result(*member) parameters = nullptr;
  struct Functions {
    using Result = api::Result;
    using Device = api::Device;
    using DevicePointer = api::DevicePointer;
    using Context = api::Context;
    using Stream = api::Stream;
    using Event = api::Event;
    using Module = api::Module;
    using Function = api::Function;
    using Graph = api::Graph;
    using GraphExec = api::GraphExec;
    using LaunchConfig = api::LaunchConfig;
    QVL_CUDA_DRIVER_FUNCTIONS(QVL_DECLARE)
  };
#undef QVL_DECLARE
  const Functions* operator->() const { return &functions_; }

 private:
  Driver() = default;

  Library library_;
  Functions functions_;
  int version_ = 0;
  int num_devices_ = 0;
};

/// What is there of the driver, whether or not it can be used.
struct DriverState {
  bool found = false;
  std::string path;
  int version = 0;
  std::string reason;                    // "" when usable
  std::shared_ptr<const Driver> driver;  // null when not usable
};
/// Looked for once a process.
const DriverState& driver_state();

}  // namespace qvl::cuda
