#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "io/content_hash.h"
#include "model/model.h"

namespace qvl {

struct EmbeddingCacheMetrics {
  int64_t hits = 0, misses = 0;
  int64_t images = 0, bytes = 0;
};

/// Visual tokens of images and videos by content: an item that comes again is not encoded again.
/// The least recently used ones go when the budget is exceeded; pinned ones stay. Thread-safe.
class EmbeddingCache {
 public:
  /// `budget` in bytes; 0 keeps only what is pinned.
  explicit EmbeddingCache(int64_t budget) : budget_(budget) {}

  /// Counts a hit or a miss.
  std::optional<VisionEmbedding> find(const ContentHash& item);
  void insert(const ContentHash& item, const VisionEmbedding& embedding);

  /// Whatever is or will be stored for the item stays until as many unpin() as pin() were called.
  void pin(const ContentHash& item);
  void unpin(const ContentHash& item);

  /// Drops all that is not pinned.
  void clear();
  /// Drops everything, and takes nothing any more.
  void close();

  EmbeddingCacheMetrics metrics() const;

 private:
  struct Entry {
    ContentHash item;
    VisionEmbedding embedding;
  };
  using Entries = std::list<Entry>;  // most recently used first

  bool is_pinned(const ContentHash& item) const { return pins_.contains(item); }
  void shrink_to(int64_t budget);

  const int64_t budget_;
  mutable std::mutex mutex_;
  Entries entries_;
  std::unordered_map<ContentHash, Entries::iterator> by_item_;
  std::unordered_map<ContentHash, int64_t> pins_;
  bool is_closed_ = false;
  int64_t bytes_ = 0, hits_ = 0, misses_ = 0;
};

}  // namespace qvl
