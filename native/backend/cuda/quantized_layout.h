#pragma once

// Quantised matrices in the layout of kernels/cuda/quantized_matrix.h: what it needs, how it is
// made from the codes of a checkpoint, and how its products are launched.

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/quantized.h"
#include "kernels/cuda/gemv_quantized.h"

namespace qvl::cuda {

/// A quantised matrix as its file has it.
struct QuantizedMatrixSpec {
  int64_t out_features = 0;
  int64_t in_features = 0;  // a multiple of 8
  int bits = 0;             // 4 or 8
  int64_t group_size = 0;   // inputs, a multiple of 32; 0, or at least in_features: the whole row
  bool has_zeros = false;   // otherwise 8 or 128 everywhere
  /// See WeightSpec::segments. 1, 2, 4 or 8. A segment is a whole number of 32 inputs, or of 128
  /// where groups are multiples of that, unless there is one segment or one group.
  int segments = 1;
  /// Rows i and i + pair_distance are needed together, in spans of twice as many: half of head_dim
  /// in the rows of q, k and v, half of out_features for a gate and what it lets through.
  int64_t pair_distance = kPlainPairDistance;
};

/// Memory of a matrix, of the host or of the device.
struct QuantizedArrays {
  void* codes = nullptr;       // code_bytes(), of alignment 16
  uint16_t* scales = nullptr;  // scale_bytes(), of alignment 16
  uint8_t* zeros = nullptr;    // zero_bytes(), of alignment 8; null without zero points
};

class QuantizedMatrixLayout {
 public:
  /// Throws Error(ERR_CHECKPOINT_UNSUPPORTED) for what the kernels do not know.
  explicit QuantizedMatrixLayout(const QuantizedMatrixSpec& spec);

  const QuantizedMatrixSpec& spec() const { return spec_; }
  /// Inputs of a group in the layout, 32 or 128, of which a group of the file is one or several:
  /// the kernels' names have it.
  int group() const { return group_; }
  int64_t code_bytes() const;
  int64_t scale_bytes() const;
  int64_t zero_bytes() const;
  /// What the kernels are given.
  QuantizedMatrix matrix(const QuantizedArrays& arrays) const;

  /// Stores a group of the file for rows [first_row, first_row + num_rows): codes
  /// [inputs of the group][num_rows], scales [num_rows] fp16 and zeros [num_rows], null without
  /// zero points. The arrays were zeroed before. Threads may store different rows, or different
  /// groups.
  void write_group(const QuantizedArrays& host, int64_t group, int64_t first_row, int64_t num_rows,
                   const uint8_t* codes, const uint16_t* scales, const uint8_t* zeros) const;
  /// Stores rows [first_row, first_row + num_rows), the first ones of a panel of the CPU's layout.
  void write_panel(const QuantizedArrays& host, const kernels::QuantizedLayout& source,
                   const void* panel, int64_t first_row, int64_t num_rows) const;

  /// How to launch a product with `rows` rows of x on a device.
  struct Launch {
    int staged_units = 0;  // of QuantizedGemvParams
    size_t shared_bytes = 0;
    unsigned blocks = 0;
  };
  /// `max_shared_bytes` of a block. `is_normalized`: the kernel normalises x, which it should do
  /// once. Throws Error(ERR_INTERNAL) where a device has too little shared memory for any way.
  Launch gemv_launch(int rows, bool is_normalized, size_t max_shared_bytes,
                     int num_multiprocessors) const;

 private:
  /// Where a row is: what of the arrays belongs to it.
  struct Place {
    int64_t tile;
    int quad;
    int half;
  };
  Place place(int64_t row) const;
  int64_t segment_columns() const { return spec_.in_features / spec_.segments; }
  int64_t units() const { return spec_.segments * segment_units_; }
  int64_t scales_per_tile() const;
  int64_t scale_index(const Place& place, int64_t column) const;
  void write_codes(void* codes, const Place& place, int64_t column, const uint8_t* src,
                   int64_t stride) const;

  QuantizedMatrixSpec spec_;
  int group_ = 0;
  int unit_columns_ = 0;
  int64_t segment_units_ = 0;
  int64_t span_tiles_ = 0;
  int64_t num_tiles_ = 0;
};

}  // namespace qvl::cuda
