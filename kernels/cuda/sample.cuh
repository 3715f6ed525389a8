#pragma once

// The next token of each row. sample_scores applies mask, bias, penalties and temperature to a
// slice of the vocabulary a block and finds the best; sample_weights gives each id exp(score -
// best); in sample_draw one block a row narrows the candidates down and draws. Its threads own
// consecutive ids, so sums over threads are sums in order of id; sums are integers, so no order of
// adding matters.

#include "device.cuh"
#include "sample.h"

namespace qvl {

// ---- numbers ----

// Scores in their order as unsigned integers. There is one zero only (see canonical).
QVL_DEVICE uint32_t order_of(float score) {
  const uint32_t bits = __float_as_uint(score);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
QVL_DEVICE float score_of(uint32_t order) {
  return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}
QVL_DEVICE float canonical(float score) { return __fadd_rn(score, 0.f); }

// Operations and their order are those of weight_of() in native/engine/sampler.cpp; nothing may be
// fused.
QVL_DEVICE float weight_of(float x) {
  if (!(x > -104.f)) return 0.f;
  constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  constexpr double kInverseFactorials[] = {1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                           1.0 / 720,     1.0 / 120,    1.0 / 24,    1.0 / 6,
                                           1.0 / 2,       1.0,          1.0};
  const double t = __dmul_rn(static_cast<double>(x), kLog2E);
  const double exponent = __dsub_rn(__dadd_rn(t, kRound), kRound);
  const double rest = __dmul_rn(__dsub_rn(t, exponent), kLn2);
  double power = 0.0;
#pragma unroll
  for (int i = 0; i < 11; ++i) power = __dadd_rn(__dmul_rn(power, rest), kInverseFactorials[i]);
  const long long bits = (1023 + static_cast<long long>(exponent)) << 52;
  return __double2float_rn(__dmul_rn(power, __longlong_as_double(bits)));
}
// In units of 2^-44, rounded down; weights are at most 1.
QVL_DEVICE unsigned long long share_of(float weight) {
  const uint32_t bits = __float_as_uint(weight);
  const int shift = static_cast<int>(bits >> 23) - 106;
  const unsigned long long mantissa = (bits & 0x7fffffu) | 0x800000u;
  if (shift >= 0) return mantissa << shift;
  return shift > -24 ? mantissa >> -shift : 0;
}
QVL_DEVICE unsigned long long part_of(unsigned long long total, double fraction) {
  return __double2ull_rz(__dmul_rn(fraction, __ull2double_rn(total)));
}
QVL_DEVICE unsigned long long split_mix(unsigned long long x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
QVL_DEVICE double uniform_draw(unsigned long long seed, unsigned long long index) {
  const unsigned long long state =
      split_mix(seed + 0x9e3779b97f4a7c15ull) + (index + 1) * 0x9e3779b97f4a7c15ull;
  return __dmul_rn(__ull2double_rn(split_mix(state) >> 11), 1.0 / 9007199254740992.0);
}

// ---- scores and weights ----

// Of an id: whether it is in the history, and how often in the history's part of the answer.
constexpr uint32_t kSampleSeen = 0x80000000u;

QVL_DEVICE void sample_count_row(const SampleParams& p) {
  const int64_t row = blockIdx.y;
  wait_for_predecessor();
  release_successor();
  const SampleOptions o = p.options[row];
  const int step = static_cast<int>(gridDim.x) * kSampleThreads;
  for (int i = static_cast<int>(blockIdx.x * kSampleThreads + threadIdx.x); i < o.num_history;
       i += step) {
    uint32_t* count = p.counts + row * p.scores_stride + o.history[i];
    atomicOr(count, kSampleSeen);
    if (i >= o.first_answer) atomicAdd(count, 1u);
  }
}

QVL_DEVICE float penalized(float score, uint32_t count, const SampleOptions& o) {
  if (o.repetition_penalty != 1.f) {
    score = score < 0.f ? __fmul_rn(score, o.repetition_penalty)
                        : __fdiv_rn(score, o.repetition_penalty);
  }
  const uint32_t times = count & ~kSampleSeen;
  if (times == 0) return score;
  score = __fsub_rn(score, __fmul_rn(static_cast<float>(times), o.frequency_penalty));
  return __fsub_rn(score, o.presence_penalty);
}

QVL_DEVICE float tempered(float score, const SampleOptions& o) {
  return canonical(__fdiv_rn(score, o.temperature));
}

QVL_DEVICE float bias_of(int id, const SampleOptions& o) {
  int first = 0, end = o.num_biases;
  while (first < end) {
    const int middle = (first + end) / 2;
    const SampleBias entry = o.biases[middle];
    if (entry.id == id) return entry.bias;
    if (entry.id < id)
      first = middle + 1;
    else
      end = middle;
  }
  return 0.f;
}

QVL_DEVICE void sample_scores_slice(const SampleParams& p) {
  const int64_t row = blockIdx.y;
  wait_for_predecessor();
  release_successor();
  const SampleOptions o = p.options[row];
  SampleState* state = p.states + row;
  const float* logits = p.logits + o.logits_row * p.logits_stride;
  const int first = static_cast<int>(blockIdx.x) * kSampleSlice;
  const int end = min(p.vocab_size, first + kSampleSlice);
  unsigned long long best = 0;
  for (int id = first + static_cast<int>(threadIdx.x); id < end; id += kSampleThreads) {
    float score = logits[id];
    if (!(fabsf(score) < INFINITY)) atomicOr(&state->is_not_finite, 1u);
    if (o.mask != nullptr && (o.mask[id / 64] >> (id % 64) & 1) == 0) score = -INFINITY;
    if (o.num_biases != 0) score = __fadd_rn(score, bias_of(id, o));
    if (o.num_history != 0) {
      uint32_t* count = p.counts + row * p.scores_stride + id;
      if (*count != 0) {
        score = penalized(score, *count, o);
        *count = 0;
      }
    }
    score = canonical(score);
    const unsigned long long order = order_of(score);
    best = max(best, order << 32 | ~static_cast<uint32_t>(id));
    if (o.temperature != 0.f) p.scores[row * p.scores_stride + id] = tempered(score, o);
  }
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    best = max(best, __shfl_xor_sync(kFullWarp, best, mask));
  }
  if (lane_id() == 0) atomicMax(&state->best, best);
}

// The largest score over the temperature; not finite where the quotient overflows.
QVL_DEVICE float largest_score(const SampleState& state, const SampleOptions& o) {
  return tempered(score_of(static_cast<uint32_t>(state.best >> 32)), o);
}

QVL_DEVICE void sample_weights_slice(const SampleParams& p) {
  const int64_t row = blockIdx.y;
  wait_for_predecessor();
  release_successor();
  const SampleOptions o = p.options[row];
  if (o.temperature == 0.f) return;
  const float largest = largest_score(p.states[row], o);
  const int first = static_cast<int>(blockIdx.x) * kSampleSlice;
  const int end = min(p.vocab_size, first + kSampleSlice);
  for (int id = first + static_cast<int>(threadIdx.x); id < end; id += kSampleThreads) {
    const int64_t at = row * p.scores_stride + id;
    p.weights[at] = weight_of(__fsub_rn(p.scores[at], largest));
  }
}

// ---- the draw ----

constexpr int kSampleBins = 2048;

struct SampleShared {
  uint32_t bins[kSampleBins];
  // The candidates that are ranked, in order of id.
  uint32_t orders[kSampleMaxRanked];
  float weights[kSampleMaxRanked];
  int32_t ids[kSampleMaxRanked];
  unsigned long long warps[2][kSampleDrawThreads / kWarpSize];  // see scan()
  SampleState state;
  int32_t cut_id, drawn;
  uint32_t bin, above, remaining;
};

// What a block shares, seen by a thread.
struct SampleBlock {
  SampleShared& shared;
  int turn = 0;  // which of shared.warps the last scan used
};

template <class T>
struct SampleScan {
  T before;  // sum over the threads before this one
  T total;
};

// Of a number of each thread of the block. Two scans use different memory, and whoever comes to the
// second has done with the one before the first: one barrier is enough.
template <class T>
QVL_DEVICE SampleScan<T> scan(SampleBlock& block, T value) {
  T sum = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const T other = __shfl_up_sync(kFullWarp, sum, distance);
    if (lane_id() >= distance) sum += other;
  }
  block.turn ^= 1;
  T* warps = reinterpret_cast<T*>(block.shared.warps[block.turn]);
  if (lane_id() == kWarpSize - 1) warps[warp_id()] = sum;
  __syncthreads();
  SampleScan<T> result{sum - value, 0};
#pragma unroll 8
  for (int w = 0; w < kSampleDrawThreads / kWarpSize; ++w) {
    const T of_warp = warps[w];
    if (w < warp_id()) result.before += of_warp;
    result.total += of_warp;
  }
  return result;
}

// Which ids remain.
struct SampleFilter {
  uint32_t least_order = 0;
  int last_of_least = INT32_MAX;  // of those with just this order, ids up to here
  float least_weight = 0.f;
  unsigned long long least_share = 1;

  QVL_DEVICE bool passes(int id, uint32_t order, float weight) const {
    return (order > least_order || (order == least_order && id <= last_of_least)) &&
           weight >= least_weight && share_of(weight) >= least_share;
  }
};

// A row's scores and weights, of which a thread owns consecutive ids.
struct SampleRow {
  const float* scores;
  const float* weights;
  int first, end;

  // act(id, order, weight) for this thread's ids that pass.
  template <class Act>
  QVL_DEVICE void each(const SampleFilter& filter, const Act& act) const {
    for (int i = first; i < end; i += 4) {
      const uint4 s = load_16(scores + i), w = load_16(weights + i);
      const uint32_t score[4] = {s.x, s.y, s.z, s.w}, weight[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t order = order_of(__uint_as_float(score[j]));
        const float v = __uint_as_float(weight[j]);
        if (i + j < end && filter.passes(i + j, order, v)) act(i + j, order, v);
      }
    }
  }
};

struct SampleTopK {
  uint32_t least_order;
  bool is_exact;  // else there are more than k from it on, but no more than can be ranked
};

// Finds the k-th largest score by its digits of 11, 11 and 10 bits, or stops where few enough
// remain.
QVL_DEVICE SampleTopK find_top_k(SampleBlock& block, const SampleRow& row, uint32_t k) {
  SampleShared& shared = block.shared;
  uint32_t prefix = 0, fixed = 0, above = 0;
#pragma unroll 1
  for (int shift = 21;; shift = max(shift - 11, 0)) {
    for (int i = static_cast<int>(threadIdx.x); i < kSampleBins; i += kSampleDrawThreads) {
      shared.bins[i] = 0;
    }
    __syncthreads();
    const uint32_t digit_mask = shift > 0 ? kSampleBins - 1 : kSampleBins / 2 - 1;
    for (int i = row.first; i < row.end; i += 4) {
      const uint4 s = load_16(row.scores + i);
      const uint32_t score[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t order = order_of(__uint_as_float(score[j]));
        if (i + j < row.end && (order & fixed) == prefix) {
          atomicAdd(&shared.bins[order >> shift & digit_mask], 1u);
        }
      }
    }
    __syncthreads();
    // Thread t has the two bins that come after those of the threads before it, largest first.
    const int upper = kSampleBins - 1 - 2 * static_cast<int>(threadIdx.x);
    const uint32_t counts[2] = {shared.bins[upper], shared.bins[upper - 1]};
    uint32_t before = above + scan(block, counts[0] + counts[1]).before;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (before < k && k <= before + counts[i]) {
        shared.bin = static_cast<uint32_t>(upper - i);
        shared.above = before;
        shared.remaining = before + counts[i];
      }
      before += counts[i];
    }
    __syncthreads();
    above = shared.above;
    prefix |= shared.bin << shift;
    fixed |= digit_mask << shift;
    if (shared.remaining <= kSampleMaxRanked) return {prefix, false};
    if (shift == 0) return {prefix, true};
  }
}

// Draws among ids of which this thread's have `own` in shares together; walk(target) is called by
// one thread, with what is left of the target at its first id.
template <class Walk>
QVL_DEVICE void draw(SampleBlock& block, unsigned long long own, double uniform, const Walk& walk) {
  const SampleScan<unsigned long long> sum = scan(block, own);
  const unsigned long long target = min(part_of(sum.total, uniform), sum.total - 1);
  if (sum.before <= target && target < sum.before + own) walk(target - sum.before);
}

// Draws among the `count` candidates in shared memory, of which top_k (0: all) and what top-p keeps
// remain. `total`: of all candidates that top-p sees, 0 = those here.
QVL_DEVICE void draw_ranked(SampleBlock& block, const SampleOptions& o, int count, uint32_t top_k,
                            unsigned long long total, double uniform) {
  SampleShared& shared = block.shared;
  constexpr int kOwn = kSampleMaxRanked / kSampleDrawThreads;
  const int first = static_cast<int>(threadIdx.x) * kOwn;
  const bool is_ranked = top_k != 0 || o.top_p < 1.f;
  __syncthreads();
  bool keeps[kOwn];
  unsigned long long before[kOwn];  // shares of those that rank before
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int at = first + i;
    keeps[i] = at < count;
    before[i] = 0;
    uint32_t num_greater = 0;
    for (int j = 0; is_ranked && at < count && j < count; ++j) {
      const bool is_greater = shared.orders[j] > shared.orders[at];
      num_greater += is_greater ? 1 : 0;
      const bool ranks_before = is_greater || (shared.orders[j] == shared.orders[at] && j < at);
      if (ranks_before) before[i] += share_of(shared.weights[j]);
    }
    if (top_k != 0) keeps[i] = keeps[i] && num_greater < top_k;
  }
  const auto own_share = [&] {
    unsigned long long own = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (keeps[i]) own += share_of(shared.weights[first + i]);
    }
    return own;
  };
  if (o.top_p < 1.f) {
    if (total == 0) total = scan(block, own_share()).total;
    // What top-k keeps is all that ranks before what it keeps.
    const unsigned long long needed = part_of(total, static_cast<double>(o.top_p));
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      keeps[i] = keeps[i] && (before[i] == 0 || before[i] < needed);
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    keeps[i] = keeps[i] && shared.weights[first + i] >= o.min_p;
  }
  draw(block, own_share(), uniform, [&](unsigned long long target) {
    bool is_found = false;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const unsigned long long share = keeps[i] ? share_of(shared.weights[first + i]) : 0;
      if (!is_found && target < share) {
        shared.drawn = shared.ids[first + i];
        is_found = true;
      }
      target -= share;
    }
  });
}

// Of more candidates than can be ranked, the fewest largest whose shares reach `needed`: finds the
// least of their scores bit by bit.
QVL_DEVICE void keep_top_p(SampleBlock& block, const SampleRow& row, SampleFilter& filter,
                           unsigned long long needed, float largest) {
  const auto share_from = [&](uint32_t least) {
    unsigned long long own = 0;
    row.each(filter, [&](int, uint32_t order, float weight) {
      if (order >= least) own += share_of(weight);
    });
    return scan(block, own).total;
  };
  needed = max(needed, 1ull);
  uint32_t cut = 0;
#pragma unroll 1
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    if (share_from(cut | bit) >= needed) cut |= bit;
  }
  // Equals have equal shares, and the first of them go in.
  const unsigned long long above = share_from(cut + 1);
  const unsigned long long share = share_of(weight_of(__fsub_rn(score_of(cut), largest)));
  const unsigned long long wanted = ceil_div(needed - above, share);
  const auto each_equal = [&](const auto& act) {
    row.each(filter, [&](int id, uint32_t order, float) {
      if (order == cut) act(id);
    });
  };
  uint32_t own = 0;
  each_equal([&](int) { ++own; });
  uint32_t number = scan(block, own).before;
  each_equal([&](int id) {
    if (++number == wanted) block.shared.cut_id = id;
  });
  __syncthreads();
  filter.least_order = cut;
  filter.last_of_least = block.shared.cut_id;
}

QVL_DEVICE void draw_row(SampleBlock& block, const SampleRow& row, const SampleOptions& o,
                         int vocab_size, float largest) {
  SampleShared& shared = block.shared;
  const uint32_t top_k = o.top_k > 0 && o.top_k < vocab_size ? static_cast<uint32_t>(o.top_k) : 0;
  SampleTopK top{0, true};
  if (top_k == 1) top = {order_of(largest), true};
  if (top_k > 1) top = find_top_k(block, row, top_k);
  SampleFilter filter;
  filter.least_order = top.least_order;
  // With top-p, what min-p drops still counts for the total.
  if (!(o.top_p < 1.f)) filter.least_weight = o.min_p;

  unsigned long long own = 0, total = 0, needed = 0;
  uint32_t own_count = 0;
  const auto measure = [&] {
    own = 0;
    own_count = 0;
    row.each(filter, [&](int, uint32_t, float weight) {
      own += share_of(weight);
      ++own_count;
    });
  };
  measure();
  SampleScan<uint32_t> counts = scan(block, own_count);
  if (counts.total > kSampleMaxRanked && o.top_p < 1.f) {
    // Candidates whose share is below a mean of what top-p cuts off are together less than that:
    // they go, and what may still be cut off is a mean over fewer. Of what remains, the upper
    // halves of the threads' sums tell enough: never more than there is.
    unsigned long long remaining = total = scan(block, own).total;
    needed = part_of(total, static_cast<double>(o.top_p));
    for (uint32_t count = 0; count != counts.total && counts.total > kSampleMaxRanked;) {
      count = counts.total;
      const unsigned long long excess = remaining > needed ? remaining - needed : 0;
      filter.least_share = max(excess / count, filter.least_share);
      measure();
      counts = scan(block, own_count);
      const uint32_t upper = scan(block, static_cast<uint32_t>(own >> 32)).total;
      remaining = static_cast<unsigned long long>(upper) << 32;
    }
  }
  const double uniform = uniform_draw(o.seed, static_cast<unsigned long long>(o.draw));
  if (counts.total <= kSampleMaxRanked) {
    int at = static_cast<int>(counts.before);
    row.each(filter, [&](int id, uint32_t order, float weight) {
      shared.ids[at] = id;
      shared.orders[at] = order;
      shared.weights[at] = weight;
      ++at;
    });
    return draw_ranked(block, o, static_cast<int>(counts.total), top.is_exact ? 0 : top_k, total,
                       uniform);
  }
  if (o.top_p < 1.f) {
    keep_top_p(block, row, filter, needed, largest);
    filter.least_weight = o.min_p;
    measure();
  }
  draw(block, own, uniform, [&](unsigned long long target) {
    bool is_found = false;
    row.each(filter, [&](int id, uint32_t, float weight) {
      if (is_found) return;
      is_found = share_of(weight) > target;
      if (is_found) shared.drawn = id;
      target -= share_of(weight);
    });
  });
}

QVL_DEVICE void sample_draw_row(const SampleParams& p) {
  auto& shared = shared_storage<SampleShared>();
  wait_for_predecessor();
  release_successor();
  const int64_t number = blockIdx.x;
  const SampleOptions o = p.options[number];
  if (threadIdx.x == 0) {
    shared.state = p.states[number];
    p.states[number] = {0, 0};
  }
  __syncthreads();
  const SampleState state = shared.state;
  const bool has_none = score_of(static_cast<uint32_t>(state.best >> 32)) == -INFINITY;
  const float largest = largest_score(state, o);

  int32_t result = static_cast<int32_t>(~static_cast<uint32_t>(state.best));
  if (state.is_not_finite != 0 || has_none) {
    result = kSampleUndecided;
  } else if (o.temperature != 0.f && largest > -INFINITY && largest < INFINITY) {
    const int share = ceil_div(ceil_div(p.vocab_size, kSampleDrawThreads), 4) * 4;
    const int first = min(static_cast<int>(threadIdx.x) * share, p.vocab_size);
    const SampleRow row{p.scores + number * p.scores_stride, p.weights + number * p.scores_stride,
                        first, min(first + share, p.vocab_size)};
    SampleBlock block{shared};
    draw_row(block, row, o, p.vocab_size, largest);
    __syncthreads();
    result = shared.drawn;
  }
  if (threadIdx.x == 0) p.results[number] = result;
}

}  // namespace qvl
