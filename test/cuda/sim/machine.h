#pragma once

// Launches: their options, their blocks in order or beside each other, what came before them.

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memory.h"
#include "program.h"
#include "warp.h"

namespace qvl::sim {

class Checker;

enum class Order { kForward, kReverse, kRandom };

/// How a launch is run; results must not depend on any of it.
struct Options {
  Order order = Order::kForward;  // of blocks, of warps, and of lanes where they meet in memory
  bool copies_early = false;      // cp.async lands at once instead of at its wait
  uint64_t seed = 1;
  bool check = true;   // races, uninitialised reads
  std::string report;  // file that gets a line of counters a launch

  size_t threads = 1;  // that run blocks when nothing is checked or counted

  /// From QWEN2_VL_SIM_ORDER (forward, reverse, random), QWEN2_VL_SIM_COPIES (late, early),
  /// QWEN2_VL_SIM_SEED, QWEN2_VL_SIM_CHECK (1, 0), QWEN2_VL_SIM_REPORT,
  /// QWEN2_VL_SIM_THREADS (the processor's).
  static Options from_environment();
};

struct Launch {
  const Program* program = nullptr;
  std::array<uint32_t, 3> grid{1, 1, 1}, block{1, 1, 1};
  size_t shared_bytes = 0;
  std::vector<unsigned char> parameters;
  bool programmatic = false;  // may start before its predecessor has ended
};

/// Counters of one instruction of a launch.
struct SiteCounters {
  uint64_t lanes = 0;      // executions, over lanes
  uint64_t requests = 0;   // of a warp to memory
  uint64_t bytes = 0;      // asked for
  uint64_t transfers = 0;  // sectors of 32 bytes (global), bank cycles (shared)
  uint64_t ideal = 0;      // the same of accesses laid out perfectly
};

/// What the warps of a block share.
struct Block {
  const Launch* launch = nullptr;
  const Program* program = nullptr;
  const Options* options = nullptr;
  std::array<uint32_t, 3> index{};
  uint32_t serial = 0;  // of all blocks ever run
  int threads = 0, alive = 0;
  std::vector<Warp> warps;
  std::array<int, 16> arrived{};  // bar.arrive: threads that did not stay, by barrier
  unsigned char* shared = nullptr;
  Checker* checker = nullptr;                // null when not checking
  SiteCounters* counters = nullptr;          // by instruction; null when nobody asks
  std::vector<Allocation>* hints = nullptr;  // by instruction: where it last found its addresses
  uint32_t launch_serial = 0;
  uint64_t touched_sectors = 0;
};

/// Runs the launch to its end. Throws KernelError.
void run_launch(const Launch& launch, const Options& options);
/// What a later programmatic launch need not fear any more: everything before has ended.
void synchronize_launches();

/// A kernel that is not interpreted ran to its end and wrote [address, address + bytes): a
/// programmatic launch behind it must wait for it too.
void note_library_kernel(uint64_t address, size_t bytes);

/// Throws KernelError saying where.
[[noreturn]] void fail(const Warp& warp, const Instruction& in, int lane, const std::string& what,
                       KernelError::Kind kind = KernelError::Kind::kLaunchFailed);

}  // namespace qvl::sim
