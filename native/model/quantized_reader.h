#pragma once

#include <cstdint>
#include <vector>

#include "model/quantized_tensor.h"

namespace qvl {

/// Reads parts of quantised tensors and takes them apart. For one thread; keeps its memory.
class QuantizedReader {
 public:
  /// Groups [first_group, first_group + num_groups) of outputs [first_row, first_row + num_rows).
  struct Part {
    int64_t first_group = 0;
    int64_t num_groups = 0;
    int64_t first_row = 0;  // it and num_rows are multiples of 32 / bits
    int64_t num_rows = 0;
  };
  /// Of a group and outputs: codes [inputs][num_rows], scales and zeros [num_rows].
  struct Block {
    const uint8_t* codes;
    const uint16_t* scales;  // fp16
    const uint8_t* zeros;
  };

  /// Throws Error(ERR_CHECKPOINT_*), also for scales that are not finite.
  void read(const QuantizedTensor& tensor, const Part& part);
  /// Of what was read; rows count in the tensor. Valid until the next call.
  Block decode(int64_t group, int64_t first_row, int64_t num_rows);

  /// Bytes of the part in the file.
  static uint64_t size_bytes(const QuantizedTensor& tensor, const Part& part);

 private:
  void read_scales();
  void decode_awq_codes(int64_t group, int64_t first_row, int64_t num_rows);
  void decode_gptq_codes(int64_t group, int64_t first_row, int64_t num_rows);
  void decode_zeros(int64_t group, int64_t first_row, int64_t num_rows);
  int64_t first_weight_row() const;

  const QuantizedTensor* tensor_ = nullptr;
  Part part_;
  std::vector<uint32_t> weight_words_;      // [rows of qweight][words of the outputs]
  std::vector<uint32_t> zero_words_;        // [groups][words of the outputs]
  std::vector<unsigned char> scale_bytes_;  // [groups][outputs], as stored
  std::vector<uint16_t> scales_;            // likewise, fp16
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> zeros_;
};

}  // namespace qvl
