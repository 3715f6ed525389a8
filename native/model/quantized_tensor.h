#pragma once

// A linear layer's matrix [N, K] as AWQ and GPTQ checkpoints store it:
//
//   w[n][k] = (code - zero) * scale,   group of k = g_idx[k], or k / group_size without g_idx
//
//             qweight, int32                     qzeros, int32                  scales
//   AWQ   [K, N/8]: 8 outputs of an input    [groups, N/8], likewise         [groups, N] fp16
//   GPTQ  [K * bits/32, N]: 32/bits inputs   [groups, N * bits/32]:          [groups, N] fp16
//         of an output, lowest bits first    outputs, lowest bits first
//
// Nibbles 0 ... 7 of AWQ's words are outputs 0, 2, 4, 6, 1, 3, 5, 7 of their eight.

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/stored_quantization.h"

namespace qvl {

/// The tensors of one layer; g_idx may be null.
struct QuantizedEntries {
  const TensorEntry* qweight = nullptr;
  const TensorEntry* qzeros = nullptr;
  const TensorEntry* scales = nullptr;
  const TensorEntry* g_idx = nullptr;
};

class QuantizedTensor {
 public:
  /// Checks types and shapes, and reads g_idx and, as far as needed, the zero points. The
  /// checkpoint must outlive it. Throws Error(ERR_CHECKPOINT_*).
  QuantizedTensor(const Checkpoint& checkpoint, const StoredQuantization& format,
                  const QuantizedEntries& entries, int64_t out_features, int64_t in_features);

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const StoredQuantization& format() const { return format_; }
  const QuantizedEntries& entries() const { return entries_; }
  int64_t out_features() const { return out_features_; }
  int64_t num_groups() const { return (in_features_ + group_size_ - 1) / group_size_; }
  /// First input of a group, as groups count them; group_begin(num_groups()) is in_features.
  int64_t group_begin(int64_t group) const {
    return group * group_size_ < in_features_ ? group * group_size_ : in_features_;
  }
  /// Not all zero points are 8 or 128.
  bool has_zeros() const { return has_zeros_; }
  /// Input k as groups count them is input input_order()[k]. Empty: they are in order.
  const std::vector<int32_t>& input_order() const { return input_order_; }

  bool is_awq() const { return format_.method == StoredQuantization::Method::kAwq; }
  int64_t codes_per_word() const { return 32 / format_.bits; }
  /// Words of `count` outputs in a row of qweight, and of qzeros.
  int64_t weight_words(int64_t count) const { return is_awq() ? count / 8 : count; }
  int64_t zero_words(int64_t count) const { return count / codes_per_word(); }
  /// Rows of qweight that hold so many inputs.
  int64_t weight_rows(int64_t inputs) const {
    return is_awq() ? inputs : inputs / codes_per_word();
  }

  [[noreturn]] void fail(const char* code, const TensorEntry& entry, const std::string& what) const;

 private:
  void check_widths() const;
  void check_entry(const TensorEntry& entry, const std::vector<int64_t>& shape,
                   bool is_scales) const;
  void read_input_order();
  bool find_zeros() const;

  const Checkpoint* checkpoint_;
  StoredQuantization format_;
  QuantizedEntries entries_;
  int64_t out_features_;
  int64_t in_features_;
  int64_t group_size_;
  std::vector<int32_t> input_order_;
  bool has_zeros_ = false;
};

}  // namespace qvl
