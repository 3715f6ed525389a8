#pragma once

// KV blocks found by content. Keys and values of a block depend on its tokens, on the pixels behind
// its visual tokens, and on everything before it; so a block is named by its content and the block
// before it. Since a result does not depend on how a prompt was cut, one that begins with known
// blocks has the same bits as one that is computed from its first token on.

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"
#include "io/content_hash.h"

namespace qvl {

/// The visual tokens of one item in a block.
struct VisualPart {
  int64_t first_token = 0;  // in the block
  int64_t count = 0;
  ContentHash item;
  int64_t grid_t = 0, grid_h = 0, grid_w = 0;  // positions follow from the grid
  int64_t first_row = 0;                       // of the item, at first_token

  bool operator==(const VisualPart&) const = default;
};

/// What a block's keys and values depend on, besides the blocks before it.
struct BlockContent {
  std::span<const int32_t> tokens;
  std::vector<VisualPart> visual;
};

/// The index of a pool's blocks by content. Found by a 128-bit hash, and compared in full before
/// one is given out, so that no collision of hashes can give a wrong block.
class PrefixCache {
 public:
  /// Evictions of `pool` are this index's from now on; it must outlive the cache.
  explicit PrefixCache(BlockPool* pool);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  /// No block: what stands before a sequence's first one.
  static constexpr int32_t kNone = -1;

  /// The block that holds `content` behind `parent`; kNone when there is none, or when `parent` is
  /// not in the index. It may have no owner: retain it before anything is allocated.
  int32_t find(int32_t parent, const BlockContent& content) const;
  /// Enters a block whose keys and values are in the cache, unless an equal one is there or
  /// `parent` is not; the pool then keeps it.
  void insert(int32_t parent, const BlockContent& content, int32_t block);
  /// Forgets every block. Those with owners stay theirs.
  void clear();

  int64_t size() const { return static_cast<int64_t>(by_key_.size()); }

 private:
  struct Entry {
    uint64_t id = 0;  // of this content; 0 = not in the index. Never used twice
    uint64_t parent_id = 0;
    ContentHash key;
    std::vector<int32_t> tokens;
    std::vector<VisualPart> visual;
  };
  const Entry& entry(int32_t block) const { return entries_[static_cast<size_t>(block)]; }
  bool is_known(int32_t parent) const { return parent == kNone || entry(parent).id != 0; }
  ContentHash key_of(int32_t parent, const BlockContent& content) const;

  BlockPool* pool_;
  std::vector<Entry> entries_;  // by block
  std::unordered_map<ContentHash, int32_t> by_key_;
  uint64_t next_id_ = 1;
};

}  // namespace qvl
