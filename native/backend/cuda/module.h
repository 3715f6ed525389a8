#pragma once

// A device, the kernels on it by name, and launching them.

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "backend/cuda/driver.h"

namespace qvl::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Dim3 grid;
  Dim3 block;
  size_t shared_bytes = 0;
  /// May start while the kernel before it in the stream still runs: for kernels that call
  /// wait_for_predecessor(). No difference before compute capability 9.0.
  bool overlaps_predecessor = false;
};

/// What is asked of a device once.
struct DeviceProperties {
  int ordinal = 0;
  std::string name;
  int compute_capability = 0;  // 80, 90, 120, ...
  int num_multiprocessors = 0;
  size_t max_shared_bytes = 0;  // of a block
  size_t memory_bytes = 0;
  // For benchmarks, 0 where the driver does not say: at most, in kHz, and bits a transfer.
  int clock_khz = 0;
  int memory_clock_khz = 0;
  int memory_bus_bits = 0;
};

/// Throws Error(ERR_BACKEND_UNAVAILABLE) when there is no such device.
DeviceProperties device_properties(const Driver& driver, int ordinal);

/// The least compute capability the kernels are compiled for.
inline constexpr int kLeastComputeCapability = 80;
/// "9.0"
std::string capability_text(int capability);
/// "" when the kernels run on the device.
std::string why_device_is_unusable(const DeviceProperties& properties);

/// A device's primary context, which all users in the process share.
class PrimaryContext {
 public:
  PrimaryContext(const Driver& driver, int ordinal);
  ~PrimaryContext();
  PrimaryContext(const PrimaryContext&) = delete;
  PrimaryContext& operator=(const PrimaryContext&) = delete;

  api::Context get() const { return context_; }
  /// Makes it the calling thread's.
  void make_current() const;
  size_t free_bytes() const;

 private:
  const Driver& driver_;
  api::Device device_ = 0;
  api::Context context_ = nullptr;
};

/// A device made ready: its primary context, and the modules with kernels, loaded as they are first
/// asked for. Safe to use from several threads.
class Device {
 public:
  /// Throws Error(ERR_BACKEND_UNAVAILABLE) when there is no such device, when it is too old, or
  /// when the build embeds no kernels.
  Device(std::shared_ptr<const Driver> driver, int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return *driver_; }
  const DeviceProperties& properties() const { return properties_; }
  /// Makes the device's context the calling thread's.
  void make_current() const { context_.make_current(); }
  /// The same in a destructor: what fails then has failed before.
  void make_current_quietly() const { (*driver_)->ctx_set_current(context_.get()); }
  size_t free_bytes() const { return context_.free_bytes(); }

  /// The kernel of this name. Throws Error(ERR_INTERNAL) when no module has it.
  api::Function kernel(std::string_view name);
  bool has_kernel(std::string_view name);
  /// Blocks of a kernel that the whole device holds at once.
  int64_t resident_blocks(std::string_view name, unsigned threads, size_t shared_bytes);

  /// Launches a kernel whose one parameter is the struct `params`.
  template <class Params>
  void launch(std::string_view name, api::Stream stream, const LaunchShape& shape,
              const Params& params) {
    launch_with(name, stream, shape, &params);
  }

 private:
  /// What a kernel may have without being allowed more.
  static constexpr size_t kDefaultSharedBytes = 48 << 10;
  struct Kernel {
    api::Function function = nullptr;  // null: looked for and not found
    size_t allowed_shared_bytes = kDefaultSharedBytes;
    std::map<size_t, int64_t> resident_blocks;  // by shared_bytes
  };

  void launch_with(std::string_view name, api::Stream stream, const LaunchShape& shape,
                   const void* params);
  Kernel& find(std::string_view name);
  void allow_shared(std::string_view name, Kernel& kernel, size_t shared_bytes);
  api::Function find_in_modules(const std::string& name);

  std::shared_ptr<const Driver> driver_;
  DeviceProperties properties_;
  PrimaryContext context_;
  std::mutex mutex_;
  std::map<std::string, api::Module, std::less<>> modules_;  // by family
  std::map<std::string, Kernel, std::less<>> kernels_;
};

}  // namespace qvl::cuda
