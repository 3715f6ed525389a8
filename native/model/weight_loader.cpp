#include "model/weight_loader.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "common/error.h"

namespace qvl {
namespace {

/// What one thread reads at a time: it should still be in the second-level cache when it is packed.
constexpr uint64_t kStagingBytes = uint64_t{512} << 10;
/// What one thread reads in a row. Threads that write closer together would both fault, and both
/// clear, the same huge page.
constexpr uint64_t kGroupBytes = uint64_t{4} << 20;
/// How far in front of its reader the system is asked to fetch a file that is not in memory.
constexpr size_t kGroupsAhead = 32;

constexpr std::string_view kVisual = "visual.";
constexpr std::string_view kModel = "model.";
constexpr std::string_view kNewerVisual = "model.visual.";
constexpr std::string_view kNewerModel = "model.language_model.";

/// The name that transformers writes since 4.52 for a published one.
std::string newer_name(std::string_view published) {
  if (published.starts_with(kVisual)) return std::string(kModel).append(published);
  if (published.starts_with(kModel)) {
    return std::string(kNewerModel).append(published.substr(kModel.size()));
  }
  return std::string(published);
}

[[noreturn]] void refuse_to_quantize_mapped(const TensorEntry& tensor) {
  throw Error("ERR_INVALID_ARGUMENT",
              "weights: 'mapped' keeps the numbers of the file, so " + tensor.name +
                  " cannot be quantised: leave quantization out, or use weights: 'packed'",
              {{"path", std::string("weights")}, {"tensor", tensor.name}});
}

}  // namespace

std::string published_name(std::string_view name) {
  if (name.starts_with(kNewerVisual)) return std::string(name.substr(kModel.size()));
  if (name.starts_with(kNewerModel)) {
    return std::string(kModel).append(name.substr(kNewerModel.size()));
  }
  return std::string(name);
}

std::string WeightLoader::file_of(const TensorEntry& tensor) const {
  return checkpoint_.files()[static_cast<size_t>(tensor.file)];
}

DType WeightLoader::dtype_of(const TensorEntry& tensor) const {
  if (tensor.dtype == "BF16") return DType::kBF16;
  if (tensor.dtype == "F16") return DType::kF16;
  if (tensor.dtype == "F32") return DType::kF32;
  throw Error("ERR_CHECKPOINT_DTYPE",
              "tensor " + tensor.name + " is stored as " + tensor.dtype +
                  "; weights must be BF16, F16 or F32: convert the checkpoint",
              {{"tensor", tensor.name}, {"file", file_of(tensor)}});
}

/// Under either name; null where the checkpoint has neither.
const TensorEntry* WeightLoader::lookup(const std::string& name) const {
  const std::string newer = newer_name(name);
  const TensorEntry* tensor = checkpoint_.find(name);
  const TensorEntry* other = newer == name ? nullptr : checkpoint_.find(newer);
  if (tensor != nullptr && other != nullptr) {
    throw Error("ERR_CHECKPOINT_DUPLICATE_TENSOR",
                "the checkpoint holds one tensor under two names, " + name + " and " + newer +
                    ": remove one of them",
                {{"tensor", name}, {"file", file_of(*other)}});
  }
  return tensor == nullptr ? other : tensor;
}

const TensorEntry& WeightLoader::find(const TensorPart& part) const {
  const TensorEntry* tensor = lookup(part.name);
  if (tensor == nullptr) {
    const std::string newer = newer_name(part.name);
    throw Error("ERR_CHECKPOINT_MISSING_TENSOR",
                "tensor " + part.name + (newer == part.name ? "" : " (or " + newer + ")") +
                    " is in none of the " + std::to_string(checkpoint_.files().size()) +
                    " weight files: download the checkpoint again, all of its shards",
                {{"tensor", part.name}});
  }
  if (tensor->shape != part.shape) {
    throw Error("ERR_CHECKPOINT_SHAPE",
                "tensor " + tensor->name + " has shape " + shape_text(tensor->shape) +
                    ", config.json asks for " + shape_text(part.shape) +
                    ": the weights and the configuration belong to different models",
                {{"tensor", tensor->name}, {"file", file_of(*tensor)}});
  }
  return *tensor;
}

std::unique_ptr<Weight> WeightLoader::matrix(const std::vector<TensorPart>& parts, int segments,
                                             int64_t pair_distance) {
  if (is_stored_quantized(parts.front())) return quantized_matrix(parts, segments, pair_distance);
  WeightSpec spec;
  spec.dtype = DType::kF32;
  spec.segments = segments;
  spec.pair_distance = pair_distance;
  std::vector<const TensorEntry*> tensors;
  for (const TensorPart& part : parts) {
    const TensorEntry& tensor = find(part);
    const DType dtype = dtype_of(tensor);
    // Parts of different types become F32, which holds them all exactly.
    spec.dtype = tensors.empty() || spec.dtype == dtype ? dtype : DType::kF32;
    spec.out_features += part.shape[0];
    spec.in_features = 1;
    for (size_t i = 1; i < part.shape.size(); ++i) spec.in_features *= part.shape[i];
    tensors.push_back(&tensor);
  }
  if (backend_ == nullptr) return nullptr;
  spec.dtype =
      backend_->weight_dtype(options_.convert_weights ? options_.weight_dtype : spec.dtype);
  spec.quantization = quantization_of(parts.front().name, options_.quantization);
  if (spec.quantization.is_quantized()) {
    if (mapping_ != nullptr) refuse_to_quantize_mapped(*tensors.front());
    spec.segments = quantized_segments(segments, spec.in_features, spec.quantization);
  } else if (mapping_ != nullptr) {
    const bool is_uniform = std::all_of(
        tensors.begin(), tensors.end(),
        [&](const TensorEntry* tensor) { return dtype_of(*tensor) == dtype_of(*tensors[0]); });
    if (is_uniform) return map(spec, tensors);
  }
  std::unique_ptr<Weight> weight = backend_->create_weight(spec);
  add_jobs(*weight, tensors);
  return weight;
}

std::unique_ptr<Weight> WeightLoader::map(const WeightSpec& spec,
                                          const std::vector<const TensorEntry*>& tensors) const {
  const TensorEntry& first = *tensors.front();
  if (dtype_of(first) != spec.dtype) {
    throw Error("ERR_INVALID_ARGUMENT",
                "weights: 'mapped' keeps the numbers of the file, and " + first.name +
                    " is stored as " + first.dtype + " where dtype asks for " +
                    dtype_name(spec.dtype) + ": leave dtype out, or use weights: 'packed'",
                {{"path", std::string("weights")}, {"tensor", first.name}});
  }
  std::vector<WeightRows> parts;
  for (const TensorEntry* tensor : tensors) {
    parts.push_back({mapping_->data(*tensor), tensor->shape[0]});
  }
  return backend_->wrap_weight(spec, parts, mapping_);
}

void WeightLoader::add_jobs(Weight& weight, const std::vector<const TensorEntry*>& tensors) {
  constexpr int64_t kAlignment = Backend::kWeightRowAlignment;
  int64_t row = 0;
  for (const TensorEntry* tensor : tensors) {
    const DType dtype = dtype_of(*tensor);
    const uint64_t row_bytes = static_cast<uint64_t>(weight.spec().in_features) * dtype_size(dtype);
    const auto staged_rows = static_cast<int64_t>(kStagingBytes / row_bytes);
    const int64_t step = std::max(staged_rows / kAlignment, int64_t{1}) * kAlignment;
    for (int64_t done = 0; done < tensor->shape[0];) {
      // Where no panel is shared with the job before, another thread may take over. Jobs end at
      // panels' borders, except at the end of a tensor.
      const bool may_begin = row % kAlignment == 0;
      if (row == 0 || (may_begin && groups_.back().size_bytes >= kGroupBytes)) {
        groups_.emplace_back();
        groups_.back().tensor = tensor;
        groups_.back().offset = static_cast<uint64_t>(done) * row_bytes;
      }
      const int64_t border = (row + step) / kAlignment * kAlignment;
      const int64_t count = std::min(border - row, tensor->shape[0] - done);
      Group& group = groups_.back();
      group.jobs.push_back({&weight, tensor, dtype, done, row, count, row_bytes});
      group.size_bytes += group.jobs.back().size_bytes();
      done += count;
      row += count;
    }
  }
}

std::unique_ptr<Buffer> WeightLoader::vector(const std::vector<TensorPart>& parts) {
  int64_t size = 0;
  for (const TensorPart& part : parts) {
    dtype_of(find(part));
    size += part.shape[0];
  }
  if (backend_ == nullptr) return nullptr;
  std::unique_ptr<Buffer> buffer = backend_->allocate(static_cast<size_t>(size) * sizeof(float));
  auto* values = static_cast<float*>(buffer->data());
  for (const TensorPart& part : parts) {
    read_vector(find(part), values);
    values += part.shape[0];
  }
  return buffer;
}

std::unique_ptr<Buffer> WeightLoader::optional_vector(const std::vector<TensorPart>& parts) {
  const auto is_there = [&](const TensorPart& part) { return holds_numbers(part); };
  if (std::none_of(parts.begin(), parts.end(), is_there) || backend_ == nullptr) {
    return nullptr;
  }
  int64_t size = 0;
  for (const TensorPart& part : parts) size += part.shape[0];
  const std::vector<float> zeros(static_cast<size_t>(size));
  std::unique_ptr<Buffer> buffer = backend_->allocate(zeros.size() * sizeof(float));
  backend_->upload(buffer->data(), zeros.data(), zeros.size() * sizeof(float));
  auto* values = static_cast<float*>(buffer->data());
  for (const TensorPart& part : parts) {
    if (lookup(part.name) != nullptr) read_vector(find(part), values);
    values += part.shape[0];
  }
  return buffer;
}

/// values [elements of the tensor] = its numbers, widened.
void WeightLoader::read_vector(const TensorEntry& tensor, float* values) {
  const DType dtype = dtype_of(tensor);
  const int64_t count = tensor.shape[0];
  std::vector<unsigned char> bytes(static_cast<size_t>(count) * dtype_size(dtype));
  checkpoint_.read(tensor, 0, bytes.size(), bytes.data());
  vector_bytes_ += bytes.size();
  backend_->upload_f32(values, bytes.data(), dtype, count);
}

/// Whether there is such a tensor, with other bytes than zeros.
bool WeightLoader::holds_numbers(const TensorPart& part) const {
  if (lookup(part.name) == nullptr) return false;
  const TensorEntry& tensor = find(part);
  std::vector<unsigned char> bytes(static_cast<size_t>(part.shape[0]) *
                                   dtype_size(dtype_of(tensor)));
  checkpoint_.read(tensor, 0, bytes.size(), bytes.data());
  return std::any_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte != 0; });
}

// ---- reading ----

/// What jobs are read with, one for each thread that reads.
class WeightLoader::Staging {
 public:
  explicit Staging(uint64_t size_bytes) : size_bytes_(size_bytes) {}

  struct Memory {
    std::unique_ptr<unsigned char[]> bytes;
    QuantizedReader quantized;
  };

  std::unique_ptr<Memory> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Memory> memory = std::move(free_.back());
        free_.pop_back();
        return memory;
      }
    }
    auto memory = std::make_unique<Memory>();
    memory->bytes = std::make_unique_for_overwrite<unsigned char[]>(size_bytes_);
    return memory;
  }

  void give_back(std::unique_ptr<Memory> memory) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(memory));
  }

 private:
  const uint64_t size_bytes_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Memory>> free_;
};

void WeightLoader::run_group(const Group& group, Staging& staging,
                             const CancellationFlag* cancellation) const {
  std::unique_ptr<Staging::Memory> memory = staging.take();
  const auto check = [&] {
    if (cancellation != nullptr && cancellation->cancelled()) throw Cancelled{};
  };
  for (const Job& job : group.jobs) {
    check();
    unsigned char* bytes = memory->bytes.get();
    checkpoint_.read(*job.tensor, job.offset(), job.size_bytes(), bytes);
    backend_->write_weight(*job.weight, job.first_row, job.num_rows, bytes, job.dtype);
  }
  for (const QuantizedJob& job : group.quantized_jobs) {
    check();
    run_quantized_job(job, memory->quantized);
  }
  staging.give_back(std::move(memory));
}

void WeightLoader::run(const std::function<void(const LoadProgress&)>& progress,
                       const CancellationFlag* cancellation) {
  // In the order of the files, which is how the system reads ahead.
  std::sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) {
    const auto place = [](const Group& group) {
      return std::pair(group.tensor->file, group.tensor->begin + group.offset);
    };
    return place(a) < place(b);
  });
  uint64_t largest = 0;
  LoadProgress state{vector_bytes_, vector_bytes_};
  for (const Group& group : groups_) {
    state.total_bytes += group.size_bytes;
    for (const Job& job : group.jobs) largest = std::max(largest, job.size_bytes());
  }
  Staging staging(largest);
  std::mutex mutex;
  if (progress) progress(state);
  backend_->parallel(static_cast<int64_t>(groups_.size()), [&](int64_t index) {
    const auto at = static_cast<size_t>(index);
    if (at + kGroupsAhead < groups_.size()) {
      const Group& ahead = groups_[at + kGroupsAhead];
      checkpoint_.prefetch(*ahead.tensor, ahead.offset, ahead.size_bytes);
    }
    run_group(groups_[at], staging, cancellation);
    const std::lock_guard lock(mutex);
    state.loaded_bytes += groups_[at].size_bytes;
    if (progress) progress(state);
  });
  groups_.clear();
  quantized_tensors_.clear();
}

}  // namespace qvl
