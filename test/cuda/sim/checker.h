#pragma once

// Finds what a schedule may hide: accesses to shared memory with no barrier between them, reads of
// what nobody wrote, copies that nobody waited for, blocks that meet in global memory. Exact,
// whatever order the warps ran in.

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "machine.h"

namespace qvl::sim {

enum class Use : uint8_t { kRead, kWrite, kAtomic };

class Checker {
 public:
  /// Blocks of a launch get serials from `first_block`; a programmatic launch must not, before its
  /// griddepcontrol.wait, touch what blocks from `unfinished` on have written.
  void begin_launch(uint32_t first_block, uint32_t unfinished, bool programmatic);
  void begin_block(const Block& block);

  /// `at` are offsets into the block's shared memory.
  void shared(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
              Use use);
  void global(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
              Use use);
  void ordering_atomic(uint64_t at);
  void copy_issued(Warp& w, const Instruction& in, int lane, uint64_t to, int bytes);
  void copy_landed(Warp& w, const Instruction& in, int lane, uint64_t to, int bytes);

 private:
  // Who touched a granule of shared memory: site, thread, its warp's clock; 0 = nobody in this
  // block.
  using Access = uint64_t;
  struct Granule {
    Access writer = 0;
    Access reader[2] = {0, 0};
  };
  Access stamp(const Warp& w, const Instruction& in, int lane, bool atomic) const;
  bool ordered(Access before, const Warp& w, Access now) const;
  [[noreturn]] void race(const Warp& w, const Instruction& in, int lane, const char* kind,
                         size_t at, Access before) const;
  void touch(Warp& w, const Instruction& in, int lane, uint64_t at, int bytes, Use use);
  void note_read(Granule& g, const Warp& w, Access now);

  const Block* block_ = nullptr;
  uint32_t first_block_ = 1, unfinished_ = 0;
  bool programmatic_ = false;
  size_t granule_ = 4;
  std::vector<Granule> granules_;
  std::vector<uint8_t> pending_;
  std::map<uint64_t, std::vector<uint32_t>> released_;  // blocks by the atomic they went through
  std::set<uint32_t> acquired_;                         // those the running block comes after
};

}  // namespace qvl::sim
