// Blocked attention with an online softmax, AVX2: up to 48 query rows go over each key block
// together, in tiles of up to 6 rows. See AttentionArgs; a row's operations and their order are
// those of attention.cpp.

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/attention.h"
#include "kernels/cpu/avx2.h"

namespace qvl::kernels::avx2 {
namespace {

// The state of the rows of one call, in scratch.
struct Rows {
  float* q;        // tile after tile, [D][height], scaled
  float* weights;  // [rows][32]: scores, then exp(score - max)
  float* acc;      // [rows][Dp]
  float* keys;     // [2][D][16] widened
  float* values;   // [32][Dp] widened
  float max[kMaxAttentionRows];
  float sum[kMaxAttentionRows];
};

// One tile of a call and what its rows see of the present block.
struct Tile {
  int64_t begin;   // first row within the call
  int64_t height;  // 1 to 6
  int64_t counts[kMaxTileRows];
  int64_t min_count;
  int64_t max_count;
};

void load_queries(const AttentionArgs& args, int64_t row, int64_t height, float* to) {
  const __m128 scale = _mm_set_ss(args.scale);
  for (int64_t r = 0; r < height; ++r) {
    const int64_t token = (row + r) / args.group;
    const int64_t head = (row + r) % args.group;
    const float* q = args.q + token * args.q_stride + head * args.head_dim;
    for (int64_t d = 0; d < args.head_dim; ++d) {
      to[d * height + r] = _mm_cvtss_f32(_mm_mul_ss(_mm_set_ss(q[d]), scale));
    }
  }
}

template <int kRows>
void scores(const float* q, const float* keys, int64_t head_dim, int64_t panels, float* to) {
  for (int64_t panel = 0; panel < panels; ++panel) {
    __m256 acc[kRows][2];
    zero_tile<kRows>(acc);
    multiply_tile<kRows, 1, kRows>(acc, q, keys + panel * head_dim * kTileWidth, kTileWidth,
                                   head_dim);
    store_tile<kRows>(acc, to + panel * kTileWidth, kBlockTokens);
  }
}

// Scores of the tile's rows become weights; rescale [8] = the factors of what was summed before.
void softmax_block(Rows& rows, const Tile& tile, float* rescale) {
  const __m256 minus_infinity = _mm256_set1_ps(kMinusInfinity);
  float old_max[8] = {};
  float new_max[8] = {};
  for (int64_t r = 0; r < tile.height; ++r) {
    const float* row = rows.weights + (tile.begin + r) * kBlockTokens;
    __m256 max = minus_infinity;
    for (int i = 0; i < kVectors; ++i) {
      const __m256 mask = _mm256_castsi256_ps(lane_mask(tile.counts[r] - i * kLanes));
      max = _mm256_max_ps(
          max, _mm256_blendv_ps(minus_infinity, _mm256_loadu_ps(row + i * kLanes), mask));
    }
    old_max[r] = rows.max[tile.begin + r];
    const float block_max = max_lanes(max);
    new_max[r] = old_max[r] < block_max ? block_max : old_max[r];
  }
  const __m256 factors = exp_f32(_mm256_sub_ps(_mm256_loadu_ps(old_max), _mm256_loadu_ps(new_max)));
  _mm256_storeu_ps(rescale, factors);
  for (int64_t r = 0; r < tile.height; ++r) {
    const int64_t index = tile.begin + r;
    float* row = rows.weights + index * kBlockTokens;
    if (tile.counts[r] <= 0) {  // sees nothing of this block: everything stays
      rescale[r] = 1.0f;
      continue;
    }
    __m256 p[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      const __m256 mask = _mm256_castsi256_ps(lane_mask(tile.counts[r] - i * kLanes));
      p[i] = exp_f32(_mm256_sub_ps(_mm256_loadu_ps(row + i * kLanes), _mm256_set1_ps(new_max[r])));
      p[i] = _mm256_and_ps(p[i], mask);
      _mm256_storeu_ps(row + i * kLanes, p[i]);
    }
    const __m128 sum = _mm_set_ss(sum_lanes(p[0], p[1], p[2], p[3]));
    rows.sum[index] =
        _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(rows.sum[index]), _mm_set_ss(rescale[r]), sum));
    rows.max[index] = new_max[r];
  }
}

// acc [kRows][16] = acc * rescale + weights[:, first .. last) * values.
template <int kRows>
void add_values(float* acc_at, int64_t acc_stride, const float* weights, const float* values,
                int64_t first, int64_t last, const float* rescale) {
  __m256 acc[kRows][2];
  load_tile<kRows>(acc, acc_at, acc_stride);
  if (rescale != nullptr) {
    unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
      constexpr int r = decltype(row)::value;
      const __m256 factor = _mm256_broadcast_ss(rescale + r);
      acc[r][0] = _mm256_mul_ps(acc[r][0], factor);
      acc[r][1] = _mm256_mul_ps(acc[r][1], factor);
    });
  }
  multiply_tile<kRows, kBlockTokens, 1>(acc, weights + first, values + first * acc_stride,
                                        acc_stride, last - first);
  store_tile<kRows>(acc, acc_at, acc_stride);
}

void tile_times_block(const AttentionArgs& args, Rows& rows, const Tile& tile, const float* keys,
                      const float* values) {
  const int64_t stride = padded_head_dim(args.head_dim);
  float* weights = rows.weights + tile.begin * kBlockTokens;
  float* acc = rows.acc + tile.begin * stride;
  float rescale[8];
  with_tile_rows(tile.height, [&](auto constant) {
    constexpr int kRows = decltype(constant)::value;
    scores<kRows>(rows.q + tile.begin * args.head_dim, keys, args.head_dim,
                  num_tile_columns(tile.max_count), weights);
    softmax_block(rows, tile, rescale);
    for (int64_t d = 0; d < stride; d += kTileWidth) {
      add_values<kRows>(acc + d, stride, weights, values + d, 0, tile.min_count, rescale);
    }
  });
  // The keys that some rows of the tile see and others do not: those others must not meet the
  // values, which may be anything.
  if (tile.max_count == tile.min_count) return;
  for (int64_t r = 0; r < tile.height; ++r) {
    for (int64_t d = 0; d < stride; d += kTileWidth) {
      add_values<1>(acc + r * stride + d, stride, weights + r * kBlockTokens, values + d,
                    tile.min_count, tile.counts[r], nullptr);
    }
  }
}

template <Format kFormat>
void block_as_f32(const AttentionArgs& args, Rows& rows, int64_t count, const float*& keys,
                  const float*& values, const char* key_block, const char* value_block) {
  if constexpr (kFormat == Format::kF32) {
    keys = reinterpret_cast<const float*>(key_block);
    values = reinterpret_cast<const float*>(value_block);
  } else {
    widen<kFormat>(rows.keys, key_block, num_tile_columns(count) * args.head_dim);
    widen<kFormat>(rows.values, value_block, count * num_tile_columns(args.head_dim));
    keys = rows.keys;
    values = rows.values;
  }
}

template <Format kFormat>
void attention_in(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch) {
  const int64_t num_rows = last_row - first_row;
  const int64_t stride = padded_head_dim(args.head_dim);
  Rows rows;
  rows.q = scratch;
  rows.acc = rows.q + kMaxAttentionRows * args.head_dim;
  rows.weights = rows.acc + kMaxAttentionRows * stride;
  rows.keys = rows.weights + kMaxAttentionRows * kBlockTokens;
  rows.values = rows.keys + key_block_elements(args.head_dim);
  for (int64_t r = 0; r < num_rows; ++r) {
    rows.max[r] = kMinusInfinity;
    rows.sum[r] = 0.0f;
    for (int64_t d = 0; d < stride; ++d) rows.acc[r * stride + d] = 0.0f;
  }
  const int64_t tiles = num_tiles(num_rows);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = tile_begin(num_rows, t);
    load_queries(args, first_row + begin, tile_begin(num_rows, t + 1) - begin,
                 rows.q + begin * args.head_dim);
  }

  const int64_t visible = num_visible_keys(args, last_row - 1);  // rows see ever more keys
  for (int64_t first_key = 0; first_key < visible; first_key += kBlockTokens) {
    const int64_t index = first_key / kBlockTokens;
    const int64_t offset =
        (args.blocks != nullptr ? args.blocks[index] : index) * args.block_stride;
    const int64_t left = visible - first_key;
    const float* keys;
    const float* values;
    block_as_f32<kFormat>(args, rows, left < kBlockTokens ? left : kBlockTokens, keys, values,
                          static_cast<const char*>(args.keys) + offset,
                          static_cast<const char*>(args.values) + offset);
    for (int64_t t = 0; t < tiles; ++t) {
      Tile tile;
      tile.begin = tile_begin(num_rows, t);
      tile.height = tile_begin(num_rows, t + 1) - tile.begin;
      for (int64_t r = 0; r < tile.height; ++r) {
        const int64_t seen = num_visible_keys(args, first_row + tile.begin + r) - first_key;
        tile.counts[r] = seen < 0 ? 0 : seen < kBlockTokens ? seen : kBlockTokens;
      }
      tile.min_count = tile.counts[0];
      tile.max_count = tile.counts[tile.height - 1];
      if (tile.max_count > 0) tile_times_block(args, rows, tile, keys, values);
    }
  }

  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t token = (first_row + r) / args.group;
    const int64_t head = (first_row + r) % args.group;
    float* out = args.out + token * args.out_stride + head * args.head_dim;
    const __m256 sum = _mm256_set1_ps(rows.sum[r]);
    for (int64_t d = 0; d < args.head_dim; d += kLanes) {
      _mm256_maskstore_ps(out + d, lane_mask(args.head_dim - d),
                          _mm256_div_ps(_mm256_loadu_ps(rows.acc + r * stride + d), sum));
    }
  }
}

}  // namespace

int64_t attention_scratch_floats(int64_t head_dim) {
  return kMaxAttentionRows * (head_dim + padded_head_dim(head_dim) + kBlockTokens) +
         key_block_elements(head_dim) + value_block_elements(head_dim);
}

void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch) {
  switch (args.format) {
    case Format::kBF16:
      return attention_in<Format::kBF16>(args, first_row, last_row, scratch);
    case Format::kF16:
      return attention_in<Format::kF16>(args, first_row, last_row, scratch);
    case Format::kF32:
      return attention_in<Format::kF32>(args, first_row, last_row, scratch);
  }
}

}  // namespace qvl::kernels::avx2

#endif  // x86-64
