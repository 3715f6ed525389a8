#pragma once

// Attention in vectors, in the order of attention.cpp: the query rows of a call go over a part of
// the keys in tiles whose sums are registers. A tile's scores, then weights, lie in the first-level
// cache, the part's keys and values in the second.

#include "kernels/cpu/attention.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/math_simd.h"
#include "kernels/cpu/tile_simd.h"

namespace qvl::kernels::QVL_ISA {
namespace {

// Rows that go over a part together: a multiple of 6, the group of most models.
constexpr int64_t kMaxAttentionRows = 96;
constexpr int64_t kPartBlocks = kPartTokens / kBlockTokens;
// Rows of queries, cut into chunks over d, and rows of scores have constant strides, which become
// part of the instructions' addresses; odd numbers of cache lines, so that rows spread over the
// sets.
constexpr int64_t kQueryChunk = 128;
constexpr int64_t kQueryStride = kQueryChunk + 16;
constexpr int64_t kScoreStride = kPartTokens + 16;

inline int64_t num_query_chunks(int64_t head_dim) { return ceil_div(head_dim, kQueryChunk); }

// Working memory of one call, in scratch.
struct AttentionScratch {
  float* queries;   // [chunks][rows][kQueryStride], scaled
  float* totals;    // [rows][partial_floats]
  float* partials;  // likewise: of the present part
  float* scores;    // [rows of a tile][kScoreStride]
  float* keys;      // of a part, widened
  float* values;

  AttentionScratch(float* scratch, int64_t head_dim) {
    const int64_t floats = kMaxAttentionRows * partial_floats(head_dim);
    queries = scratch;
    totals = queries + kMaxAttentionRows * num_query_chunks(head_dim) * kQueryStride;
    partials = totals + floats;
    scores = partials + floats;
    keys = scores + kMaxTileRows * kScoreStride;
    values = keys + kPartBlocks * key_block_elements(head_dim);
  }
};

int64_t attention_scratch_floats(int64_t head_dim) {
  return kMaxAttentionRows *
             (num_query_chunks(head_dim) * kQueryStride + 2 * partial_floats(head_dim)) +
         kMaxTileRows * kScoreStride +
         kPartBlocks * (key_block_elements(head_dim) + value_block_elements(head_dim));
}

// The blocks of one part that its rows see.
struct Part {
  int64_t num_keys;
  const char* next_keys;  // what is read after it
  const char* keys[kPartBlocks];
  const char* values[kPartBlocks];
};

// A tile of rows and what it reads and writes.
struct AttentionTile {
  int64_t head_dim;
  const float* queries;
  int64_t chunk_stride;
  float* scores;
  float* partials;
  bool is_alone;                 // the only tile: what it reads comes from memory
  int64_t counts[kMaxTileRows];  // keys that the rows see of the part: ever more
};

// acc [kRows][kVectors * kLanes] += a [kRows, count] * b [count, kVectors * kLanes], b in storage
// format with rows b_step bytes apart. Fetches as much from `ahead`.
template <Format kFormat, int kRowStep, int kRows, int kVectors>
QVL_ALWAYS_INLINE inline void multiply_stored(Vector (&acc)[kRows][kVectors], const float* a,
                                              const char* b, int64_t b_step, int64_t count,
                                              const char* ahead, int64_t ahead_step) {
  constexpr int64_t kBytes = kLanes * static_cast<int64_t>(format_size(kFormat));
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t line = 0; line < kVectors * kBytes; line += kLineBytes) {
      prefetch_to_l1(ahead + line);
    }
    Vector columns[kVectors];
    unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
      constexpr int c = decltype(column)::value;
      columns[c] = load_widened<kFormat>(b + c * kBytes);
    });
    unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
      constexpr int r = decltype(row)::value;
      const Vector x = load_broadcast(a + r * kRowStep + k);
      unroll<kVectors>([&](auto column) QVL_ALWAYS_INLINE {
        constexpr int c = decltype(column)::value;
        acc[r][c] = fmadd(x, columns[c], acc[r][c]);
      });
    });
    b += b_step;
    ahead += ahead_step;
  }
}

// Vectors of columns that a tile of kRows keeps in registers: few rows leave room for twice as
// many.
template <int kRows>
constexpr int kValueVectors = 2 * kRows <= kMaxTileRows ? 2 * kTileVectors : kTileVectors;

// body(Constant<vectors>, column) for columns [0, count), a multiple of kLanes: kWidest vectors at
// a time and one at a time for what is left.
template <int kWidest, class Body>
QVL_ALWAYS_INLINE inline void for_tile_columns(int64_t count, const Body& body) {
  int64_t column = 0;
  for (; column + kWidest * kLanes <= count; column += kWidest * kLanes) {
    body(Constant<kWidest>{}, column);
  }
  for (; column < count; column += kLanes) body(Constant<1>{}, column);
}

// ---- scores ----

template <Format kFormat, int kRows>
void score_block(const AttentionTile& tile, int64_t num_keys, const char* keys, float* scores,
                 const char* ahead) {
  constexpr int64_t kSize = format_size(kFormat);
  constexpr int64_t kStep = kBlockTokens * kSize;
  const int64_t count = num_keys < kBlockTokens ? num_keys : kBlockTokens;
  for_tile_columns<kTileVectors>(ceil_div(count, kLanes) * kLanes, [&](auto width, int64_t column) {
    constexpr int kVectors = decltype(width)::value;
    Vector acc[kRows][kVectors];
    zero_tile(acc);
    const float* queries = tile.queries;
    for (int64_t d = 0; d < tile.head_dim; d += kQueryChunk) {
      const int64_t left = tile.head_dim - d;
      const int64_t offset = d * kStep + column * kSize;
      multiply_stored<kFormat, kQueryStride>(
          acc, queries, keys + offset, kStep, left < kQueryChunk ? left : kQueryChunk,
          ahead + (column * tile.head_dim + d * kVectors * kLanes) * kSize,
          kVectors * kLanes * kSize);
      queries += tile.chunk_stride;
    }
    store_tile(acc, scores + column, kScoreStride);
  });
}

// ---- weights ----

// Writes -infinity behind a row's `count` scores, up to whole partial sums. Returns the maximum.
float max_score(float* scores, int64_t count) {
  const int64_t end = ceil_div(count, kPartialSums) * kPartialSums;
  for (int64_t i = count / kLanes * kLanes; i < end; i += kLanes) {
    const FirstLanes seen(count - i);
    store(scores + i, select(seen, load(scores + i), broadcast(kMinusInfinity)));
  }
  Vector maxima[kSumVectors];
  for (Vector& max : maxima) max = broadcast(kMinusInfinity);
  for (int64_t i = 0; i < end; i += kPartialSums) {
    unroll<kSumVectors>([&](auto index) QVL_ALWAYS_INLINE {
      constexpr int v = decltype(index)::value;
      maxima[v] = max(load(scores + i + v * kLanes), maxima[v]);
    });
  }
  for (int v = 1; v < kSumVectors; ++v) maxima[0] = max(maxima[v], maxima[0]);
  return max_lanes(maxima[0]);
}

// Scores become weights. Returns their sum.
float exponentials(float* scores, int64_t count, float maximum) {
  Vector partial_sums[kSumVectors];
  for (Vector& sum : partial_sums) sum = zero();
  for (int64_t i = 0; i < count; i += kPartialSums) {
    unroll<kSumVectors>([&](auto index) QVL_ALWAYS_INLINE {
      constexpr int v = decltype(index)::value;
      float* at = scores + i + v * kLanes;
      const Vector weight = exp2_f32(sub(load(at), broadcast(maximum)));
      store(at, weight);
      partial_sums[v] = add(partial_sums[v], weight);
    });
  }
  return sum_partial_sums(partial_sums);
}

// Two loops, because the maximum of one row need not wait for the exponentials of another.
void softmax_rows(const AttentionTile& tile, int64_t num_rows) {
  float maxima[kMaxTileRows];
  for (int64_t r = 0; r < num_rows; ++r) {
    maxima[r] = max_score(tile.scores + r * kScoreStride, tile.counts[r]);
  }
  float* partial = tile.partials;
  for (int64_t r = 0; r < num_rows; ++r) {
    partial[sum_index(tile.head_dim)] =
        exponentials(tile.scores + r * kScoreStride, tile.counts[r], maxima[r]);
    partial[max_index(tile.head_dim)] = maxima[r];
    partial += partial_floats(tile.head_dim);
  }
}

// ---- values ----

// Columns [d, d + kVectors * kLanes) of the tile's partial results, over keys [first, last).
template <Format kFormat, int kRows, int kVectors>
void value_columns(const AttentionTile& tile, const Part& part, int64_t d, int64_t first,
                   int64_t last) {
  constexpr int64_t kSize = format_size(kFormat);
  const int64_t step = padded_head_dim(tile.head_dim) * kSize;
  float* const partials = tile.partials + d;
  Vector acc[kRows][kVectors];
  if (first == 0) {
    zero_tile(acc);
  } else {
    load_tile(acc, partials, partial_floats(tile.head_dim));
  }
  for (; first < last; first += kBlockTokens) {
    const int64_t left = last - first;
    const int64_t block = first / kBlockTokens;
    const char* next =
        first + kBlockTokens < part.num_keys ? part.values[block + 1] : part.next_keys;
    next += (tile.is_alone ? d * kBlockTokens : d) * kSize;
    multiply_stored<kFormat, kScoreStride>(acc, tile.scores + first, part.values[block] + d * kSize,
                                           step, left < kBlockTokens ? left : kBlockTokens, next,
                                           tile.is_alone ? kVectors * kLanes * kSize : step);
  }
  store_tile(acc, partials, partial_floats(tile.head_dim));
}

// Rows [row, row + kRows) and keys [first, last) of one block.
template <Format kFormat, int kRows>
void value_tail_rows(const AttentionTile& tile, const Part& part, int64_t row, int64_t first,
                     int64_t last) {
  constexpr int64_t kSize = format_size(kFormat);
  const int64_t stride = padded_head_dim(tile.head_dim);
  const int64_t row_floats = partial_floats(tile.head_dim);
  const char* values = part.values[first / kBlockTokens] + first % kBlockTokens * stride * kSize;
  for (int64_t d = 0; d < stride; d += kLanes) {
    Vector acc[kRows][1];
    float* partials = tile.partials + row * row_floats + d;
    load_tile(acc, partials, row_floats);
    multiply_stored<kFormat, kScoreStride>(acc, tile.scores + row * kScoreStride + first,
                                           values + d * kSize, stride * kSize, last - first, values,
                                           0);
    store_tile(acc, partials, row_floats);
  }
}

// The keys [first, last) of one block, which rows [row, last_row) of the tile see and those before
// do not: those must not meet the values, which may be anything. Not inlined: every height of a
// tile would get its own copy of every number of rows, which takes a compiler minutes.
template <Format kFormat>
QVL_NO_INLINE void value_tail(const AttentionTile& tile, const Part& part, int64_t row,
                              int64_t last_row, int64_t first, int64_t last) {
  with_constant<kMaxTileRows>(last_row - row, [&](auto rows) {
    value_tail_rows<kFormat, decltype(rows)::value>(tile, part, row, first, last);
  });
}

// ---- a tile and a part ----

template <Format kFormat, int kRows>
void tile_times_part(const AttentionTile& tile, const Part& part) {
  const int64_t seen = tile.counts[kRows - 1];
  for (int64_t first = 0; first < seen; first += kBlockTokens) {
    const int64_t block = first / kBlockTokens;
    const bool is_last = first + kBlockTokens >= part.num_keys;
    score_block<kFormat, kRows>(tile, seen - first, part.keys[block], tile.scores + first,
                                is_last ? part.values[0] : part.keys[block + 1]);
  }
  softmax_rows(tile, kRows);
  // A tile alone takes the values as they lie in memory, block by block; others find them in the
  // cache and keep their sums in registers.
  const int64_t step = tile.is_alone ? kBlockTokens : kPartTokens;
  int64_t first = 0;
  do {
    const int64_t last = first + step < tile.counts[0] ? first + step : tile.counts[0];
    for_tile_columns<kValueVectors<kRows>>(
        padded_head_dim(tile.head_dim), [&](auto width, int64_t d) {
          value_columns<kFormat, kRows, decltype(width)::value>(tile, part, d, first, last);
        });
    first = last;
  } while (first < tile.counts[0]);
  for (int64_t r = 1; r < kRows; ++r) {
    for (first = tile.counts[r - 1]; first < tile.counts[r];) {
      const int64_t border = (first / kBlockTokens + 1) * kBlockTokens;
      const int64_t last = tile.counts[r] < border ? tile.counts[r] : border;
      value_tail<kFormat>(tile, part, r, kRows, first, last);
      first = last;
    }
  }
}

Part find_part(const AttentionArgs& args, int64_t index, int64_t num_keys, int64_t last_row) {
  Part part{};
  part.num_keys = num_keys;
  int64_t next = (index + 1) * kPartBlocks;
  if (next * kBlockTokens >= num_visible_keys(args, last_row - 1)) next = index * kPartBlocks;
  part.next_keys = static_cast<const char*>(args.keys) +
                   (args.blocks != nullptr ? args.blocks[next] : next) * args.block_stride;
  for (int64_t i = 0; i * kBlockTokens < num_keys; ++i) {
    const int64_t block = index * kPartBlocks + i;
    const int64_t offset =
        (args.blocks != nullptr ? args.blocks[block] : block) * args.block_stride;
    part.keys[i] = static_cast<const char*>(args.keys) + offset;
    part.values[i] = static_cast<const char*>(args.values) + offset;
  }
  return part;
}

template <Format kFormat>
void widen_part(Part& part, int64_t head_dim, const AttentionScratch& scratch) {
  for (int64_t first = 0; first < part.num_keys; first += kBlockTokens) {
    const int64_t block = first / kBlockTokens;
    const int64_t left = part.num_keys - first;
    const int64_t count = left < kBlockTokens ? left : kBlockTokens;
    float* keys = scratch.keys + block * key_block_elements(head_dim);
    float* values = scratch.values + block * value_block_elements(head_dim);
    widen<kFormat>(keys, part.keys[block], key_block_elements(head_dim) / kLanes);
    widen<kFormat>(values, part.values[block], count * padded_head_dim(head_dim) / kLanes);
    part.keys[block] = reinterpret_cast<const char*>(keys);
    part.values[block] = reinterpret_cast<const char*>(values);
  }
}

// Rows [first_row, last_row), whose queries are in scratch, and part `index`: partials [rows].
template <Format kFormat>
void rows_times_part(const AttentionArgs& args, int64_t first_row, int64_t last_row, int64_t index,
                     float* partials, const AttentionScratch& scratch) {
  const int64_t num_rows = last_row - first_row;
  Part part = find_part(args, index, num_part_keys(args, last_row - 1, index), last_row);
  const bool in_place = kFormat == Format::kF32 || num_rows <= kMaxTileRows;
  if (!in_place) widen_part<kFormat>(part, args.head_dim, scratch);
  for (int64_t t = 0; t < num_tiles(num_rows); ++t) {
    const int64_t begin = tile_begin(num_rows, t);
    const int64_t height = tile_begin(num_rows, t + 1) - begin;
    AttentionTile tile{};
    tile.head_dim = args.head_dim;
    tile.queries = scratch.queries + begin * kQueryStride;
    tile.chunk_stride = num_rows * kQueryStride;
    tile.scores = scratch.scores;
    tile.is_alone = num_rows <= kMaxTileRows;
    tile.partials = partials + begin * partial_floats(args.head_dim);
    for (int64_t r = 0; r < height; ++r) {
      tile.counts[r] = num_part_keys(args, first_row + begin + r, index);
    }
    if (tile.counts[height - 1] == 0) continue;
    with_constant<kMaxTileRows>(height, [&](auto rows) {
      constexpr int kRows = decltype(rows)::value;
      if (in_place) {
        tile_times_part<kFormat, kRows>(tile, part);
      } else {
        tile_times_part<Format::kF32, kRows>(tile, part);
      }
    });
  }
}

void rows_times_part(const AttentionArgs& args, int64_t first_row, int64_t last_row, int64_t index,
                     float* partials, const AttentionScratch& scratch) {
  with_format(args.format, [&](auto format) {
    rows_times_part<decltype(format)::value>(args, first_row, last_row, index, partials, scratch);
  });
}

// ---- rows ----

void load_queries(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* queries) {
  const Vector scale = broadcast(exponent_scale(args));
  const int64_t rows = last_row - first_row;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = first_row + r;
    const float* q = args.q + row / args.group * args.q_stride + row % args.group * args.head_dim;
    for (int64_t d = 0; d < args.head_dim; d += kQueryChunk) {
      float* to = queries + (d / kQueryChunk * rows + r) * kQueryStride;
      const int64_t left = args.head_dim - d;
      for_vectors(left < kQueryChunk ? left : kQueryChunk, [&](int64_t i, auto lanes) {
        store(to + i, mul(load(q + d + i, lanes), scale));
      });
    }
  }
}

// total = total and the part after it.
void merge_part(float* total, const float* part, int64_t head_dim) {
  const float old_max = total[max_index(head_dim)];
  const float part_max = part[max_index(head_dim)];
  const float new_max = part_max > old_max ? part_max : old_max;
  const Vector old_factor = exp2_f32(broadcast(old_max - new_max));
  const Vector part_factor = exp2_f32(broadcast(part_max - new_max));
  for (int64_t d = 0; d < partial_floats(head_dim); d += kLanes) {
    store(total + d, fmadd(load(part + d), part_factor, mul(load(total + d), old_factor)));
  }
  total[max_index(head_dim)] = new_max;
}

void write_row(const AttentionArgs& args, int64_t row, const float* total) {
  float* out = args.out + row / args.group * args.out_stride + row % args.group * args.head_dim;
  const Vector inverse = broadcast(1.0f / total[sum_index(args.head_dim)]);
  for_vectors(args.head_dim,
              [&](int64_t d, auto lanes) { store(out + d, mul(load(total + d), inverse), lanes); });
}

void attention(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* memory) {
  const AttentionScratch scratch(memory, args.head_dim);
  const int64_t row_floats = partial_floats(args.head_dim);
  load_queries(args, first_row, last_row, scratch.queries);
  rows_times_part(args, first_row, last_row, 0, scratch.totals, scratch);
  for (int64_t part = 1; num_part_keys(args, last_row - 1, part) > 0; ++part) {
    rows_times_part(args, first_row, last_row, part, scratch.partials, scratch);
    for (int64_t row = first_row; row < last_row; ++row) {
      if (num_part_keys(args, row, part) == 0) continue;
      const int64_t offset = (row - first_row) * row_floats;
      merge_part(scratch.totals + offset, scratch.partials + offset, args.head_dim);
    }
  }
  for (int64_t row = first_row; row < last_row; ++row) {
    write_row(args, row, scratch.totals + (row - first_row) * row_floats);
  }
}

void attention_parts(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                     int64_t first_part, int64_t last_part, float* partials, int64_t part_stride,
                     float* memory) {
  const AttentionScratch scratch(memory, args.head_dim);
  load_queries(args, first_row, last_row, scratch.queries);
  for (int64_t part = first_part; part < last_part; ++part) {
    rows_times_part(args, first_row, last_row, part, partials + part * part_stride, scratch);
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

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
