// Attention over parts of the keys, scalar, one query row at a time. See AttentionArgs.

#include "kernels/cpu/attention.h"

#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/math.h"

namespace qvl::kernels::scalar {
namespace {

// The blocks that hold key `key`.
struct KeyBlocks {
  const void* keys;
  const void* values;
};

KeyBlocks blocks_of(const AttentionArgs& args, int64_t key) {
  const int64_t index = key / kBlockTokens;
  const int64_t offset = (args.blocks != nullptr ? args.blocks[index] : index) * args.block_stride;
  return {static_cast<const char*>(args.keys) + offset,
          static_cast<const char*>(args.values) + offset};
}

const float* query_of(const AttentionArgs& args, int64_t row) {
  return args.q + row / args.group * args.q_stride + row % args.group * args.head_dim;
}

// partial = what row `row` gets from the keys of part `part`.
void row_times_part(const AttentionArgs& args, int64_t row, int64_t part, float* partial) {
  const int64_t dim = args.head_dim;
  const int64_t count = num_part_keys(args, row, part);
  const float* q = query_of(args, row);
  const float scale = exponent_scale(args);
  float weights[kPartTokens];  // first scores
  float max = kMinusInfinity;
  for (int64_t i = 0; i < count; ++i) {
    const KeyBlocks block = blocks_of(args, part * kPartTokens + i);
    float score = 0.0f;
    for (int64_t d = 0; d < dim; ++d) {
      const float key = load(block.keys, args.format, d * kBlockTokens + i % kBlockTokens);
      score = std::fma(q[d] * scale, key, score);
    }
    weights[i] = score;
    max = score > max ? score : max;
  }
  float sums[kPartialSums] = {};
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = exp2_f32(weights[i] - max);
    sums[i % kPartialSums] += weights[i];
  }
  const int64_t stride = padded_head_dim(dim);
  for (int64_t d = 0; d < stride; ++d) partial[d] = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const KeyBlocks block = blocks_of(args, part * kPartTokens + i);
    for (int64_t d = 0; d < dim; ++d) {
      const float value = load(block.values, args.format, i % kBlockTokens * stride + d);
      partial[d] = std::fma(weights[i], value, partial[d]);
    }
  }
  partial[sum_index(dim)] = sum_partial_sums(sums);
  partial[max_index(dim)] = max;
}

// total = total and the part after it.
void merge_part(float* total, const float* part, int64_t dim) {
  const float old_max = total[max_index(dim)];
  const float part_max = part[max_index(dim)];
  const float max = part_max > old_max ? part_max : old_max;
  const float old_factor = exp2_f32(old_max - max);
  const float part_factor = exp2_f32(part_max - max);
  for (int64_t d = 0; d <= sum_index(dim); ++d) {
    total[d] = std::fma(part[d], part_factor, total[d] * old_factor);
  }
  total[max_index(dim)] = max;
}

void write_row(const AttentionArgs& args, int64_t row, const float* total) {
  float* out = args.out + row / args.group * args.out_stride + row % args.group * args.head_dim;
  const float inverse = 1.0f / total[sum_index(args.head_dim)];
  for (int64_t d = 0; d < args.head_dim; ++d) out[d] = total[d] * inverse;
}

}  // namespace

int64_t attention_scratch_floats(int64_t head_dim) { return 2 * partial_floats(head_dim); }

void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch) {
  float* const total = scratch;
  float* const partial = scratch + partial_floats(args.head_dim);
  for (int64_t row = first_row; row < last_row; ++row) {
    row_times_part(args, row, 0, total);
    for (int64_t part = 1; num_part_keys(args, row, part) > 0; ++part) {
      row_times_part(args, row, part, partial);
      merge_part(total, partial, args.head_dim);
    }
    write_row(args, row, total);
  }
}

void attention_parts(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                     int64_t first_part, int64_t last_part, float* partials, int64_t part_stride,
                     float* /* scratch */) {
  for (int64_t part = first_part; part < last_part; ++part) {
    for (int64_t row = first_row; row < last_row; ++row) {
      row_times_part(
          args, row, part,
          partials + part * part_stride + (row - first_row) * partial_floats(args.head_dim));
    }
  }
}

void merge_attention(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                     float* partials, int64_t part_stride) {
  for (int64_t row = first_row; row < last_row; ++row) {
    float* total = partials + (row - first_row) * partial_floats(args.head_dim);
    for (int64_t part = 1; num_part_keys(args, row, part) > 0; ++part) {
      merge_part(total, total + part * part_stride, args.head_dim);
    }
    write_row(args, row, total);
  }
}

}  // namespace qvl::kernels::scalar
