#pragma once

// Quantised weight matrices [N, K]: integer codes, with a scale and perhaps a zero point for every
// output and group of consecutive inputs:
//
//   w[n][k] = (code[n][k] - zero[n][g]) * scale[n][g],   g = k / group_size
//
// Codes and zero points are unsigned (4 bits: 0 ... 15, 8 bits: 0 ... 255); without zero points the
// zero is 8 or 128. Scales are fp16, so that w is exact in fp32.
//
// A panel holds 32 outputs and is one stream of memory: for every group
//   scales  [32] fp16
//   zeros   [32] uint8 and 32 unused bytes; only in a matrix with zero points
//   codes   chunks of 8 inputs; a last chunk that is not full is padded with zero points
//             4 bits: [32][4] bytes; byte i of an output holds input i in its low half and
//                     input 4 + i in its high half
//             8 bits: [2][32][4] bytes: inputs 0 ... 3 of every output, then inputs 4 ... 7
// Four inputs of an output beside each other are what integer dot products take.

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

constexpr int64_t kChunk = 8;                 // inputs
constexpr int64_t kMaxActivationBlock = 128;  // inputs that share a scale of x; see LinearArgs

/// Where things are in a quantised matrix.
struct QuantizedLayout {
  int64_t in_features = 0;  // K
  int64_t group_size = 0;   // inputs; a multiple of 8, except when one group is the whole row
  int bits = 0;             // 4 or 8
  bool has_zeros = false;

  constexpr int64_t num_groups() const { return ceil_div(in_features, group_size); }
  constexpr int64_t group_begin(int64_t group) const { return group * group_size; }
  constexpr int64_t group_end(int64_t group) const {
    const int64_t end = (group + 1) * group_size;
    return end < in_features ? end : in_features;
  }
  constexpr int64_t chunk_bytes() const { return kChunk * kPanelWidth * bits / 8; }
  /// Bytes before the codes of a group.
  constexpr int64_t header_bytes() const { return has_zeros ? 128 : 64; }
  constexpr int64_t group_bytes() const {
    return header_bytes() + ceil_div(group_size, kChunk) * chunk_bytes();
  }
  constexpr int64_t panel_bytes() const {
    return num_groups() * header_bytes() + ceil_div(in_features, kChunk) * chunk_bytes();
  }
  constexpr int symmetric_zero() const { return bits == 4 ? 8 : 128; }
  /// Inputs that share a scale of x in products with 8-bit activations.
  constexpr int64_t activation_block() const {
    return group_size < kMaxActivationBlock ? group_size : kMaxActivationBlock;
  }
};

/// Quantises rows [first_row, first_row + num_rows) of a matrix into its panels, to nearest and
/// without zero points. `rows` [num_rows, K] row-major in `rows_format`; they must be finite.
void quantize_weight(void* panels, const QuantizedLayout& layout, int64_t first_row,
                     int64_t num_rows, const void* rows, Format rows_format);
/// Bytes of a row of x as 8-bit integers; see KernelTable::quantize_rows.
int64_t int8_row_bytes(const QuantizedLayout& layout);
/// Rows as 8-bit integers are cut into tiles of near equal height, at most `max_rows`.
static constexpr int64_t num_int8_tiles(int64_t rows, int64_t max_rows) {
  return ceil_div(rows, max_rows);
}
static constexpr int64_t int8_tile_begin(int64_t rows, int64_t max_rows, int64_t tile) {
  return rows * tile / num_int8_tiles(rows, max_rows);
}

/// out [K] = row `row` of the matrix.
void unpack_quantized_row(float* out, const void* panels, const QuantizedLayout& layout,
                          int64_t row);

/// out [K][32] = panel `panel`.
void dequantize_panel(float* out, const void* panels, const QuantizedLayout& layout, int64_t panel);

}  // namespace qvl::kernels
