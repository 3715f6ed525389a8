#pragma once

// A warp as handlers see it: registers, its block, its copies on the way.

#include <cstdint>
#include <vector>

#include "error.h"
#include "program.h"

namespace qvl::sim {

struct Block;

/// One cp.async of a warp, still on its way.
struct PendingCopy {
  const Instruction* site;
  uint32_t lanes;  // for which it has not landed
  uint64_t to[kLanes], from[kLanes];
  uint8_t valid[kLanes];
  uint32_t group[kLanes];
};

/// Lanes that are at the same instruction.
struct Group {
  int pc;
  uint32_t lanes;
};

/// Lanes that wait for others of their warp, or at a barrier.
struct Waiting {
  int pc;
  uint32_t lanes;
  uint32_t needed;   // the mask of a collective
  int barrier = -1;  // or the barrier's number
  int count = 0;     // threads the barrier waits for; 0 = all of the block
};

struct Warp {
  Block* block = nullptr;
  int index = 0;
  uint32_t alive = 0;  // lanes that have not left
  // Vector clock: known[v] counts the synchronisations of warp v that this warp comes after; its
  // own entry is its own count.
  uint32_t known[32] = {};
  uint32_t waited_lanes = 0;  // lanes past griddepcontrol.wait
  unsigned char* registers = nullptr;
  const unsigned char* constants = nullptr;
  unsigned char* local = nullptr;
  std::vector<Group> groups;  // by pc
  std::vector<Waiting> waiting;
  std::vector<PendingCopy> copies;
  uint32_t committed[kLanes] = {};  // groups of copies closed so far

  template <class T>
  T* at(Operand o) const {
    return reinterpret_cast<T*>(registers + o);
  }
  template <class T>
  const T* get(Operand o) const {
    return reinterpret_cast<const T*>((o & kConstant ? constants : registers) + (o & ~kConstant));
  }
};

/// How a value of a type lies in a register of 32 lanes.
template <class T>
using Stored =
    std::conditional_t<sizeof(T) == 8, T, std::conditional_t<sizeof(T) == 4, T, uint32_t>>;
template <class T>
T from_stored(Stored<T> v) {
  return static_cast<T>(v);
}
template <class T>
Stored<T> to_stored(T v) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<std::make_unsigned_t<T>>(v);
  } else {
    return v;
  }
}

}  // namespace qvl::sim
