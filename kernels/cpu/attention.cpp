// Blocked attention with an online softmax, scalar, one query row at a time. See AttentionArgs.

#include "kernels/cpu/attention.h"

#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/math.h"

namespace qvl::kernels::scalar {
namespace {

struct Softmax {
  float max = kMinusInfinity;
  float sum = 0.0f;
};

// weights [32] = exp(score - new maximum) of the block's first `count` keys, 0 for the others;
// returns the factor of what was summed before.
float softmax_block(Softmax& softmax, float* weights, int64_t count) {
  float max = softmax.max;
  for (int64_t i = 0; i < count; ++i) max = max < weights[i] ? weights[i] : max;
  const float rescale = exp_f32(softmax.max - max);
  for (int64_t i = 0; i < kBlockTokens; ++i) {
    weights[i] = i < count ? exp_f32(weights[i] - max) : 0.0f;
  }
  softmax.max = max;
  softmax.sum = std::fma(softmax.sum, rescale, sum_partial_sums(weights));
  return rescale;
}

}  // namespace

int64_t attention_scratch_floats(int64_t head_dim) { return 2 * head_dim; }

void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch) {
  const int64_t dim = args.head_dim;
  const int64_t value_stride = padded_head_dim(dim);
  float* q = scratch;          // [D], scaled
  float* acc = scratch + dim;  // [D]
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t token = row / args.group;
    const int64_t column = row % args.group * dim;
    for (int64_t d = 0; d < dim; ++d) {
      q[d] = args.q[token * args.q_stride + column + d] * args.scale;
      acc[d] = 0.0f;
    }
    Softmax softmax;
    const int64_t visible = num_visible_keys(args, row);
    for (int64_t first_key = 0; first_key < visible; first_key += kBlockTokens) {
      const int64_t left = visible - first_key;
      const int64_t count = left < kBlockTokens ? left : kBlockTokens;
      const int64_t index = first_key / kBlockTokens;
      const int64_t block = args.blocks != nullptr ? args.blocks[index] : index;
      const char* keys = static_cast<const char*>(args.keys) + block * args.block_stride;
      const char* values = static_cast<const char*>(args.values) + block * args.block_stride;

      float weights[kBlockTokens];
      for (int64_t i = 0; i < count; ++i) {
        const int64_t panel = i / kTileWidth * dim * kTileWidth + i % kTileWidth;
        float score = 0.0f;
        for (int64_t d = 0; d < dim; ++d) {
          score = std::fma(q[d], load(keys, args.format, panel + d * kTileWidth), score);
        }
        weights[i] = score;
      }
      const float rescale = softmax_block(softmax, weights, count);
      for (int64_t d = 0; d < dim; ++d) {
        float sum = acc[d] * rescale;
        for (int64_t i = 0; i < count; ++i) {
          sum = std::fma(weights[i], load(values, args.format, i * value_stride + d), sum);
        }
        acc[d] = sum;
      }
    }
    float* out = args.out + token * args.out_stride + column;
    for (int64_t d = 0; d < dim; ++d) out[d] = acc[d] / softmax.sum;
  }
}

}  // namespace qvl::kernels::scalar
