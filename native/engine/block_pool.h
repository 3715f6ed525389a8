#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qvl {

/// Which KV blocks are in use, and by how many. A block may have several owners (sequences with a
/// common prefix); it is free again when the last one releases it.
class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  /// The free block with the lowest index, with one owner; -1 when there is none. Lowest first,
  /// because the cache commits memory where it is first written: the used part stays compact.
  int32_t allocate();
  /// Adds an owner to a used block.
  void retain(int32_t block);
  /// Takes an owner from a used block.
  void release(int32_t block);

  int64_t num_total() const { return static_cast<int64_t>(owners_.size()); }
  int64_t num_used() const { return num_used_; }
  int64_t num_free() const { return num_total() - num_used_; }
  int32_t num_owners(int32_t block) const { return owners_[static_cast<size_t>(block)]; }

 private:
  std::vector<int32_t> owners_;      // by block; 0 = free
  std::vector<uint64_t> free_bits_;  // bit b of word w: block 64 w + b is free
  size_t first_free_word_ = 0;       // no word below it has a free block
  int64_t num_used_ = 0;
};

}  // namespace qvl
