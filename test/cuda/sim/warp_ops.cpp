// What the lanes of a warp do together: shuffles, votes, reductions, matrix products.

#include "warp_ops.h"

#include <algorithm>
#include <bit>

#include "decode.h"
#include "half.h"
#include "machine.h"

namespace qvl::sim {
namespace {

struct ReduceAdd {
  static uint32_t of(uint32_t a, uint32_t b) { return a + b; }
};
struct ReduceMinU {
  static uint32_t of(uint32_t a, uint32_t b) { return std::min(a, b); }
};
struct ReduceMaxU {
  static uint32_t of(uint32_t a, uint32_t b) { return std::max(a, b); }
};
struct ReduceMinS {
  static uint32_t of(uint32_t a, uint32_t b) {
    return static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b;
  }
};
struct ReduceMaxS {
  static uint32_t of(uint32_t a, uint32_t b) {
    return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b;
  }
};
struct ReduceAnd {
  static uint32_t of(uint32_t a, uint32_t b) { return a & b; }
};
struct ReduceOr {
  static uint32_t of(uint32_t a, uint32_t b) { return a | b; }
};
struct ReduceXor {
  static uint32_t of(uint32_t a, uint32_t b) { return a ^ b; }
};

template <class F>
void reduce_lanes(Warp& w, const Instruction& in, uint32_t mask) {
  const uint32_t* from = w.get<uint32_t>(in.src[0]);
  uint32_t value = from[std::countr_zero(mask)];
  for (int l = std::countr_zero(mask) + 1; l < kLanes; ++l)
    if (mask >> l & 1) value = F::of(value, from[l]);
  uint32_t* to = w.at<uint32_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l)
    if (mask >> l & 1) to[l] = value;
}

/// Eight columns of a matrix.
typedef float Row __attribute__((vector_size(32)));

// Fragments of m16n8k16 as the PTX ISA draws them: lane l is row l / 4 and columns l % 4 * 2, + 1
// of an 8x8 quarter; A's registers are the quarters (upper, left), (lower, left), (upper, right),
// (lower, right). Products are summed in order of k, each rounded to float; hardware differs by a
// few ulp.
template <float (*kToFloat)(uint16_t)>
void multiply(Warp& w, const Instruction& in, uint32_t mask) {
  if (mask != ~0u) fail(w, in, std::countr_zero(mask), "mma without the whole warp");
  alignas(64) float a[16][16];
  Row b[16], c[16];
  const uint32_t* ra[4];
  for (int i = 0; i < 4; ++i) ra[i] = w.get<uint32_t>(in.src[i]);
  const uint32_t* rb[2] = {w.get<uint32_t>(in.src[4]), w.get<uint32_t>(in.src[5])};
  const float* rc[4];
  for (int i = 0; i < 4; ++i) rc[i] = w.get<float>(in.src[6 + i]);
  for (int l = 0; l < kLanes; ++l) {
    const int row = l / 4, pair = l % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      const int shift = 16 * i, k = pair + i;
      a[row][k] = kToFloat(static_cast<uint16_t>(ra[0][l] >> shift));
      a[row + 8][k] = kToFloat(static_cast<uint16_t>(ra[1][l] >> shift));
      a[row][k + 8] = kToFloat(static_cast<uint16_t>(ra[2][l] >> shift));
      a[row + 8][k + 8] = kToFloat(static_cast<uint16_t>(ra[3][l] >> shift));
      b[k][row] = kToFloat(static_cast<uint16_t>(rb[0][l] >> shift));
      b[k + 8][row] = kToFloat(static_cast<uint16_t>(rb[1][l] >> shift));
      c[row][k] = rc[i][l];
      c[row + 8][k] = rc[2 + i][l];
    }
  }
  for (int row = 0; row < 16; ++row) {
    Row sum = c[row];
    for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k];
    c[row] = sum;
  }
  float* rd[4];
  for (int i = 0; i < 4; ++i) rd[i] = w.at<float>(in.dst[i]);
  for (int l = 0; l < kLanes; ++l) {
    const int row = l / 4, pair = l % 4 * 2;
    for (int i = 0; i < 2; ++i) {
      rd[i][l] = c[row][pair + i];
      rd[2 + i][l] = c[row + 8][pair + i];
    }
  }
}

}  // namespace

namespace ops {

void nothing(Warp&, const Instruction&, uint32_t) {}

void trap(Warp& w, const Instruction& in, uint32_t mask) {
  if (mask) fail(w, in, std::countr_zero(mask), "trap");
}

void active_mask(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t* to = w.at<uint32_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l)
    if (mask >> l & 1) to[l] = mask;
}

void wait_for_predecessor(Warp& w, const Instruction&, uint32_t mask) { w.waited_lanes |= mask; }

void sync_warp(Warp& w, const Instruction&, uint32_t) { ++w.known[w.index]; }

void shuffle(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t value[kLanes];
  std::copy_n(w.get<uint32_t>(in.src[0]), kLanes, value);
  const uint32_t* b = w.get<uint32_t>(in.src[1]);
  const uint32_t* clamp = w.get<uint32_t>(in.src[2]);
  uint32_t result[kLanes], in_range = 0;
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    const int distance = static_cast<int>(b[l] & 31), top = static_cast<int>(clamp[l] & 31);
    const int segment = static_cast<int>(clamp[l] >> 8 & 31);
    const int last = (l & segment) | (top & ~segment);
    int from = 0;
    bool valid = true;
    switch (static_cast<ShuffleMode>(in.variant)) {
      case ShuffleMode::kButterfly:
        from = l ^ distance, valid = from <= last;
        break;
      case ShuffleMode::kIndex:
        from = (l & segment) | (distance & ~segment), valid = from <= last;
        break;
      case ShuffleMode::kDown:
        from = l + distance, valid = from <= last;
        break;
      case ShuffleMode::kUp:
        from = l - distance, valid = from >= last;
        break;
    }
    if (!valid) from = l;
    if (!(mask >> from & 1))
      fail(w, in, l, "shuffle from lane " + std::to_string(from) + ", which takes no part");
    result[l] = value[from];
    in_range |= uint32_t{valid} << l;
  }
  uint32_t* to = w.at<uint32_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l)
    if (mask >> l & 1) to[l] = result[l];
  uint32_t& predicate = *w.at<uint32_t>(in.dst[1]);
  predicate = (predicate & ~mask) | in_range;
}

void vote(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t votes = *w.get<uint32_t>(in.src[0]);
  if (in.negated_source) votes = ~votes;
  votes &= mask;
  const auto mode = static_cast<VoteMode>(in.variant);
  if (mode == VoteMode::kBallot) {
    uint32_t* to = w.at<uint32_t>(in.dst[0]);
    for (int l = 0; l < kLanes; ++l)
      if (mask >> l & 1) to[l] = votes;
    return;
  }
  const bool all = votes == mask, any = votes != 0;
  const bool result = mode == VoteMode::kAll ? all : mode == VoteMode::kAny ? any : all || !any;
  uint32_t& predicate = *w.at<uint32_t>(in.dst[0]);
  predicate = (predicate & ~mask) | (result ? mask : 0);
}

void match_any(Warp& w, const Instruction& in, uint32_t mask) {
  uint32_t value[kLanes];
  std::copy_n(w.get<uint32_t>(in.src[0]), kLanes, value);
  uint32_t* to = w.at<uint32_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    uint32_t same = 0;
    for (int other = 0; other < kLanes; ++other)
      same |= uint32_t{(mask >> other & 1) && value[other] == value[l]} << other;
    to[l] = same;
  }
}

Handler reduce(const std::string& operation, Type type) {
  if (type.bytes != 4) return nullptr;
  const bool is_signed = type.kind == 's';
  if (operation == "add") return reduce_lanes<ReduceAdd>;
  if (operation == "min") return is_signed ? reduce_lanes<ReduceMinS> : reduce_lanes<ReduceMinU>;
  if (operation == "max") return is_signed ? reduce_lanes<ReduceMaxS> : reduce_lanes<ReduceMaxU>;
  if (operation == "and") return reduce_lanes<ReduceAnd>;
  if (operation == "or") return reduce_lanes<ReduceOr>;
  if (operation == "xor") return reduce_lanes<ReduceXor>;
  return nullptr;
}

void mma_bf16(Warp& w, const Instruction& in, uint32_t mask) {
  multiply<bf16_to_float>(w, in, mask);
}
void mma_f16(Warp& w, const Instruction& in, uint32_t mask) {
  multiply<half_to_float>(w, in, mask);
}

}  // namespace ops

}  // namespace qvl::sim
