#include "backend/cuda/module.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "backend/cuda/embedded_modules.h"
#include "common/error.h"

namespace qvl::cuda {
namespace {

int attribute(const Driver& driver, api::Device device, int which) {
  int value = 0;
  driver.check(driver->device_get_attribute(&value, which, device),
               "asking an attribute of a CUDA device");
  return value;
}

/// Families whose name begins the kernel's first, the longest of them first: most often the first
/// one has it.
std::vector<EmbeddedModule> modules_for(const std::string& kernel) {
  const auto embedded = embedded_modules();
  std::vector<EmbeddedModule> modules(embedded.begin(), embedded.end());
  const auto rank = [&](const EmbeddedModule& module) {
    const std::string_view family = module.family;
    return kernel.starts_with(family) ? family.size() : size_t{0};
  };
  std::stable_sort(
      modules.begin(), modules.end(),
      [&](const EmbeddedModule& a, const EmbeddedModule& b) { return rank(a) > rank(b); });
  return modules;
}

}  // namespace

DeviceProperties device_properties(const Driver& driver, int ordinal) {
  if (ordinal < 0 || ordinal >= driver.num_devices()) {
    throw Error("ERR_BACKEND_UNAVAILABLE",
                "there is no CUDA device " + std::to_string(ordinal) + ": the driver finds " +
                    std::to_string(driver.num_devices()) + ", counted from 0");
  }
  DeviceProperties properties;
  properties.ordinal = ordinal;
  api::Device device = 0;
  driver.check(driver->device_get(&device, ordinal), "opening a CUDA device");
  std::array<char, 256> name{};
  driver.check(driver->device_get_name(name.data(), int{name.size()} - 1, device),
               "asking a CUDA device's name");
  properties.name = name.data();
  properties.compute_capability = attribute(driver, device, api::kComputeCapabilityMajor) * 10 +
                                  attribute(driver, device, api::kComputeCapabilityMinor);
  properties.num_multiprocessors = attribute(driver, device, api::kMultiprocessorCount);
  properties.max_shared_bytes =
      static_cast<size_t>(attribute(driver, device, api::kMaxSharedMemoryPerBlockOptin));
  properties.clock_khz = attribute(driver, device, api::kClockRate);
  properties.memory_clock_khz = attribute(driver, device, api::kMemoryClockRate);
  properties.memory_bus_bits = attribute(driver, device, api::kMemoryBusWidth);
  driver.check(driver->device_total_mem(&properties.memory_bytes, device),
               "asking a CUDA device's memory");
  return properties;
}

std::string capability_text(int capability) {
  return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

std::string why_device_is_unusable(const DeviceProperties& properties) {
  if (properties.compute_capability >= kLeastComputeCapability) return "";
  return properties.name + " has compute capability " +
         capability_text(properties.compute_capability) + ", and " +
         capability_text(kLeastComputeCapability) + " (Ampere) is the least";
}

PrimaryContext::PrimaryContext(const Driver& driver, int ordinal) : driver_(driver) {
  driver_.check(driver_->device_get(&device_, ordinal), "opening a CUDA device");
  driver_.check(driver_->device_primary_ctx_retain(&context_, device_), "starting a CUDA device");
  make_current();
}

PrimaryContext::~PrimaryContext() { driver_->device_primary_ctx_release(device_); }

void PrimaryContext::make_current() const {
  driver_.check(driver_->ctx_set_current(context_), "selecting a CUDA device");
}

size_t PrimaryContext::free_bytes() const {
  size_t free = 0;
  size_t total = 0;
  driver_.check(driver_->mem_get_info(&free, &total), "asking a CUDA device's free memory");
  return free;
}

namespace {

/// Before anything is started on it.
DeviceProperties usable_device(const Driver& driver, int ordinal) {
  DeviceProperties properties = device_properties(driver, ordinal);
  std::string reason = why_device_is_unusable(properties);
  if (embedded_modules().empty()) reason = std::string("no CUDA kernels: ") + why_no_modules();
  if (!reason.empty()) throw Error("ERR_BACKEND_UNAVAILABLE", reason);
  return properties;
}

}  // namespace

Device::Device(std::shared_ptr<const Driver> driver, int ordinal)
    : driver_(std::move(driver)),
      properties_(usable_device(*driver_, ordinal)),
      context_(*driver_, ordinal) {}

Device::~Device() {
  make_current_quietly();
  for (const auto& [family, module] : modules_) (*driver_)->module_unload(module);
}

api::Function Device::find_in_modules(const std::string& name) {
  const Driver& call = *driver_;
  for (const EmbeddedModule& embedded : modules_for(name)) {
    auto found = modules_.find(embedded.family);
    if (found == modules_.end()) {
      api::Module module = nullptr;
      call.check(call->module_load_data(&module, embedded.image),
                 std::string("loading the CUDA kernels ") + embedded.family);
      found = modules_.emplace(embedded.family, module).first;
    }
    api::Function function = nullptr;
    const api::Result result = call->module_get_function(&function, found->second, name.c_str());
    if (result == api::kSuccess) return function;
    if (result != api::kNotFound) call.check(result, "finding the CUDA kernel " + name);
  }
  return nullptr;
}

Device::Kernel& Device::find(std::string_view name) {
  auto found = kernels_.find(name);
  if (found == kernels_.end()) {
    std::string text(name);
    const api::Function function = find_in_modules(text);
    found = kernels_.emplace(std::move(text), Kernel{function, kDefaultSharedBytes, {}}).first;
  }
  return found->second;
}

bool Device::has_kernel(std::string_view name) {
  const std::lock_guard lock(mutex_);
  return find(name).function != nullptr;
}

api::Function Device::kernel(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const api::Function function = find(name).function;
  if (function == nullptr) {
    throw Error("ERR_INTERNAL", "there is no CUDA kernel " + std::string(name));
  }
  return function;
}

void Device::allow_shared(std::string_view name, Kernel& kernel, size_t shared_bytes) {
  if (shared_bytes <= kernel.allowed_shared_bytes) return;
  driver_->check((*driver_)->func_set_attribute(kernel.function, api::kMaxDynamicSharedSizeBytes,
                                                static_cast<int>(shared_bytes)),
                 "giving the CUDA kernel " + std::string(name) + " " +
                     std::to_string(shared_bytes) + " bytes of shared memory");
  kernel.allowed_shared_bytes = shared_bytes;
}

int64_t Device::resident_blocks(std::string_view name, unsigned threads, size_t shared_bytes) {
  const api::Function function = kernel(name);
  const std::lock_guard lock(mutex_);
  Kernel& entry = find(name);
  const auto known = entry.resident_blocks.find(shared_bytes);
  if (known != entry.resident_blocks.end()) return known->second;
  allow_shared(name, entry, shared_bytes);
  int blocks = 0;
  driver_->check((*driver_)->occupancy(&blocks, function, static_cast<int>(threads), shared_bytes),
                 "asking how many blocks of the CUDA kernel " + std::string(name) + " fit");
  const int64_t all = int64_t{std::max(blocks, 1)} * properties_.num_multiprocessors;
  entry.resident_blocks.emplace(shared_bytes, all);
  return all;
}

void Device::launch_with(std::string_view name, api::Stream stream, const LaunchShape& shape,
                         const void* params) {
  const Driver& call = *driver_;
  const api::Function function = kernel(name);
  {
    const std::lock_guard lock(mutex_);
    allow_shared(name, find(name), shape.shared_bytes);
  }
  api::LaunchAttribute overlap{};
  overlap.id = api::kProgrammaticStreamSerialization;
  overlap.value.programmatic_stream_serialization_allowed = 1;
  const bool overlaps = shape.overlaps_predecessor && properties_.compute_capability >= 90;
  const api::LaunchConfig config{shape.grid.x,
                                 shape.grid.y,
                                 shape.grid.z,
                                 shape.block.x,
                                 shape.block.y,
                                 shape.block.z,
                                 static_cast<unsigned>(shape.shared_bytes),
                                 stream,
                                 overlaps ? &overlap : nullptr,
                                 overlaps ? 1U : 0U};
  // The driver copies the parameters before it returns.
  void* arguments[] = {const_cast<void*>(params)};
  call.check(call->launch_kernel(&config, function, arguments, nullptr),
             "the CUDA kernel " + std::string(name));
}

}  // namespace qvl::cuda
