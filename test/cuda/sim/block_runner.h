#pragma once

// The warps of a block take turns; lanes of a warp part, and meet again.

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "machine.h"

namespace qvl::sim {

/// Runs blocks of a launch one after the other; keeps its memory between them.
class BlockRunner {
 public:
  BlockRunner(const Launch& launch, const Options& options, Checker* checker,
              SiteCounters* counters, uint32_t launch_serial);

  /// Runs the block at `index` of the grid, the `serial`th of all ever run, until its last thread
  /// has left. Throws KernelError.
  void run(std::array<uint32_t, 3> index, uint32_t serial);
  /// Different sectors of global memory that the blocks so far have touched; counted with counters.
  uint64_t touched_sectors() const { return block_.touched_sectors; }

 private:
  static unsigned char* align(uint64_t* p);
  void begin(std::array<uint32_t, 3> index, uint32_t serial);
  void set_special_registers(Warp& w);

  // A warp that can run, by the chosen order, or -1.
  int pick();
  // The lanes that are furthest behind go first, so that they catch up with the others.
  static Group take_least(Warp& w, int* stop);
  // Runs the warp until it waits, has left, or `limit` instructions are done; returns how many
  // were.
  uint64_t run_warp(Warp& w, uint64_t limit);

  // Instructions that change which lanes run where; returns the least pc of lanes parted with.
  int control(Warp& w, const Instruction& in, Group* g, uint32_t mask);
  // Whether a collective's mask is, for all of its lanes, exactly the lanes that are here.
  static bool whole(const Warp& w, const Instruction& in, uint32_t lanes);
  // Lanes come to a collective apart from others that it names.
  int meet(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc);
  // Lanes end.
  void leave(Warp& w, const Instruction& in, uint32_t mask);
  // Lanes come to a barrier of the block.
  int arrive(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc);

  // All lanes of a warp that wait must do so at one place: barriers are for whole warps.
  void check_divergence(int index);
  // Lets go on whom a complete barrier held; false when there is none.
  bool release_barriers();
  void release(int id);

  // What errors begin with.
  std::string where(int warp, int lane) const;
  // The error that nobody can run any more.
  std::string stuck() const;

  const Launch& launch_;
  const Program& program_;
  const Options& options_;
  Block block_;
  std::vector<uint64_t> registers_, constants_, shared_;
  std::vector<unsigned char> local_;
  std::vector<Allocation> hints_;
  std::mt19937_64 random_;
};

}  // namespace qvl::sim
