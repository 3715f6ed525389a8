#pragma once

#include "kernels/cpu/math.h"

namespace qvl::kernels {

/// Keys of part `part` that query row `row` sees.
static inline int64_t num_part_keys(const AttentionArgs& args, int64_t row, int64_t part) {
  const int64_t count = num_visible_keys(args, row) - part * kPartTokens;
  return count < 0 ? 0 : count < kPartTokens ? count : kPartTokens;
}

/// The factor of the queries, whose scores become exponents of two.
static inline float exponent_scale(const AttentionArgs& args) { return args.scale * kLog2E; }

// A partial result: the weighted sum of the values [Dp], the sum of the weights, the maximum.
static inline int64_t sum_index(int64_t head_dim) { return padded_head_dim(head_dim); }
static inline int64_t max_index(int64_t head_dim) { return padded_head_dim(head_dim) + 1; }

namespace scalar {
constexpr int64_t kMaxAttentionRows = 64;
void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch);
void attention_parts(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                     int64_t first_part, int64_t last_part, float* partials, int64_t part_stride,
                     float* scratch);
void merge_attention(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                     float* partials, int64_t part_stride);
int64_t attention_scratch_floats(int64_t head_dim);
}  // namespace scalar

}  // namespace qvl::kernels
