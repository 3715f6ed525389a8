#pragma once

// Quantised matrices back to numbers: all of one for products of many rows, or rows of a table.

#include "dequantize.h"
#include "device.cuh"
#include "quantized_unit.cuh"

namespace qvl {

// A warp turns one unit: lane (quad, t) has 8 neighbouring columns of rows quad and quad + 8 in
// every block of 32 columns, so that a warp's store of 16 bytes a lane fills whole sectors.
template <class W, int kBits, int kGroup>
QVL_DEVICE void dequantize(const DequantizeParams& p) {
  using Unit = QuantizedUnit<W, kBits, kGroup>;
  const QuantizedMatrix& m = p.matrix;
  const int units = m.segments * m.segment_units;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kDequantizeUnits + warp_id();
  if (index >= static_cast<int64_t>(m.num_tiles) * units) return;
  const int tile = static_cast<int>(index / units), unit_index = static_cast<int>(index % units);
  Unit unit;
  unit.load(m, static_cast<int>(index));
  if (!Unit::kKeepsZeros) unit.load_zeros(m, static_cast<int>(index));

  const int quad = lane_id() / 4, t = lane_id() % 4;
  const int in_span = tile % m.span_tiles * 8 + quad;
  const int first = tile / m.span_tiles * 2 * m.pair_distance + in_span;
  const int segment_columns = m.in_features / m.segments;
  const int segment = unit_index / m.segment_units;
  const int unit_column = unit_index % m.segment_units * Unit::kColumns;
  if (in_span >= m.pair_distance) return;
#pragma unroll
  for (int block = 0; block < Unit::kBlocks; ++block) {
    uint32_t a[2][4];
    unit.fragment(a[0], block, 0);
    unit.fragment(a[1], block, 1);
    const int in_segment = unit_column + block * 32 + t * 8;
    if (in_segment >= segment_columns) return;
    const int column = segment * segment_columns + in_segment;
    const float2 scales = Element<fp16>::unpack(unit.scales[kGroup == 32 ? block : 0]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + half * m.pair_distance;
      const float scale = half == 0 ? scales.x : scales.y;
      if (row >= m.out_features) continue;
      float v[8];
      unpack_8<W>(v, make_uint4(a[0][half], a[0][2 + half], a[1][half], a[1][2 + half]));
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] *= scale;
      W* out = static_cast<W*>(p.out) + static_cast<int64_t>(row) * m.in_features;
      if (!p.input_order) {
        store_16(out + column, pack_8<W>(v));
        continue;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) out[p.input_order[column + i]] = Element<W>::from_float(v[i]);
    }
  }
}

// A block reads a row, a thread 8 of its columns at a time.
QVL_DEVICE void embed_int8(const EmbedQuantizedParams& p) {
  constexpr int kUnitColumns = 64, kGroupColumns = 128;
  const QuantizedMatrix& m = p.matrix;
  const int row = p.ids[blockIdx.x];
  const int tile = row / kQuantizedTileRows, quad = row % 8, half = row % kQuantizedTileRows / 8;
  float* out = p.out + static_cast<int64_t>(blockIdx.x) * p.out_stride;
  const int64_t first_unit = static_cast<int64_t>(tile) * m.segment_units;
  for (int column = static_cast<int>(threadIdx.x) * 8; column < m.in_features;
       column += kEmbedQuantizedThreads * 8) {
    const int block = column % kUnitColumns / 32, t = column % 32 / 8;
    const uint4 codes =
        load_16(static_cast<const uint4*>(m.codes) +
                ((first_unit + column / kUnitColumns) * 2 + block) * kWarpSize + quad * 4 + t);
    const uint32_t words[2] = {half == 0 ? codes.x : codes.y, half == 0 ? codes.z : codes.w};
    const int64_t group =
        ((first_unit / (kGroupColumns / kUnitColumns) + column / kGroupColumns) * 8 + quad) * 2 +
        half;
    const float scale = Element<fp16>::to_float(static_cast<const fp16*>(m.scales)[group]);
    const int zero = m.zeros == nullptr ? 128 : m.zeros[group];
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i)
      v[i] =
          static_cast<float>(static_cast<int>(words[i / 4] >> (i % 4 * 8) & 0xffu) - zero) * scale;
    store_16(out + column, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]),
                                      __float_as_uint(v[2]), __float_as_uint(v[3])));
    store_16(out + column + 4, make_uint4(__float_as_uint(v[4]), __float_as_uint(v[5]),
                                          __float_as_uint(v[6]), __float_as_uint(v[7])));
  }
}

}  // namespace qvl
