#pragma once

// How the stand-in driver starts a kernel that the host's compiler made.

#include <cstddef>
#include <cstdint>

namespace qvl::emulation {

enum class Order : int { kForward, kReverse, kRandom };

struct HostLaunch {
  const char* kernel;  // its extern "C" name
  uint32_t grid[3];
  uint32_t block[3];
  size_t shared_bytes;
  const void* params;  // the kernel's one struct
  size_t params_bytes;
  Order order;        // of blocks, and of the threads that could go on
  bool copies_early;  // cp.async lands at once instead of at its wait
  uint64_t seed;
};

/// qvl_emulate of libhost_kernels.so: runs the launch to its end; null, or what went wrong, valid
/// until the next call.
using Emulate = const char* (*)(const HostLaunch* launch);

}  // namespace qvl::emulation
