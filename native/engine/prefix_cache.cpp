#include "engine/prefix_cache.h"

#include <algorithm>

namespace qvl {

PrefixCache::PrefixCache(BlockPool* pool)
    : pool_(pool), entries_(static_cast<size_t>(pool->num_total())) {
  pool->on_evict([this](int32_t block) {
    Entry& evicted = entries_[static_cast<size_t>(block)];
    by_key_.erase(evicted.key);
    evicted = {};
  });
}

ContentHash PrefixCache::key_of(int32_t parent, const BlockContent& content) const {
  ContentHasher hasher;
  if (parent != kNone) hasher.add(entry(parent).key);
  for (const int32_t token : content.tokens) hasher.add(static_cast<uint64_t>(token));
  for (const VisualPart& part : content.visual) {
    hasher.add(part.item);
    for (const int64_t value : {part.first_token, part.count, part.first_row}) {
      hasher.add(static_cast<uint64_t>(value));
    }
  }
  return hasher.finish();
}

int32_t PrefixCache::find(int32_t parent, const BlockContent& content) const {
  if (!is_known(parent)) return kNone;
  const auto found = by_key_.find(key_of(parent, content));
  if (found == by_key_.end()) return kNone;
  const Entry& known = entry(found->second);
  const uint64_t parent_id = parent == kNone ? 0 : entry(parent).id;
  const bool is_equal = known.parent_id == parent_id &&
                        std::equal(known.tokens.begin(), known.tokens.end(), content.tokens.begin(),
                                   content.tokens.end()) &&
                        known.visual == content.visual;
  return is_equal ? found->second : kNone;
}

void PrefixCache::insert(int32_t parent, const BlockContent& content, int32_t block) {
  if (!is_known(parent) || entry(block).id != 0) return;
  const ContentHash key = key_of(parent, content);
  // A colliding one, or one whose parent was evicted and computed again, stays until it is evicted.
  Entry added{next_id_,
              parent == kNone ? 0 : entry(parent).id,
              key,
              {content.tokens.begin(), content.tokens.end()},
              content.visual};
  if (!by_key_.emplace(key, block).second) return;
  ++next_id_;
  entries_[static_cast<size_t>(block)] = std::move(added);
  pool_->keep(block);
}

void PrefixCache::clear() {
  for (const auto& [key, block] : by_key_) {
    entries_[static_cast<size_t>(block)] = {};
    pool_->forget(block);
  }
  by_key_.clear();
}

}  // namespace qvl
