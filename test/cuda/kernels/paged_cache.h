#pragma once

// Sequences whose keys and values lie in a paged cache, for the tests of the kernels that read it.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "kernels/compare.h"
#include "kernels/cuda/sequence_table.h"

namespace qvl::test {

/// Tokens of a sequence in this step, and before it.
struct Sequence {
  int num_tokens;
  int num_cached;
  int length() const { return num_cached + num_tokens; }
};

/// The metadata of a step. Sequences' blocks are interleaved in the pool and none is at its place.
struct Step {
  std::vector<Sequence> sequences;
  std::vector<int32_t> first_row, num_tokens, num_cached, block_table, row_sequence;
  int max_blocks = 0;
  int num_blocks = 0;
  int num_rows = 0;

  explicit Step(std::vector<Sequence> all) : sequences(std::move(all)) {
    for (const Sequence& sequence : sequences) {
      max_blocks = std::max(max_blocks, blocks_of(sequence));
      first_row.push_back(num_rows);
      num_tokens.push_back(sequence.num_tokens);
      num_cached.push_back(sequence.num_cached);
      row_sequence.insert(row_sequence.end(), static_cast<size_t>(sequence.num_tokens),
                          static_cast<int32_t>(first_row.size() - 1));
      num_rows += sequence.num_tokens;
    }
    // A sequence has no more blocks than it needs: what follows them must not be looked at.
    block_table.assign(sequences.size() * static_cast<size_t>(max_blocks), -1000000);
    for (int i = 0; i < max_blocks; ++i) {
      for (size_t s = 0; s < sequences.size(); ++s) {
        if (i >= blocks_of(sequences[s])) continue;
        block_table[s * static_cast<size_t>(max_blocks) + static_cast<size_t>(i)] = num_blocks++;
      }
    }
    for (int32_t& block : block_table) {
      if (block >= 0) block = num_blocks - 1 - block;
    }
  }

  /// The step that has only `count` rows from `first` on: tokens before them are in the cache.
  Step part(int first, int count) const {
    std::vector<Sequence> parts;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int begin = std::max(first, first_row[s]);
      const int end = std::min(first + count, first_row[s] + num_tokens[s]);
      if (begin < end) parts.push_back({end - begin, position(s, begin)});
    }
    return Step(parts);
  }
  int position(size_t sequence, int row) const {
    return num_cached[sequence] + row - first_row[sequence];
  }
  int block(size_t sequence, int position) const {
    return block_table[sequence * static_cast<size_t>(max_blocks) +
                       static_cast<size_t>(position / kKvTokens)];
  }
  /// As the backends' interface has them.
  std::vector<SequenceSpan> spans() const {
    std::vector<SequenceSpan> all;
    for (size_t i = 0; i < sequences.size(); ++i) {
      all.push_back({first_row[i], num_tokens[i], num_cached[i],
                     std::span(block_table)
                         .subspan(i * static_cast<size_t>(max_blocks),
                                  static_cast<size_t>(blocks_of(sequences[i])))});
    }
    return all;
  }

 private:
  static int blocks_of(const Sequence& sequence) {
    return (sequence.length() + kKvTokens - 1) / kKvTokens;
  }
};

/// The metadata in the device's memory.
class DeviceStep {
 public:
  DeviceStep(Gpu& gpu, const Step& step)
      : first_row_(gpu.upload(step.first_row)),
        num_tokens_(gpu.upload(step.num_tokens)),
        num_cached_(gpu.upload(step.num_cached)),
        block_table_(gpu.upload(step.block_table)),
        row_sequence_(gpu.upload(step.row_sequence)),
        max_blocks_(step.max_blocks) {}

  SequenceTable table() const {
    return {first_row_.get(),   num_tokens_.get(),   num_cached_.get(),
            block_table_.get(), row_sequence_.get(), max_blocks_};
  }

 private:
  DeviceArray<int32_t> first_row_, num_tokens_, num_cached_, block_table_, row_sequence_;
  int max_blocks_;
};

/// Where numbers lie in the cache of a layer.
struct CacheLayout {
  int kv_heads;
  int head_dim;

  size_t size(const Step& step) const {
    return static_cast<size_t>(step.num_blocks) * block_size();
  }
  size_t block_size() const {
    return static_cast<size_t>(kv_heads) * 2 * kKvTokens * static_cast<size_t>(head_dim);
  }
  /// First element of a key (kind 0) or value (kind 1).
  size_t at(const Step& step, size_t sequence, int position, int kv_head, int kind) const {
    return static_cast<size_t>(step.block(sequence, position)) * block_size() +
           static_cast<size_t>(((kv_head * 2 + kind) * kKvTokens + position % kKvTokens) *
                               head_dim);
  }
};

}  // namespace qvl::test
