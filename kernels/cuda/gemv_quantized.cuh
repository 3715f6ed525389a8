#pragma once

// out = epilogue(norm(x) W^T) for a quantised W and 1 ... 8 rows of x.
//
// Dequantised on the ordinary lanes, 4-bit weights would take more instructions than a data
// centre's GPU can issue while it reads them. So weights are the A operand of tensor core products
// (16 rows) and the rows of x the B operand (8 columns): one row costs what eight do, and a row's
// result does not depend on the others.
//
// A block takes tiles of 16 matrix rows in turn. Its warps split the columns; each has its own part
// of x in shared memory and the next units of weights on their way into registers, those of the
// next tile too. Sums over the warps are a balanced binary tree, whose upper levels are the
// segments'.

#include "device.cuh"
#include "gemv_epilogue.cuh"
#include "gemv_quantized.h"
#include "quantized_unit.cuh"

namespace qvl {

struct QuantizedGemvShared {
  // Sums of a warp over its columns: [first or second row of a pair][place of a row of x][quad].
  // Two of them: one is filled while the other is added up.
  float partial[2][kQuantizedGemvWarps][2][kQuantizedGemvMaxRows][8];
  float squares[kQuantizedGemvMaxRows][kQuantizedGemvWarps];
  // Then W [warp][rows][staged stride].
};
static_assert(sizeof(QuantizedGemvShared) == quantized_gemv_shared_bytes(0, 0, 0));

template <class W, int kBits, int kGroup>
class QuantizedGemv {
 public:
  using Unit = QuantizedUnit<W, kBits, kGroup>;

  QVL_DEVICE explicit QuantizedGemv(const QuantizedGemvParams& params)
      : p(params), shared(shared_storage<QuantizedGemvShared>()) {
    const int warps = kQuantizedGemvWarps / p.matrix.segments;
    const int segment = warp_id() / warps, part = warp_id() % warps;
    const int first = part * p.matrix.segment_units / warps;
    num_units = (part + 1) * p.matrix.segment_units / warps - first;
    segment_unit = first;
    first_unit = segment * p.matrix.segment_units + first;
    stride = p.staged_units * Unit::kColumns + kQuantizedGemvStagedPadding;
    staged = warp_id() * p.rows * stride;
  }

  // Calls finish(row of x, first matrix row of the pair, second, their sums); -1 for no row.
  template <class Finish>
  QVL_DEVICE void run(Finish finish) {
    const QuantizedMatrix& m = p.matrix;
    const int tile_units = m.segments * m.segment_units;
    const int grid_units = static_cast<int>(gridDim.x) * tile_units;
    int tile = static_cast<int>(blockIdx.x);
    int index = tile * tile_units + first_unit;  // of the warp's first unit of the tile
    // Weights depend on no other kernel: have them on their way while x is staged.
    Unit units[kQuantizedGemvAhead];
#pragma unroll
    for (int i = 0; i < kQuantizedGemvAhead; ++i)
      if (i < num_units) units[i].load(m, index + i);
    wait_for_predecessor();
    if (p.norm_weight) sum_squares();

    int staged_from = -p.staged_units;
    for (int buffer = 0; tile < m.num_tiles; buffer ^= 1) {
      float total[4] = {};  // rows quad and quad + 8 of rows 2t and 2t + 1 of x
      for (int base = 0; base < num_units; base += kQuantizedGemvAhead) {
        if (base == staged_from + p.staged_units) stage(staged_from = base);
#pragma unroll
        for (int i = 0; i < kQuantizedGemvAhead; ++i) {
          if (base + i >= num_units) break;
          if (!Unit::kKeepsZeros) units[i].load_zeros(m, index + base + i);
          multiply(total, units[i], base + i - staged_from);
          const int next = base + i + kQuantizedGemvAhead;
          const bool in_tile = next < num_units;
          if (in_tile || tile + static_cast<int>(gridDim.x) < m.num_tiles)
            units[i].load(m, index + (in_tile ? next : grid_units + i));
        }
      }
      save(buffer, total);
      __syncthreads();
      if (threadIdx.x < 8 * kQuantizedGemvMaxRows) finish_pair(buffer, tile, finish);
      tile += static_cast<int>(gridDim.x);
      index += grid_units;
      if (p.staged_units < num_units) staged_from = -p.staged_units;
    }
    release_successor();
  }

 private:
  QVL_DEVICE void sum_squares() {
    const float* x = static_cast<const float*>(p.x);
    for (int row = 0; row < p.rows; ++row) {
      float sum = 0.f;
      for (int k = static_cast<int>(threadIdx.x) * 4; k < p.matrix.in_features;
           k += kQuantizedGemvThreads * 4) {
        float v[4];
        load_floats(v, x + row * p.x_stride + k);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum = fmaf(v[i], v[i], sum);
      }
      sum = lanes_sum(sum);
      if (lane_id() == 0) shared.squares[row][warp_id()] = sum;
    }
    __syncthreads();
  }
  QVL_DEVICE float inverse_rms(int row) const {
    const float(&s)[kQuantizedGemvWarps] = shared.squares[row];
    const float sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    return 1.f / sqrtf(sum / static_cast<float>(p.matrix.in_features) + p.eps);
  }

  // Brings the part of x for the warp's units [first, first + staged_units) into shared memory.
  QVL_DEVICE void stage(int first) {
    const int units = min(p.staged_units, num_units - first);
    const int segment_columns = p.matrix.in_features / p.matrix.segments;
    const int begin = (segment_unit + first) * Unit::kColumns;
    const int segment_begin =
        (first_unit - segment_unit) / p.matrix.segment_units * segment_columns;
    __syncwarp();
#pragma unroll 1
    for (int row = 0; row < p.rows; ++row) {
      const float inverse = p.norm_weight ? inverse_rms(row) : 1.f;
#pragma unroll 1
      for (int i = lane_id() * 8; i < units * Unit::kColumns; i += kWarpSize * 8) {
        const int column = begin + i;
        // Both ends of a segment are multiples of 8, so that eight columns are in it or not.
        uint4 bits = make_uint4(0, 0, 0, 0);
        if (column < segment_columns) bits = inputs(row, segment_begin + column, inverse);
        store_shared_16(x_in_shared() + row * stride + i, bits);
      }
    }
    __syncwarp();
  }
  // Eight neighbouring columns of a row of x, normalised.
  QVL_DEVICE uint4 inputs(int row, int column, float inverse) const {
    if (p.norm_weight) {
      const float* x = static_cast<const float*>(p.x) + row * p.x_stride;
      float v[8], weight[8];
      if (p.input_order) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int from = p.input_order[column + i];
          v[i] = x[from];
          weight[i] = p.norm_weight[from];
        }
      } else {
        load_floats(v, x + column);
        load_floats(weight, p.norm_weight + column);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = v[i] * inverse * weight[i];
      return pack_8<W>(v);
    }
    const W* x = static_cast<const W*>(p.x) + row * p.x_stride;
    if (!p.input_order) return load_16(x + column);
    const uint16_t* from = reinterpret_cast<const uint16_t*>(x);
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      words[i] = from[p.input_order[column + 2 * i]] |
                 static_cast<uint32_t>(from[p.input_order[column + 2 * i + 1]]) << 16;
    return make_uint4(words[0], words[1], words[2], words[3]);
  }
  template <int kCount>
  QVL_DEVICE static void load_floats(float (&v)[kCount], const float* src) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const uint4 bits = load_16(src + i);
      v[i] = __uint_as_float(bits.x);
      v[i + 1] = __uint_as_float(bits.y);
      v[i + 2] = __uint_as_float(bits.z);
      v[i + 3] = __uint_as_float(bits.w);
    }
  }

  QVL_DEVICE W* x_in_shared() const { return reinterpret_cast<W*>(&shared + 1) + staged; }

  // total += a unit of weights times its part of x.
  QVL_DEVICE void multiply(float (&total)[4], const Unit& unit, int staged_unit) const {
    const int quad = lane_id() / 4, t = lane_id() % 4;
    const W* x = x_in_shared() + quad * stride + staged_unit * Unit::kColumns + t * 8;
    float acc[4] = {};
#pragma unroll
    for (int block = 0; block < Unit::kBlocks; ++block) {
      uint4 b = make_uint4(0, 0, 0, 0);  // of row `quad` of x; zeros where there is none
      if (quad < p.rows) b = load_shared_16(x + block * 32);
      uint32_t a[4];
      unit.fragment(a, block, 0);
      Element<W>::mma(acc, a, b.x, b.y);
      unit.fragment(a, block, 1);
      Element<W>::mma(acc, a, b.z, b.w);
      if (kGroup != 32 && block + 1 != Unit::kBlocks) continue;
      const float2 scale = Element<fp16>::unpack(unit.scales[kGroup == 32 ? block : 0]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total[i] = fmaf(i < 2 ? scale.x : scale.y, acc[i], total[i]);
        acc[i] = 0.f;
      }
    }
  }

  // Row r of x has place r / 2 + r % 2 * 4 in the sums: then neither the stores here nor the loads
  // of finish_pair meet in a bank.
  QVL_DEVICE void save(int buffer, const float (&total)[4]) {
    const int quad = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      shared.partial[buffer][warp_id()][i / 2][t + i % 2 * 4][quad] = total[i];
  }
  template <class Finish>
  QVL_DEVICE void finish_pair(int buffer, int tile, Finish finish) const {
    const int place = static_cast<int>(threadIdx.x) / 8, quad = static_cast<int>(threadIdx.x) % 8;
    const int x_row = place % 4 * 2 + place / 4;
    const QuantizedMatrix& m = p.matrix;
    const int in_span = tile % m.span_tiles * 8 + quad;
    const int first = tile / m.span_tiles * 2 * m.pair_distance + in_span;
    const int second = first + m.pair_distance;
    if (x_row >= p.rows || in_span >= m.pair_distance || first >= m.out_features) return;
    float sum[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float v[kQuantizedGemvWarps];
#pragma unroll
      for (int w = 0; w < kQuantizedGemvWarps; ++w)
        v[w] = shared.partial[buffer][w][half][place][quad];
      sum[half] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    finish(x_row, first, second < m.out_features ? second : -1, sum[0], sum[1]);
  }

  const QuantizedGemvParams& p;
  QuantizedGemvShared& shared;
  int num_units;     // of this warp
  int first_unit;    // of them
  int segment_unit;  // the same, counted from the segment's first
  int stride;        // elements between staged rows
  int staged;        // where its part of x begins in shared memory, in elements
};

template <class W, int kBits, int kGroup, class Epilogue>
QVL_DEVICE void gemv_quantized(const QuantizedGemvKernelParams<Epilogue>& p) {
  QuantizedGemv<W, kBits, kGroup>(p.gemv).run(
      [&](int row, int first, int second, float a, float b) {
        finish<W>(p.epilogue, row, first, second, a, b);
      });
}

}  // namespace qvl
