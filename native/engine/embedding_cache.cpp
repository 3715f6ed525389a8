#include "engine/embedding_cache.h"

#include <iterator>

namespace qvl {
namespace {

int64_t bytes_of(const VisionEmbedding& embedding) {
  return static_cast<int64_t>(embedding.buffer->size_bytes());
}

}  // namespace

std::optional<VisionEmbedding> EmbeddingCache::find(const ContentHash& item) {
  const std::lock_guard lock(mutex_);
  const auto found = by_item_.find(item);
  if (found == by_item_.end()) {
    ++misses_;
    return std::nullopt;
  }
  ++hits_;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->embedding;
}

void EmbeddingCache::insert(const ContentHash& item, const VisionEmbedding& embedding) {
  const std::lock_guard lock(mutex_);
  if (is_closed_ || by_item_.contains(item)) return;
  // What does not fit at all must not drive the others out.
  if (bytes_of(embedding) > budget_ && !is_pinned(item)) return;
  entries_.push_front({item, embedding});
  by_item_.emplace(item, entries_.begin());
  bytes_ += bytes_of(embedding);
  shrink_to(budget_);
}

void EmbeddingCache::pin(const ContentHash& item) {
  const std::lock_guard lock(mutex_);
  ++pins_[item];
}

void EmbeddingCache::unpin(const ContentHash& item) {
  const std::lock_guard lock(mutex_);
  const auto found = pins_.find(item);
  if (found == pins_.end() || --found->second > 0) return;
  pins_.erase(found);
  shrink_to(budget_);
}

void EmbeddingCache::clear() {
  const std::lock_guard lock(mutex_);
  shrink_to(0);
}

void EmbeddingCache::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  pins_.clear();
  shrink_to(0);
}

EmbeddingCacheMetrics EmbeddingCache::metrics() const {
  const std::lock_guard lock(mutex_);
  return {hits_, misses_, static_cast<int64_t>(entries_.size()), bytes_};
}

/// Drops entries that are not pinned, least recently used first, until the rest fits.
void EmbeddingCache::shrink_to(int64_t budget) {
  for (auto entry = entries_.end(); bytes_ > budget && entry != entries_.begin();) {
    --entry;
    if (is_pinned(entry->item)) continue;
    bytes_ -= bytes_of(entry->embedding);
    by_item_.erase(entry->item);
    entry = entries_.erase(entry);
  }
}

}  // namespace qvl
