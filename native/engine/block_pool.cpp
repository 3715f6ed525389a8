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
  if (num_blocks < 1 || num_blocks > std::numeric_limits<int32_t>::max()) {
    throw Error("ERR_INVALID_ARGUMENT", "the KV cache has " + std::to_string(num_blocks) +
                                            " blocks; it needs 1 to 2147483647");
  }
  const size_t count = static_cast<size_t>(num_blocks);
  owners_.assign(count, 0);
  free_bits_.assign((count + kWordBits - 1) / kWordBits, ~uint64_t{0});
  const size_t tail = count % kWordBits;
  if (tail != 0) free_bits_.back() = (uint64_t{1} << tail) - 1;
}

int32_t BlockPool::allocate() {
  while (first_free_word_ < free_bits_.size() && free_bits_[first_free_word_] == 0) {
    ++first_free_word_;
  }
  if (first_free_word_ == free_bits_.size()) return -1;
  uint64_t& word = free_bits_[first_free_word_];
  const size_t block = first_free_word_ * kWordBits + static_cast<size_t>(std::countr_zero(word));
  word &= word - 1;  // clears the lowest set bit
  owners_[block] = 1;
  ++num_used_;
  return static_cast<int32_t>(block);
}

void BlockPool::retain(int32_t block) { ++owners_[static_cast<size_t>(block)]; }

void BlockPool::release(int32_t block) {
  const size_t index = static_cast<size_t>(block);
  if (--owners_[index] > 0) return;
  const size_t word = index / kWordBits;
  free_bits_[word] |= uint64_t{1} << (index % kWordBits);
  if (word < first_free_word_) first_free_word_ = word;
  --num_used_;
}

}  // namespace qvl
