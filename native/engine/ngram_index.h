#pragma once

// Where the last tokens of a text stood before, and hence what may come next.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qvl {

/// By every run of n tokens that a text has: where the text went on behind its latest occurrence.
/// An open-addressing hash table of positions; the tokens themselves stay with the caller.
class NgramTable {
 public:
  explicit NgramTable(size_t size) : size_(size) {}

  /// The n tokens before position `next` go on there. `tokens` are those of earlier calls, or more.
  void insert(std::span<const int32_t> tokens, size_t next);
  /// Where the text went on behind the latest occurrence of its last n tokens; 0 = nowhere.
  size_t find(std::span<const int32_t> tokens) const;

  size_t num_slots() const { return slots_.size(); }

 private:
  size_t slot_of(std::span<const int32_t> tokens, std::span<const int32_t> ngram) const;
  void grow(std::span<const int32_t> tokens);

  size_t size_;                  // n
  size_t num_used_ = 0;          // at most half of the slots
  std::vector<uint32_t> slots_;  // a power of two; the position behind an n-gram; 0 = empty
};

/// An index over one text that only grows. A token costs O(1), amortised, and at most 48 bytes.
class NgramIndex {
 public:
  static constexpr size_t kShortest = 2, kLongest = 4;

  /// Tokens `first_barrier` and `second_barrier` are never found, nor what is on their other side:
  /// they stand for pictures, of which they tell nothing.
  NgramIndex(int32_t first_barrier, int32_t second_barrier)
      : barriers_{first_barrier, second_barrier} {}

  /// `tokens`: those of the last call and more behind them.
  void extend(std::span<const int32_t> tokens);
  /// Up to `count` tokens that followed the latest occurrence of the longest run of last tokens
  /// that was there before, kLongest to kShortest. A repetition that has just begun goes on: the
  /// source may run into the result itself. Empty where there is none; ends before a barrier.
  std::vector<int32_t> continuation(std::span<const int32_t> tokens, size_t count) const;

 private:
  bool is_barrier(int32_t token) const { return token == barriers_[0] || token == barriers_[1]; }

  std::array<int32_t, 2> barriers_;
  std::array<NgramTable, kLongest - kShortest + 1> tables_{NgramTable(4), NgramTable(3),
                                                           NgramTable(2)};
  size_t num_indexed_ = 0;    // tokens
  size_t since_barrier_ = 0;  // of them, those behind the last barrier
};

}  // namespace qvl
