#include "engine/block_pool.h"

#include <bit>
#include <limits>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

constexpr size_t kWordBits = 64;

}  // namespace

BlockPool::BlockPool(int64_t num_blocks) {
  if (num_blocks < 1 || num_blocks >= std::numeric_limits<int32_t>::max()) {
    throw Error("ERR_INVALID_ARGUMENT", "the KV cache has " + std::to_string(num_blocks) +
                                            " blocks; it needs 1 to 2147483646");
  }
  const size_t count = static_cast<size_t>(num_blocks);
  owners_.assign(count, 0);
  kept_.assign(count, false);
  free_bits_.assign((count + kWordBits - 1) / kWordBits, ~uint64_t{0});
  const size_t tail = count % kWordBits;
  if (tail != 0) free_bits_.back() = (uint64_t{1} << tail) - 1;
  links_.resize(count + 1);
  const int32_t head = static_cast<int32_t>(count);
  links_.back() = {head, head};
}

int32_t BlockPool::allocate() {
  while (first_free_word_ < free_bits_.size() && free_bits_[first_free_word_] == 0) {
    ++first_free_word_;
  }
  int32_t block = -1;
  if (first_free_word_ < free_bits_.size()) {
    uint64_t& word = free_bits_[first_free_word_];
    block = static_cast<int32_t>(first_free_word_ * kWordBits) + std::countr_zero(word);
    word &= word - 1;  // clears the lowest set bit
  } else if (num_cached_ > 0) {
    block = links_.back().newer;
    take_out(block);
    kept_[static_cast<size_t>(block)] = false;
    if (on_evict_) on_evict_(block);
  } else {
    return -1;
  }
  owners_[static_cast<size_t>(block)] = 1;
  ++num_used_;
  return block;
}

void BlockPool::retain(int32_t block) {
  if (owners_[static_cast<size_t>(block)]++ > 0) return;
  take_out(block);
  ++num_used_;
}

void BlockPool::release(int32_t block) {
  const size_t index = static_cast<size_t>(block);
  if (--owners_[index] > 0) return;
  --num_used_;
  if (kept_[index]) {
    put_newest(block);
  } else {
    mark_free(block);
  }
}

void BlockPool::keep(int32_t block) { kept_[static_cast<size_t>(block)] = true; }

void BlockPool::forget(int32_t block) {
  const size_t index = static_cast<size_t>(block);
  if (!kept_[index]) return;
  kept_[index] = false;
  if (owners_[index] > 0) return;
  take_out(block);
  mark_free(block);
}

void BlockPool::put_newest(int32_t block) {
  const int32_t head = static_cast<int32_t>(owners_.size());
  const int32_t before = links_.back().older;
  links_[static_cast<size_t>(block)] = {before, head};
  links_[static_cast<size_t>(before)].newer = block;
  links_.back().older = block;
  ++num_cached_;
}

void BlockPool::take_out(int32_t block) {
  const Link link = links_[static_cast<size_t>(block)];
  links_[static_cast<size_t>(link.older)].newer = link.newer;
  links_[static_cast<size_t>(link.newer)].older = link.older;
  --num_cached_;
}

void BlockPool::mark_free(int32_t block) {
  const size_t word = static_cast<size_t>(block) / kWordBits;
  free_bits_[word] |= uint64_t{1} << (static_cast<size_t>(block) % kWordBits);
  if (word < first_free_word_) first_free_word_ = word;
}

}  // namespace qvl
