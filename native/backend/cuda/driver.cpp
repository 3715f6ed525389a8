#include "backend/cuda/driver.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "common/error.h"

namespace qvl::cuda {
namespace {

constexpr const char* kWayOut = "install NVIDIA's driver, version 580 or newer";

/// After these the device answers nothing to this process any more: uncorrectable memory, an
/// illegal address, a kernel that took too long, failed assertions and instructions.
constexpr api::Result kFatal[] = {214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719};

std::array<std::string, 1> driver_names() {
  const char* other = std::getenv("QWEN2_VL_CUDA_DRIVER");
  return {other != nullptr && *other != '\0' ? other : "libcuda.so.1"};
}

QVL_DEFINE_FIND_FUNCTIONS(QVL_CUDA_DRIVER_FUNCTIONS, Driver::Functions)

}  // namespace

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string Driver::describe(api::Result result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  functions_.get_error_name(result, &name);
  functions_.get_error_string(result, &text);
  std::string words = name != nullptr ? name : "CUDA error " + std::to_string(result);
  if (text != nullptr) words += std::string(": ") + text;
  return words;
}

void Driver::check(api::Result result, const std::string& what) const {
  if (result == api::kSuccess) return;
  if (result == api::kOutOfMemory) {
    throw Error("ERR_OUT_OF_MEMORY",
                what + ": the GPU's memory is used up (" + describe(result) +
                    "): use a smaller memory budget, quantise the weights, or stop what else runs "
                    "on the device",
                {{"device", std::string("cuda")}});
  }
  const bool is_fatal = std::find(std::begin(kFatal), std::end(kFatal), result) != std::end(kFatal);
  throw Error(
      "ERR_BACKEND_FAILED",
      what + " failed: " + describe(result) + ". " +
          (is_fatal ? "The GPU is lost to this process: start it anew" : "Load the model again") +
          "; if this happens again, use device 'cpu' and report it",
      {{"cudaError", int64_t{result}}});
}

DriverState Driver::find() {
  DriverState state;
  std::shared_ptr<Driver> driver(new Driver);
  driver->library_ = Library::open(driver_names());
  if (!driver->library_.is_open()) {
    state.reason = "no CUDA driver: " + driver->library_.error() + "; " + kWayOut;
    return state;
  }
  state.found = true;
  state.path = driver->path();
  const auto unusable = [&](const std::string& reason) {
    state.reason = reason;
    return state;
  };
  const char* missing = find_functions(driver->library_, &driver->functions_);
  if (missing != nullptr) {
    return unusable("the CUDA driver " + state.path + " is too old: it lacks " + missing + "; " +
                    kWayOut);
  }
  // Asking the version needs no device.
  if (driver->functions_.driver_get_version(&driver->version_) == api::kSuccess) {
    state.version = driver->version_;
  }
  if (driver->version_ < kLeastDriverVersion) {
    return unusable("the CUDA driver " + state.path + " supports CUDA " +
                    version_text(driver->version_) + ", and " + version_text(kLeastDriverVersion) +
                    " is needed; " + kWayOut);
  }
  const api::Result result = driver->functions_.init(0);
  if (result != api::kSuccess && result != api::kNoDevice) {
    return unusable("the CUDA driver " + state.path +
                    " does not start: " + driver->describe(result) + "; " + kWayOut);
  }
  if (result == api::kNoDevice ||
      driver->functions_.device_get_count(&driver->num_devices_) != api::kSuccess ||
      driver->num_devices_ == 0) {
    return unusable("the CUDA driver " + state.path + " finds no GPU (see CUDA_VISIBLE_DEVICES)");
  }
  state.driver = std::move(driver);
  return state;
}

const DriverState& driver_state() {
  static const DriverState state = Driver::find();
  return state;
}

std::shared_ptr<const Driver> Driver::open() {
  const DriverState& state = driver_state();
  if (state.driver == nullptr) throw Error("ERR_BACKEND_UNAVAILABLE", state.reason);
  return state.driver;
}

}  // namespace qvl::cuda
