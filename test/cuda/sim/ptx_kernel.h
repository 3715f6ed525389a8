#pragma once

// Small kernels written as PTX in a test, run on the simulator without the driver.

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"
#include "machine.h"
#include "memory.h"
#include "program.h"

namespace qvl::sim {

/// `count` elements of device memory, freed at the end of the scope.
template <class T>
class DeviceValues {
 public:
  explicit DeviceValues(const std::vector<T>& values)
      : size_(values.size()), address_(DeviceMemory::instance().allocate(size_ * sizeof(T))) {
    std::memcpy(DeviceMemory::instance().host(address_), values.data(), size_ * sizeof(T));
  }
  ~DeviceValues() { DeviceMemory::instance().release(address_); }
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  uint64_t address() const { return address_; }
  std::vector<T> read() const {
    std::vector<T> values(size_);
    std::memcpy(values.data(), DeviceMemory::instance().host(address_), size_ * sizeof(T));
    return values;
  }

 private:
  size_t size_;
  uint64_t address_;
};

/// A module with one entry "kernel" of 64-bit parameters p0, p1, ...; `body` finds them in %d0, %d1
/// ... and may use %r<100>, %d<100>, %h<100> (16 bits), %f<100> and %p<100>.
inline std::string ptx_text(const std::string& body, int parameters) {
  std::string list, loads;
  for (int i = 0; i < parameters; ++i) {
    const std::string n = std::to_string(i);
    list += (i ? ", " : "") + std::string(".param .u64 p") + n;
    loads += "ld.param.u64 %d" + n + ", [p" + n + "];\n";
  }
  return ".version 9.0\n.target sm_80\n.address_size 64\n"
         ".extern .shared .align 16 .b8 shared[];\n"
         ".visible .entry kernel(" +
         list +
         ")\n{\n"
         ".reg .b32 %r<100>;\n.reg .b64 %d<100>;\n.reg .b16 %h<100>;\n.reg .f32 %f<100>;\n.reg "
         ".pred %p<100>;\n" +
         loads + body + "\nret;\n}\n";
}

/// Runs `body` (see ptx_text) with the addresses as parameters.
inline void run_ptx(const std::string& body, const std::vector<uint64_t>& parameters,
                    uint32_t threads = 32, size_t shared_bytes = 0, uint32_t blocks = 1,
                    const Options& options = {}) {
  const PtxModule module(ptx_text(body, static_cast<int>(parameters.size())));
  Launch launch;
  launch.program = module.find("kernel");
  launch.grid = {blocks, 1, 1};
  launch.block = {threads, 1, 1};
  launch.shared_bytes = shared_bytes;
  launch.parameters.resize(launch.program->parameter_bytes);
  if (!parameters.empty())
    std::memcpy(launch.parameters.data(), parameters.data(), launch.parameters.size());
  run_launch(launch, options);
}

/// The message with which the kernel fails; "" when it does not.
inline std::string failure_of(const std::string& body, const std::vector<uint64_t>& parameters,
                              uint32_t threads = 32, size_t shared_bytes = 0, uint32_t blocks = 1,
                              const Options& options = {}) {
  try {
    run_ptx(body, parameters, threads, shared_bytes, blocks, options);
    return "";
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace qvl::sim
