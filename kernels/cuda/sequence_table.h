#pragma once

#include <cstdint>

namespace qvl {

// Tokens of a block of the KV cache: kKvBlockTokens of the backends' interface.
constexpr int kKvTokens = 32;

// Which sequence every row of a step belongs to, and where in the KV cache that sequence lies. All
// of it is in device memory, so that a captured graph stays valid while sequences grow. B
// sequences, T rows.
//
// Row r of sequence s has the position num_cached[s] + r - first_row[s]. The cache of a layer is
// W [num_blocks][G][2 (K, V)][kKvTokens][D]; position p of sequence s lies in block
// block_table[s * max_blocks + p / kKvTokens], at token p % kKvTokens.
//
// Kernels read it before they wait for the kernel before them: it must be complete when that kernel
// starts.
struct SequenceTable {
  const int32_t* first_row;     // [B] of a sequence's rows, which are consecutive
  const int32_t* num_tokens;    // [B] rows of a sequence
  const int32_t* num_cached;    // [B] tokens in the cache before this step
  const int32_t* block_table;   // [B, max_blocks]
  const int32_t* row_sequence;  // [T]
  int32_t max_blocks;
};

}  // namespace qvl
