#pragma once

// The device's memory. Device addresses are numbers of their own, outside everything the host maps,
// so that host code which follows a device pointer faults here as it does with a GPU. Only where
// kernels are the host's own (host_kernels.h) is the memory where its addresses say.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace qvl::sim {

/// Windows of the generic address space.
inline constexpr uint64_t kSharedWindow = 0x0100'0000'0000;
inline constexpr uint64_t kLocalWindow = 0x0200'0000'0000;
inline constexpr uint64_t kParamWindow = 0x0300'0000'0000;
inline constexpr uint64_t kConstantWindow = 0x0400'0000'0000;
inline constexpr uint64_t kGlobalWindow = 0x2a00'0000'0000;
inline constexpr int kWindowBits = 40;

/// A live device allocation.
struct Allocation {
  uint64_t address = 0;
  size_t bytes = 0;
  bool contains(uint64_t at, size_t n) const {
    return at >= address && at - address <= bytes && n <= bytes - (at - address);
  }
};

/// What the checker knows of two bytes of global memory: serials of blocks, 0 = nobody.
struct GlobalShadow {
  uint32_t writer = 0;
  uint32_t reader = 0;
};

/// Device memory with unmapped distance between allocations. New memory is all ones, a NaN in every
/// float format. Safe to use from several threads, except that freeing what a kernel uses is an
/// error of the caller, as on a GPU.
class DeviceMemory {
 public:
  /// The one device's memory.
  static DeviceMemory& instance();

  /// QWEN2_VL_SIM_MEMORY bytes (2 GiB when not set): what it is now, so that a process can lower it
  /// beneath itself, as others on a device take memory.
  size_t capacity() const;
  size_t free() const;
  size_t used() const;

  /// 0 when the memory does not suffice.
  uint64_t allocate(size_t bytes);
  /// False when there is no such allocation.
  bool release(uint64_t address);
  /// The allocation that holds [at, at + bytes), or one of size 0.
  Allocation find(uint64_t at, size_t bytes) const;
  /// "12 bytes after the allocation of 256 bytes at 0xa00..." for messages.
  std::string describe(uint64_t at) const;
  std::vector<Allocation> live() const;

  unsigned char* host(uint64_t at) const { return arena_ + (at - kGlobalWindow); }
  /// The last launch that touched the 32-byte sector of an address.
  uint32_t& sector_launch(uint64_t at) const { return sectors_[(at - kGlobalWindow) / 32]; }
  /// Beside each shadow: the thread and clock of its writer, touched only where kernels write.
  uint32_t* writer_detail(uint64_t at) const { return details_ + (at - kGlobalWindow) / 2; }
  GlobalShadow* shadow(uint64_t at) const { return shadow_ + (at - kGlobalWindow) / 2; }

 private:
  DeviceMemory();

  mutable std::mutex mutex_;
  size_t used_ = 0;
  unsigned char* arena_;
  GlobalShadow* shadow_;
  uint32_t* sectors_;
  uint32_t* details_;
  uint64_t next_ = 0;
  std::map<uint64_t, size_t> live_;
};

}  // namespace qvl::sim
