#include "model/quantized_reader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/half.h"

namespace qvl {
namespace {

/// Where output j of eight is in a word of AWQ, in bits.
constexpr int kAwqShift[8] = {0, 16, 4, 20, 8, 24, 12, 28};

/// Rows [first_row, first_row + num_rows) of a matrix with rows of `row_bytes`, of each the bytes
/// [first, first + count), end to end.
void read_rows(void* out, const Checkpoint& checkpoint, const TensorEntry& entry, int64_t row_bytes,
               int64_t first_row, int64_t num_rows, int64_t first, int64_t count) {
  const auto offset = [&](int64_t row) { return static_cast<uint64_t>(row * row_bytes + first); };
  if (count == row_bytes) {
    checkpoint.read(entry, offset(first_row), static_cast<uint64_t>(num_rows * count), out);
    return;
  }
  auto* to = static_cast<unsigned char*>(out);
  for (int64_t row = 0; row < num_rows; ++row) {
    checkpoint.read(entry, offset(first_row + row), static_cast<uint64_t>(count), to + row * count);
  }
}

/// The fp16 number that is exactly `value`, or 0x7c00 (infinity) where there is none.
uint16_t exact_f16(float value) {
  constexpr uint16_t kNone = 0x7c00;
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude == 0) return sign;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  // Bits of the significand that fp16 has no room for; more of them below its normal numbers.
  const int dropped = exponent >= -14 ? 13 : 13 + (-14 - exponent);
  if (exponent > 15 || dropped > 23) return kNone;
  const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  if ((significand & ((1u << dropped) - 1)) != 0) return kNone;
  const uint32_t kept = significand >> dropped;
  const uint32_t biased = exponent >= -14 ? static_cast<uint32_t>(exponent + 15) << 10 : 0;
  return static_cast<uint16_t>(sign | biased | (exponent >= -14 ? kept & 0x3ffu : kept));
}

uint16_t scale_at(const unsigned char* bytes, const std::string& dtype, size_t index) {
  uint16_t half = 0;
  if (dtype == "F32") {
    float value = 0;
    std::memcpy(&value, bytes + 4 * index, sizeof(value));
    return exact_f16(value);
  }
  std::memcpy(&half, bytes + 2 * index, sizeof(half));
  if (dtype == "F16") return half;
  // fp16 has all numbers of bf16 from 2^-14 to its largest. Below, where only groups of next to
  // nothing have their scales, the nearest is off by 2^-25 at most.
  const float value = bf16_to_f32(half);
  return std::fabs(value) < 0x1p-14f ? f32_to_f16(value) : exact_f16(value);
}

}  // namespace

/// A part whose inputs are not in order is read with all rows of qweight.
int64_t QuantizedReader::first_weight_row() const {
  if (!tensor_->input_order().empty()) return 0;
  return tensor_->weight_rows(tensor_->group_begin(part_.first_group));
}

uint64_t QuantizedReader::size_bytes(const QuantizedTensor& tensor, const Part& part) {
  const int64_t inputs =
      tensor.group_begin(part.first_group + part.num_groups) - tensor.group_begin(part.first_group);
  const int64_t words = tensor.weight_rows(inputs) * tensor.weight_words(part.num_rows) +
                        part.num_groups * tensor.zero_words(part.num_rows);
  const int64_t scale_bytes = tensor.entries().scales->dtype == "F32" ? 4 : 2;
  return static_cast<uint64_t>(words * 4 + part.num_groups * part.num_rows * scale_bytes);
}

void QuantizedReader::read(const QuantizedTensor& tensor, const Part& part) {
  tensor_ = &tensor;
  part_ = part;
  const bool is_ordered = tensor.input_order().empty();
  const int64_t first = first_weight_row();
  const int64_t end = tensor.weight_rows(
      tensor.group_begin(is_ordered ? part.first_group + part.num_groups : tensor.num_groups()));
  const auto read_words = [&](std::vector<uint32_t>& words, const TensorEntry& entry,
                              int64_t first_row, int64_t num_rows, auto words_of) {
    words.resize(static_cast<size_t>(num_rows * words_of(part.num_rows)));
    read_rows(words.data(), tensor.checkpoint(), entry, 4 * words_of(tensor.out_features()),
              first_row, num_rows, 4 * words_of(part.first_row), 4 * words_of(part.num_rows));
  };
  read_words(weight_words_, *tensor.entries().qweight, first, end - first,
             [&](int64_t outputs) { return tensor.weight_words(outputs); });
  if (tensor.has_zeros()) {
    read_words(zero_words_, *tensor.entries().qzeros, part.first_group, part.num_groups,
               [&](int64_t outputs) { return tensor.zero_words(outputs); });
  }
  read_scales();
}

void QuantizedReader::read_scales() {
  const TensorEntry& entry = *tensor_->entries().scales;
  const int64_t size = entry.dtype == "F32" ? 4 : 2;
  const auto count = static_cast<size_t>(part_.num_groups * part_.num_rows);
  scale_bytes_.resize(count * static_cast<size_t>(size));
  read_rows(scale_bytes_.data(), tensor_->checkpoint(), entry, size * tensor_->out_features(),
            part_.first_group, part_.num_groups, size * part_.first_row, size * part_.num_rows);
  scales_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    scales_[i] = scale_at(scale_bytes_.data(), entry.dtype, i);
    if ((scales_[i] & 0x7c00u) != 0x7c00u) continue;
    const bool is_f16 = entry.dtype == "F16";
    tensor_->fail("ERR_CHECKPOINT_QUANTIZATION", entry,
                  is_f16 ? "holds scales that are not finite numbers: download the file again, or "
                           "quantise the model again"
                         : "holds scales in " + entry.dtype +
                               " that fp16 cannot hold exactly: "
                               "quantise the model again with fp16 scales");
  }
}

QuantizedReader::Block QuantizedReader::decode(int64_t group, int64_t first_row, int64_t num_rows) {
  const int64_t inputs = tensor_->group_begin(group + 1) - tensor_->group_begin(group);
  codes_.resize(static_cast<size_t>(inputs * num_rows));
  if (tensor_->is_awq()) {
    decode_awq_codes(group, first_row, num_rows);
  } else {
    decode_gptq_codes(group, first_row, num_rows);
  }
  const bool has_zeros = tensor_->has_zeros();
  if (has_zeros) decode_zeros(group, first_row, num_rows);
  const int64_t scale =
      (group - part_.first_group) * part_.num_rows + (first_row - part_.first_row);
  return {codes_.data(), scales_.data() + scale, has_zeros ? zeros_.data() : nullptr};
}

namespace {

/// out [count] = the outputs of words [count / 8] of AWQ.
void unpack_awq(uint8_t* out, const uint32_t* words, int64_t count) {
  for (int64_t word = 0; word < count / 8; ++word) {
    for (int j = 0; j < 8; ++j) {
      out[8 * word + j] = static_cast<uint8_t>(words[word] >> kAwqShift[j] & 15u);
    }
  }
}

}  // namespace

void QuantizedReader::decode_awq_codes(int64_t group, int64_t first_row, int64_t num_rows) {
  const int64_t stride = tensor_->weight_words(part_.num_rows);
  const int64_t column = tensor_->weight_words(first_row - part_.first_row);
  const int64_t first = tensor_->group_begin(group);
  for (int64_t input = first; input < tensor_->group_begin(group + 1); ++input) {
    unpack_awq(codes_.data() + (input - first) * num_rows,
               weight_words_.data() + (input - first_weight_row()) * stride + column, num_rows);
  }
}

void QuantizedReader::decode_gptq_codes(int64_t group, int64_t first_row, int64_t num_rows) {
  const std::vector<int32_t>& order = tensor_->input_order();
  const int64_t per_word = tensor_->codes_per_word();
  const int bits = tensor_->format().bits;
  const auto mask = (1u << bits) - 1;
  const int64_t first = tensor_->group_begin(group);
  for (int64_t k = first; k < tensor_->group_begin(group + 1); ++k) {
    const int64_t input = order.empty() ? k : order[static_cast<size_t>(k)];
    const int64_t row = input / per_word - first_weight_row();
    const auto shift = static_cast<uint32_t>(input % per_word * bits);
    const uint32_t* words =
        weight_words_.data() + row * part_.num_rows + (first_row - part_.first_row);
    uint8_t* out = codes_.data() + (k - first) * num_rows;
    for (int64_t i = 0; i < num_rows; ++i) out[i] = static_cast<uint8_t>(words[i] >> shift & mask);
  }
}

void QuantizedReader::decode_zeros(int64_t group, int64_t first_row, int64_t num_rows) {
  zeros_.resize(static_cast<size_t>(num_rows));
  const int64_t stride = tensor_->zero_words(part_.num_rows);
  const int64_t column = tensor_->zero_words(first_row - part_.first_row);
  const uint32_t* words = zero_words_.data() + (group - part_.first_group) * stride + column;
  if (tensor_->is_awq()) {
    unpack_awq(zeros_.data(), words, num_rows);
    return;
  }
  const int64_t per_word = tensor_->codes_per_word();
  const int bits = tensor_->format().bits;
  const auto mask = (1u << bits) - 1;
  const uint32_t less = tensor_->format().zeros_less_one ? 1 : 0;
  for (int64_t i = 0; i < num_rows; ++i) {
    const auto shift = static_cast<uint32_t>(i % per_word * bits);
    // A zero stored as all ones is 0, as in the reference.
    const uint32_t zero = ((words[i / per_word] >> shift & mask) + less) & mask;
    zeros_[static_cast<size_t>(i)] = static_cast<uint8_t>(zero);
  }
}

}  // namespace qvl
