#pragma once

// Finds what a schedule may hide: accesses to shared memory with no barrier between them, reads of
// what nobody wrote, copies that nobody waited for, blocks that meet in global memory. Exact,
// whatever order the warps ran in.

#include <cstdint>
#include <map>
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
  /// A lane acquires what was released at `at`, and releases what it comes after.
  void ordering_atomic(const Warp& w, int lane, uint64_t at);
  /// The warps met at a barrier: each now knows what the others have acquired.
  void joined(const std::vector<Warp*>& warps);
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

  // What is known of a block: clocks of its warps, and threads that released at their warp's clock.
  struct View {
    uint32_t known[32] = {};
    std::vector<uint32_t> threads;
  };
  using Knowledge = std::map<uint32_t, View>;  // by the block's serial
  static void merge(View& to, const View& from);
  static void merge(Knowledge& to, const Knowledge& from);
  // Whether what a block's thread (see writer_detail) did comes before what the lane does now.
  bool comes_after(const Warp& w, int lane, uint32_t serial, uint32_t detail) const;
  bool knows(const Warp& w, uint32_t serial) const;
  void global_word(const Warp& w, const Instruction& in, int lane, GlobalShadow& word,
                   uint32_t& detail, bool is_read);

  const Block* block_ = nullptr;
  uint32_t first_block_ = 1, unfinished_ = 0;
  bool programmatic_ = false;
  size_t granule_ = 4;
  std::vector<Granule> granules_;
  std::vector<uint8_t> pending_;
  std::map<uint64_t, Knowledge> released_;  // by the atomic's address
  std::vector<Knowledge> acquired_;         // by warp of the running block
};

}  // namespace qvl::sim
