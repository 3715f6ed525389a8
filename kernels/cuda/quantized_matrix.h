#pragma once

#include <cstdint>

namespace qvl {

// Weight matrices as integer codes, in the one layout that all quantised kernels read:
//
//   w[n][k] = (code[n][k] - zero[n][g]) * scale[n][g],   g = k / group
//
// Rows are dealt to tiles of 16 in pairs: a tile holds rows i ... i + 7 and, below them, the rows
// `pair_distance` further, which an epilogue needs together: the two halves of a rotated head, a
// gate's rows and what they let through. With a distance of 8 the rows stay in order. Where the
// distance is no multiple of 8, or the matrix ends, a tile has rows without a matrix row: of codes
// and scales 0, and never written.
//
// Columns are cut into `segments` equal parts, each padded to a multiple of 128 columns with zero
// points. A unit is 1 KB: 16 rows by 128 columns of 4 bits or 64 of 8. Units of a tile follow each
// other, tiles follow each other.
//
// Inside a unit, columns come in blocks of 32, the k of two m16n8k16 products. Of a block, lane
// (quad, t) = (lane / 4, lane % 4) owns columns 8 t ... 8 t + 7 of rows quad and quad + 8: so the
// codes it needs are its own 16-byte loads, and its part of x is one 16-byte load too.
//   4 bits: [2 pairs of blocks][32 lanes][2 blocks][2 products] words; nibble j is the low and
//           nibble j + 4 the high half of A register j: column 4 s + 2 (j / 2) + (0, 1) of row
//           quad + 8 (j % 2) for product s.
//   8 bits: [2 blocks][32 lanes][2 products][2 rows] words of the 4 columns 4 s ... 4 s + 3.
//
// Scales and zero points: [tile][scale block][8 quads][scales of a block][2 rows], where a scale
// block covers a unit, or the 128 columns of a group where that is more.
struct QuantizedMatrix {
  const void* codes;     // 16-byte aligned
  const void* scales;    // fp16, 16-byte aligned
  const uint8_t* zeros;  // 8-byte aligned; null: 8 or 128 everywhere
  int32_t out_features;
  int32_t in_features;
  int32_t pair_distance;
  int32_t segments;       // 1, 2, 4 or 8
  int32_t segment_units;  // units of a segment
  int32_t span_tiles;     // tiles of 2 * pair_distance rows
  int32_t num_tiles;
};

constexpr int kQuantizedTileRows = 16;
constexpr int kQuantizedPaddedColumns = 128;
constexpr int kQuantizedUnitBytes = 1024;
// Rows that stay in order.
constexpr int kPlainPairDistance = kQuantizedTileRows / 2;

}  // namespace qvl
