#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qvl {

/// Finds values that are kept elsewhere, in order of arrival, by their hash: index -> value is the
/// owner's business.
class InternTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  /// The index for which `equals` holds, or kNone.
  template <class Equals>
  uint32_t find(uint64_t hash, const Equals& equals) const {
    if (slots_.empty()) return kNone;
    const size_t mask = slots_.size() - 1;
    for (size_t slot = spread(hash) & mask;; slot = (slot + 1) & mask) {
      const Slot& entry = slots_[slot];
      if (entry.index == kNone) return kNone;
      if (entry.hash == static_cast<uint32_t>(hash) && equals(entry.index)) return entry.index;
    }
  }

  void insert(uint64_t hash, uint32_t index) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    put({static_cast<uint32_t>(hash), spread(hash), index});
    ++size_;
  }

  /// Forgets all; the cost follows from what was in it.
  void clear() {
    if (size_ > 0) std::fill(slots_.begin(), slots_.end(), Slot{});
    size_ = 0;
  }

  size_t size_bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    uint32_t hash = 0, place = 0;
    uint32_t index = kNone;
  };

  static uint32_t spread(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  void put(const Slot& entry) {
    const size_t mask = slots_.size() - 1;
    size_t slot = entry.place & mask;
    while (slots_[slot].index != kNone) slot = (slot + 1) & mask;
    slots_[slot] = entry;
  }

  void grow() {
    std::vector<Slot> old(std::max<size_t>(64, slots_.size() * 2));
    old.swap(slots_);
    for (const Slot& entry : old) {
      if (entry.index != kNone) put(entry);
    }
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t size_ = 0;
};

inline uint64_t mix_hash(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 32);
}

}  // namespace qvl
