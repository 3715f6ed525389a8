// The part of the weight loader that reads matrices which are stored quantised.

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "model/weight_loader.h"

namespace qvl {
namespace {

constexpr std::string_view kWeight = "weight";
/// Bytes that one thread reads at a time, at least a group of inputs.
constexpr uint64_t kPartBytes = uint64_t{1} << 20;
/// A group of more than this, as whole rows make them, is read for some outputs at a time.
constexpr uint64_t kMaxGroupBytes = uint64_t{4} << 20;
constexpr int64_t kSlabRows = 512;
/// Outputs whose codes are taken apart at a time: with 128 inputs 64 KB.
constexpr int64_t kDecodedRows = 512;

/// "<module>.weight" -> "<module>.<kind>".
std::string sibling(const std::string& name, std::string_view kind) {
  return name.substr(0, name.size() - kWeight.size()).append(kind);
}

}  // namespace

/// The names of its tensors decide, not a list of modules in config.json.
bool WeightLoader::is_stored_quantized(const TensorPart& part) const {
  if (!part.name.ends_with(kWeight) || part.shape.size() != 2) return false;
  const std::string name = sibling(part.name, "qweight");
  const TensorEntry* qweight = lookup(name);
  if (qweight == nullptr) return false;
  const TensorEntry* plain = lookup(part.name);
  if (plain == nullptr) return true;
  throw Error("ERR_CHECKPOINT_DUPLICATE_TENSOR",
              "the checkpoint holds one matrix twice, quantised as " + qweight->name + " and as " +
                  plain->name + ": remove one of them",
              {{"tensor", qweight->name}, {"file", file_of(*qweight)}});
}

QuantizedTensor WeightLoader::quantized_tensor(const TensorPart& part) const {
  const auto required = [&](std::string_view kind) {
    const std::string name = sibling(part.name, kind);
    const TensorEntry* tensor = lookup(name);
    if (tensor != nullptr) return tensor;
    throw Error("ERR_CHECKPOINT_MISSING_TENSOR",
                "tensor " + name + " is missing beside " + sibling(part.name, "qweight") +
                    ": download the checkpoint again, all of its shards",
                {{"tensor", name}});
  };
  QuantizedEntries entries{required("qweight"), required("qzeros"), required("scales"), nullptr};
  if (stored_.method == StoredQuantization::Method::kGptq) {
    entries.g_idx =
        stored_.needs_group_index ? required("g_idx") : lookup(sibling(part.name, "g_idx"));
  }
  return {checkpoint_, stored_, entries, part.shape[0], part.shape[1]};
}

std::unique_ptr<Weight> WeightLoader::quantized_matrix(const std::vector<TensorPart>& parts,
                                                       int segments, int64_t pair_distance) {
  if (mapping_ != nullptr) {
    throw Error("ERR_INVALID_ARGUMENT",
                "weights: 'mapped' leaves the numbers where they are in the file, but " +
                    sibling(parts.front().name, "qweight") +
                    " is stored quantised and has to be rearranged: use weights: 'packed'",
                {{"path", std::string("weights")}});
  }
  WeightSpec spec;
  spec.in_features = parts.front().shape[1];
  spec.pair_distance = pair_distance;
  spec.quantization = {stored_.bits, stored_.group_size, options_.quantization.int8_activations};
  std::vector<const QuantizedTensor*> tensors;
  for (const TensorPart& part : parts) {
    if (!is_stored_quantized(part)) {
      throw Error("ERR_CHECKPOINT_UNSUPPORTED",
                  "of matrices that are multiplied together, " + parts.front().name +
                      " is stored quantised and " + part.name + " is not",
                  {{"tensor", part.name}});
    }
    quantized_tensors_.push_back(std::make_unique<QuantizedTensor>(quantized_tensor(part)));
    const QuantizedTensor& tensor = *quantized_tensors_.back();
    if (!tensors.empty() && tensor.input_order() != tensors.front()->input_order()) {
      throw Error("ERR_CHECKPOINT_UNSUPPORTED",
                  "the inputs of " + tensor.entries().qweight->name +
                      " are ordered otherwise than "
                      "those of " +
                      tensors.front()->entries().qweight->name +
                      ", with which it is multiplied together: quantise the model without desc_act",
                  {{"tensor", tensor.entries().qweight->name}});
    }
    spec.out_features += part.shape[0];
    spec.quantization.has_zeros = spec.quantization.has_zeros || tensor.has_zeros();
    tensors.push_back(&tensor);
  }
  spec.input_order = tensors.front()->input_order();
  spec.segments = quantized_segments(segments, spec.in_features, spec.quantization);
  if (backend_ == nullptr) {
    quantized_tensors_.clear();
    return nullptr;
  }
  std::unique_ptr<Weight> weight = backend_->create_weight(spec);
  const QuantizedTensor& first = *tensors.front();
  const bool is_whole =
      first.num_groups() == 1 &&
      QuantizedReader::size_bytes(first, {0, 1, 0, first.out_features()}) > kMaxGroupBytes;
  if (is_whole || !spec.input_order.empty()) {
    add_quantized_slabs(*weight, tensors);
  } else {
    add_quantized_jobs(*weight, tensors);
  }
  return weight;
}

/// Some groups of inputs for all outputs at a time: one stretch of the file for each tensor.
void WeightLoader::add_quantized_jobs(Weight& weight,
                                      const std::vector<const QuantizedTensor*>& tensors) {
  const int64_t num_groups = tensors.front()->num_groups();
  const auto bytes_of = [&](int64_t first, int64_t count) {
    uint64_t bytes = 0;
    for (const QuantizedTensor* tensor : tensors) {
      bytes += QuantizedReader::size_bytes(*tensor, {first, count, 0, tensor->out_features()});
    }
    return bytes;
  };
  const auto step = std::max(static_cast<int64_t>(kPartBytes / bytes_of(0, 1)), int64_t{1});
  for (int64_t first = 0; first < num_groups; first += step) {
    const int64_t count = std::min(step, num_groups - first);
    Group& group = groups_.emplace_back();
    group.size_bytes = bytes_of(first, count);
    int64_t row = 0;
    for (const QuantizedTensor* tensor : tensors) {
      const int64_t rows = tensor->out_features();
      group.quantized_jobs.push_back({&weight, tensor, {first, count, 0, rows}, row});
      row += rows;
    }
    const QuantizedTensor& tensor = *tensors.front();
    group.tensor = tensor.entries().qweight;
    group.offset = static_cast<uint64_t>(tensor.weight_rows(tensor.group_begin(first)) *
                                         tensor.weight_words(tensor.out_features())) *
                   sizeof(uint32_t);
  }
}

/// All inputs for some outputs at a time.
void WeightLoader::add_quantized_slabs(Weight& weight,
                                       const std::vector<const QuantizedTensor*>& tensors) {
  constexpr int64_t kAlignment = Backend::kWeightRowAlignment;
  int64_t row = 0;
  for (const QuantizedTensor* tensor : tensors) {
    const int64_t groups = tensor->num_groups();
    for (int64_t done = 0; done < tensor->out_features();) {
      // Another thread may take over where no panel is shared with the job before.
      if (row % kAlignment == 0) {
        groups_.emplace_back();
        groups_.back().tensor = tensor->entries().qweight;
      }
      const int64_t border = (row + kSlabRows) / kAlignment * kAlignment;
      const int64_t count = std::min(border - row, tensor->out_features() - done);
      const QuantizedReader::Part part{0, groups, done, count};
      groups_.back().quantized_jobs.push_back({&weight, tensor, part, row});
      groups_.back().size_bytes += QuantizedReader::size_bytes(*tensor, part);
      done += count;
      row += count;
    }
  }
}

void WeightLoader::run_quantized_job(const QuantizedJob& job, QuantizedReader& reader) const {
  const QuantizedReader::Part& part = job.part;
  const bool has_zeros = job.weight->spec().quantization.has_zeros;
  // A tensor without zero points of its own may be stacked with others that have them.
  const std::vector<uint8_t> middle(static_cast<size_t>(kDecodedRows),
                                    static_cast<uint8_t>(1 << (stored_.bits - 1)));
  reader.read(*job.tensor, part);
  for (int64_t group = part.first_group; group < part.first_group + part.num_groups; ++group) {
    for (int64_t done = 0; done < part.num_rows; done += kDecodedRows) {
      const int64_t count = std::min(kDecodedRows, part.num_rows - done);
      const QuantizedReader::Block block = reader.decode(group, part.first_row + done, count);
      const uint8_t* zeros = block.zeros == nullptr ? middle.data() : block.zeros;
      backend_->write_quantized(*job.weight, {group, job.first_row + done, count, block.codes,
                                              block.scales, has_zeros ? zeros : nullptr});
    }
  }
}

}  // namespace qvl
