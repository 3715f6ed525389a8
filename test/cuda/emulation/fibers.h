#pragma once

// Runs a kernel compiled by the host's compiler: every thread of a block is a fiber, blocks run one
// after the other. A thread runs until it waits at a barrier or for its warp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include "launch.h"

namespace qvl::emulation {

struct EmulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Index3 {
  uint32_t x, y, z;
};

/// Where the running thread is.
struct Place {
  Index3 thread, block, block_size, grid_size;
  int number;  // of the thread in its block
};
extern Place* current;

/// Runs `body` as every thread of the launch. Throws EmulationError.
void run(const HostLaunch& launch, const std::function<void()>& body);

/// The block's dynamic shared memory. All ones at first, a NaN in every float format.
unsigned char* shared_memory();
size_t shared_bytes();

/// bar.sync: of the threads that have not ended.
void sync_block();

/// What a lane brings to an operation of its warp, and takes from it.
struct Slot {
  alignas(16) unsigned char in[48];
  alignas(16) unsigned char out[16];
};
using WarpOperation = void (*)(Slot (&lanes)[32], uint32_t mask);
/// Waits for all lanes of the mask; the last of them does the operation for all. `kind`: they must
/// agree.
void meet(const char* kind, uint32_t mask, const void* in, size_t in_bytes, void* out,
          size_t out_bytes, WarpOperation operation);

// cp.async: 16 bytes, or zeros.
void copy_async(void* dst, const void* src, bool valid);
void commit_copies();
void wait_for_copies(int pending);

}  // namespace qvl::emulation
