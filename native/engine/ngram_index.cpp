#include "engine/ngram_index.h"

#include <algorithm>

namespace qvl {
namespace {

constexpr size_t kFirstSlots = 64;

uint64_t hash_of(std::span<const int32_t> ngram) {
  uint64_t hash = 0x9e3779b97f4a7c15u;
  for (const int32_t token : ngram) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xbf58476d1ce4e5b9u;
    hash ^= hash >> 31;
  }
  return hash;
}

}  // namespace

/// The slot of the n-gram: the one that has it, or the empty one where it would go.
size_t NgramTable::slot_of(std::span<const int32_t> tokens, std::span<const int32_t> ngram) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash_of(ngram) & mask;; slot = (slot + 1) & mask) {
    if (slots_[slot] == 0) return slot;
    const auto known = tokens.subspan(slots_[slot] - size_, size_);
    if (std::equal(known.begin(), known.end(), ngram.begin())) return slot;
  }
}

void NgramTable::insert(std::span<const int32_t> tokens, size_t next) {
  if (2 * (num_used_ + 1) > slots_.size()) grow(tokens);
  uint32_t& slot = slots_[slot_of(tokens, tokens.subspan(next - size_, size_))];
  if (slot == 0) ++num_used_;
  slot = static_cast<uint32_t>(next);
}

void NgramTable::grow(std::span<const int32_t> tokens) {
  std::vector<uint32_t> old(std::max(kFirstSlots, 2 * slots_.size()));
  old.swap(slots_);
  for (const uint32_t next : old) {
    if (next != 0) slots_[slot_of(tokens, tokens.subspan(next - size_, size_))] = next;
  }
}

size_t NgramTable::find(std::span<const int32_t> tokens) const {
  if (slots_.empty() || tokens.size() < size_) return 0;
  return slots_[slot_of(tokens, tokens.last(size_))];
}

void NgramIndex::extend(std::span<const int32_t> tokens) {
  for (; num_indexed_ < tokens.size(); ++num_indexed_) {
    if (is_barrier(tokens[num_indexed_])) {
      since_barrier_ = 0;
      continue;
    }
    for (size_t i = 0; i < tables_.size(); ++i) {
      if (since_barrier_ >= kLongest - i) tables_[i].insert(tokens, num_indexed_);
    }
    ++since_barrier_;
  }
}

std::vector<int32_t> NgramIndex::continuation(std::span<const int32_t> tokens, size_t count) const {
  size_t next = 0;
  for (size_t i = 0; i < tables_.size() && next == 0; ++i) next = tables_[i].find(tokens);
  std::vector<int32_t> result;
  if (next == 0) return result;
  for (; result.size() < count; ++next) {
    const int32_t token = next < tokens.size() ? tokens[next] : result[next - tokens.size()];
    if (is_barrier(token)) break;
    result.push_back(token);
  }
  return result;
}

}  // namespace qvl
