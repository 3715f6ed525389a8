#pragma once

#include "device.cuh"

namespace qvl {

/// A [kRows, kCols] tile of 16-bit numbers in shared memory, without padding, in which the 16-byte
/// chunks of a row are permuted so that neither a row-wise copy nor ldmatrix, which reads the same
/// chunk of 8 consecutive rows, meets a bank twice.
///
/// Eight chunks fill the banks once. Where a row has 2^n chunks, or a multiple of 8, the chunk
/// number is xored with the row's, counted in lines of 8 chunks. Where it has an odd number of
/// pairs of chunks (head_dim 80: 5), four rows already fall into four different pairs of banks, and
/// the next four swap the chunks of a pair.
template <class W, int kRows, int kCols>
struct SwizzledTile {
  static constexpr int kChunks = kCols / 8;
  static constexpr bool kOddPairs = kChunks % 4 == 2;
  static_assert(kCols % 8 == 0 && (kOddPairs || kChunks % 8 == 0 || 8 % kChunks == 0));
  static_assert(sizeof(W) == 2);
  alignas(128) W data[kRows * kCols];

  QVL_DEVICE W* chunk(int row, int chunk) { return data + row * kCols + (chunk ^ key(row)) * 8; }

 private:
  QVL_DEVICE static int key(int row) {
    if constexpr (kOddPairs) {
      return row / 4 % 2;
    } else if constexpr (kChunks % 8 == 0) {
      return row % 8;
    } else {
      return row / (8 / kChunks) % kChunks;
    }
  }
};

}  // namespace qvl
