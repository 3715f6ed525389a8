#include "model/quantized_tensor.h"

#include <algorithm>

#include "common/error.h"

namespace qvl {
namespace {

using Method = StoredQuantization::Method;

/// Zero points are looked at in pieces of this many words.
constexpr int64_t kZeroWords = 64 << 10;

std::string text(int64_t value) { return std::to_string(value); }

/// A word of zero points that are all in the middle of the codes.
uint32_t symmetric_word(const StoredQuantization& format) {
  const uint32_t less = format.zeros_less_one ? 1 : 0;
  return format.bits == 4 ? 0x11111111u * (8 - less) : 0x01010101u * (128 - less);
}

void check_format(const StoredQuantization& format) {
  const bool is_known = format.method == Method::kAwq ? format.bits == 4
                                                      : format.method == Method::kGptq &&
                                                            (format.bits == 4 || format.bits == 8);
  const int64_t group = format.group_size;
  if (is_known && (group == 0 || group == 32 || group == 64 || group == 128)) return;
  throw Error("ERR_CHECKPOINT_UNSUPPORTED",
              "matrices of " + text(format.bits) + " bits with groups of " + text(group) +
                  " inputs; AWQ with 4 bits and GPTQ with 4 or 8 bits can be read, with groups of "
                  "32, 64 or 128 inputs or of all");
}

}  // namespace

QuantizedTensor::QuantizedTensor(const Checkpoint& checkpoint, const StoredQuantization& format,
                                 const QuantizedEntries& entries, int64_t out_features,
                                 int64_t in_features)
    : checkpoint_(&checkpoint),
      format_(format),
      entries_(entries),
      out_features_(out_features),
      in_features_(in_features),
      group_size_(format.group_size == 0 ? in_features : format.group_size) {
  check_format(format);
  check_widths();
  const int64_t groups = num_groups();
  check_entry(*entries.qweight, {weight_rows(in_features), weight_words(out_features)}, false);
  check_entry(*entries.qzeros, {groups, zero_words(out_features)}, false);
  check_entry(*entries.scales, {groups, out_features}, true);
  if (entries.g_idx != nullptr) read_input_order();
  has_zeros_ = find_zeros();
}

void QuantizedTensor::fail(const char* code, const TensorEntry& entry,
                           const std::string& what) const {
  const std::string& file = checkpoint_->files()[static_cast<size_t>(entry.file)];
  throw Error(code, "tensor " + entry.name + " " + what, {{"tensor", entry.name}, {"file", file}});
}

void QuantizedTensor::check_widths() const {
  const int64_t unit = codes_per_word();
  const bool fits = out_features_ % unit == 0 && (is_awq() || in_features_ % unit == 0);
  if (fits) return;
  fail("ERR_CHECKPOINT_UNSUPPORTED", *entries_.qweight,
       "is of a layer with " + text(in_features_) + " inputs and " + text(out_features_) +
           " outputs, which do not fill words of " + text(unit) +
           " codes: use the checkpoint without quantisation");
}

void QuantizedTensor::check_entry(const TensorEntry& entry, const std::vector<int64_t>& shape,
                                  bool is_scales) const {
  const bool is_known = is_scales
                            ? entry.dtype == "F16" || entry.dtype == "BF16" || entry.dtype == "F32"
                            : entry.dtype == "I32" || entry.dtype == "U32";
  if (!is_known) {
    fail("ERR_CHECKPOINT_DTYPE", entry,
         "is stored as " + entry.dtype + ", expected " + (is_scales ? "F16" : "I32") +
             ": the checkpoint is damaged or of another format");
  }
  if (entry.shape == shape) return;
  const std::string method = is_awq() ? "AWQ" : "GPTQ";
  fail("ERR_CHECKPOINT_SHAPE", entry,
       "has shape " + shape_text(entry.shape) + ", but " + text(in_features_) + " inputs, " +
           text(out_features_) + " outputs and " + method + " with " + text(format_.bits) +
           " bits in groups of " + text(group_size_) + " make " + shape_text(shape) +
           ": the weights and config.json do not belong together");
}

/// Sorts the inputs by their groups, which must be as large as those of inputs in order.
void QuantizedTensor::read_input_order() {
  const TensorEntry& entry = *entries_.g_idx;
  check_entry(entry, {in_features_}, false);
  std::vector<int32_t> groups(static_cast<size_t>(in_features_));
  checkpoint_->read(entry, 0, groups.size() * sizeof(int32_t), groups.data());
  std::vector<int64_t> next;  // where the next input of each group goes
  for (int64_t group = 0; group < num_groups(); ++group) next.push_back(group_begin(group));
  std::vector<int32_t> order(groups.size(), -1);
  bool is_sorted = true;
  for (size_t input = 0; input < groups.size(); ++input) {
    const int64_t group = groups[input];
    if (group < 0 || group >= num_groups()) {
      fail("ERR_CHECKPOINT_QUANTIZATION", entry,
           "has group " + text(group) + " for input " + std::to_string(input) + ", but there are " +
               text(num_groups()) + " groups: download the file again");
    }
    int64_t& place = next[static_cast<size_t>(group)];
    if (place == group_begin(group + 1)) {
      fail("ERR_CHECKPOINT_QUANTIZATION", entry,
           "has more than " + text(place - group_begin(group)) + " inputs of group " + text(group) +
               "; groups of unlike sizes cannot be read");
    }
    is_sorted = is_sorted && place == static_cast<int64_t>(input);
    order[static_cast<size_t>(place++)] = static_cast<int32_t>(input);
  }
  if (!is_sorted) input_order_ = std::move(order);
}

bool QuantizedTensor::find_zeros() const {
  const TensorEntry& entry = *entries_.qzeros;
  const uint32_t expected = symmetric_word(format_);
  const int64_t count = num_groups() * zero_words(out_features_);
  std::vector<uint32_t> words;
  for (int64_t first = 0; first < count; first += kZeroWords) {
    words.resize(static_cast<size_t>(std::min(kZeroWords, count - first)));
    checkpoint_->read(entry, static_cast<uint64_t>(first) * sizeof(uint32_t),
                      words.size() * sizeof(uint32_t), words.data());
    const bool is_symmetric =
        std::all_of(words.begin(), words.end(), [&](uint32_t word) { return word == expected; });
    if (!is_symmetric) return true;
  }
  return false;
}

}  // namespace qvl
