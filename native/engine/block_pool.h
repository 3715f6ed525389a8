#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace qvl {

/// Which KV blocks are in use, and by how many. A block may have several owners (sequences with a
/// common prefix). When the last one releases it, it is free again, or, if somebody has asked to
/// keep it, cached: its contents stay until another block is needed and none is free.
class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  /// The free block with the lowest index, with one owner. Lowest first, because the cache commits
  /// memory where it is first written: the used part stays compact. When none is free, the cached
  /// block that was released longest ago; -1 when there is none either.
  int32_t allocate();
  /// Adds an owner to a used or a cached block.
  void retain(int32_t block);
  /// Takes an owner from a used block.
  void release(int32_t block);

  /// A used block becomes cached, not free, when its last owner releases it.
  void keep(int32_t block);
  /// Takes keep() back: a cached block becomes free.
  void forget(int32_t block);
  /// Called with a cached block that allocate() is about to give away; it is no longer kept.
  void on_evict(std::function<void(int32_t)> callback) { on_evict_ = std::move(callback); }

  int64_t num_total() const { return static_cast<int64_t>(owners_.size()); }
  int64_t num_used() const { return num_used_; }
  int64_t num_cached() const { return num_cached_; }
  int64_t num_free() const { return num_total() - num_used_ - num_cached_; }
  /// What allocate() can give: free and cached blocks.
  int64_t num_available() const { return num_total() - num_used_; }
  int32_t num_owners(int32_t block) const { return owners_[static_cast<size_t>(block)]; }

 private:
  /// Neighbours in the ring of cached blocks; its head is links_.back().
  struct Link {
    int32_t older = -1, newer = -1;
  };
  void put_newest(int32_t block);
  void take_out(int32_t block);
  void mark_free(int32_t block);

  std::vector<int32_t> owners_;      // by block; 0 = free or cached
  std::vector<bool> kept_;           // by block
  std::vector<uint64_t> free_bits_;  // bit b of word w: block 64 w + b is free
  size_t first_free_word_ = 0;       // no word below it has a free block
  std::vector<Link> links_;          // by block, then the head: older = newest, newer = oldest
  int64_t num_used_ = 0;
  int64_t num_cached_ = 0;
  std::function<void(int32_t)> on_evict_;
};

}  // namespace qvl
