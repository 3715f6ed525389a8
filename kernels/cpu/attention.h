#pragma once

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

/// Keys that query row `row` sees: a prefix of the blocks.
static inline int64_t num_visible_keys(const AttentionArgs& args, int64_t row) {
  return args.causal ? args.first_position + row / args.group + 1 : args.num_keys;
}

namespace scalar {
constexpr int64_t kMaxAttentionRows = 64;
void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch);
int64_t attention_scratch_floats(int64_t head_dim);
}  // namespace scalar

namespace avx2 {
constexpr int64_t kMaxAttentionRows = 48;
void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch);
int64_t attention_scratch_floats(int64_t head_dim);
}  // namespace avx2

}  // namespace qvl::kernels
