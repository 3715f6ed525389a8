#include "model/weight_loader.h"

#include <algorithm>
#include <mutex>
#include <string_view>

#include "common/error.h"

namespace qvl {
namespace {

/// What one thread stages at a time.
constexpr uint64_t kStagingBytes = uint64_t{4} << 20;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

/// The name that transformers writes since 4.52 for a published one.
std::string newer_name(std::string_view published) {
  if (published.starts_with("visual.")) return "model." + std::string(published);
  if (published.starts_with("model.")) {
    return "model.language_model." +
           std::string(published.substr(std::string_view("model.").size()));
  }
  return std::string(published);
}

DType read_dtype(const TensorEntry& tensor, const Checkpoint& checkpoint) {
  if (tensor.dtype == "BF16") return DType::kBF16;
  if (tensor.dtype == "F16") return DType::kF16;
  if (tensor.dtype == "F32") return DType::kF32;
  throw Error(
      "ERR_CHECKPOINT_DTYPE",
      "tensor " + tensor.name + " is stored as " + tensor.dtype +
          "; weights must be BF16, F16 or F32: convert the checkpoint",
      {{"tensor", tensor.name}, {"file", checkpoint.files()[static_cast<size_t>(tensor.file)]}});
}

void check_shape(const TensorEntry& tensor, int64_t rows, int64_t cols,
                 const Checkpoint& checkpoint) {
  int64_t found_cols = 1;
  for (size_t i = 1; i < tensor.shape.size(); ++i)
    found_cols *= tensor.shape[i];  // checked on open
  if (!tensor.shape.empty() && tensor.shape[0] == rows && found_cols == cols) return;
  const std::string expected =
      cols == 1 ? shape_text({rows}) : shape_text({rows, cols}) + " (later dimensions multiplied)";
  throw Error(
      "ERR_CHECKPOINT_SHAPE",
      "tensor " + tensor.name + " has shape " + shape_text(tensor.shape) +
          "; config.json asks for " + expected +
          ": the weights and the configuration belong to different models",
      {{"tensor", tensor.name}, {"file", checkpoint.files()[static_cast<size_t>(tensor.file)]}});
}

}  // namespace

const TensorEntry& WeightLoader::find(const std::string& published_name) const {
  const std::string newer = newer_name(published_name);
  const TensorEntry* tensor = checkpoint_.find(published_name);
  if (newer != published_name) {
    const TensorEntry* other = checkpoint_.find(newer);
    if (tensor != nullptr && other != nullptr) {
      throw Error("ERR_CHECKPOINT_DUPLICATE_TENSOR",
                  "the checkpoint holds one tensor under two names, " + published_name + " and " +
                      newer + ": remove one of them",
                  {{"tensor", published_name}});
    }
    if (tensor == nullptr) tensor = other;
  }
  if (tensor != nullptr) return *tensor;
  throw Error("ERR_CHECKPOINT_MISSING_TENSOR",
              "tensor " + published_name + (newer == published_name ? "" : " (or " + newer + ")") +
                  " is in none of the " + std::to_string(checkpoint_.files().size()) +
                  " weight files: download the checkpoint again, all of its shards",
              {{"tensor", published_name}});
}

std::unique_ptr<Weight> WeightLoader::matrix(const std::vector<MatrixPart>& parts, int64_t cols,
                                             int segments) {
  WeightSpec spec{0, cols, DType::kF32, segments};
  std::vector<const TensorEntry*> tensors;
  for (const MatrixPart& part : parts) {
    const TensorEntry& tensor = find(part.name);
    check_shape(tensor, part.rows, cols, checkpoint_);
    const DType dtype = read_dtype(tensor, checkpoint_);
    // Parts of different types become F32, which holds them all exactly.
    spec.dtype = tensors.empty() || spec.dtype == dtype ? dtype : DType::kF32;
    spec.out_features += part.rows;
    tensors.push_back(&tensor);
  }
  if (options_.convert_weights) spec.dtype = options_.weight_dtype;
  std::unique_ptr<Weight> weight = backend_.create_weight(spec);
  add_jobs(*weight, tensors);
  return weight;
}

void WeightLoader::add_jobs(Weight& weight, const std::vector<const TensorEntry*>& tensors) {
  const int64_t cols = weight.spec().in_features;
  int64_t row = 0;
  // A new group may begin where no panel is shared with the one before.
  bool begin_group = true;
  for (const TensorEntry* tensor : tensors) {
    const DType dtype = read_dtype(*tensor, checkpoint_);
    const uint64_t row_bytes = static_cast<uint64_t>(cols) * dtype_size(dtype);
    const int64_t alignment = Backend::kWeightRowAlignment;
    const int64_t staged_rows =
        std::max<int64_t>(static_cast<int64_t>(kStagingBytes / row_bytes), 1);
    const int64_t step = (staged_rows + alignment - 1) / alignment * alignment;
    for (int64_t done = 0; done < tensor->shape[0];) {
      // End at a panel's border, so that the next job can be another thread's.
      const int64_t border = (row + step) / alignment * alignment;
      const int64_t count = std::min(border - row, tensor->shape[0] - done);
      if (begin_group) groups_.emplace_back();
      groups_.back().push_back({&weight, tensor, dtype, done, row, count, row_bytes});
      matrix_bytes_ += static_cast<uint64_t>(count) * row_bytes;
      done += count;
      row += count;
      begin_group = row % alignment == 0;
    }
  }
}

std::unique_ptr<Buffer> WeightLoader::vector(const std::vector<MatrixPart>& parts) {
  int64_t size = 0;
  for (const MatrixPart& part : parts) size += part.rows;
  std::unique_ptr<Buffer> buffer = backend_.allocate(static_cast<size_t>(size) * sizeof(float));
  auto* values = static_cast<float*>(buffer->data());
  for (const MatrixPart& part : parts) {
    const TensorEntry& tensor = find(part.name);
    check_shape(tensor, part.rows, 1, checkpoint_);
    const DType dtype = read_dtype(tensor, checkpoint_);
    std::vector<unsigned char> bytes(static_cast<size_t>(part.rows) * dtype_size(dtype));
    checkpoint_.read(tensor, 0, bytes.size(), bytes.data());
    vector_bytes_ += bytes.size();
    // The backend widens: a matrix of one row, looked up like an embedding.
    const std::unique_ptr<Weight> row = backend_.create_weight({1, part.rows, dtype, 1});
    backend_.write_weight(*row, 0, 1, bytes.data(), dtype);
    const int32_t first_row = 0;
    backend_.embed({values, 1, part.rows, part.rows, DType::kF32}, *row, {&first_row, 1});
    values += part.rows;
  }
  return buffer;
}

void WeightLoader::run_group(const std::vector<Job>& group) const {
  std::vector<unsigned char> staging;
  for (const Job& job : group) {
    staging.resize(static_cast<size_t>(job.num_rows) * job.row_bytes);
    checkpoint_.read(*job.tensor, static_cast<uint64_t>(job.first_source_row) * job.row_bytes,
                     staging.size(), staging.data());
    backend_.write_weight(*job.weight, job.first_row, job.num_rows, staging.data(), job.dtype);
  }
}

void WeightLoader::run(const std::function<void(const LoadProgress&)>& progress,
                       const CancellationFlag* cancellation) {
  std::mutex mutex;
  LoadProgress state{vector_bytes_, vector_bytes_ + matrix_bytes_};
  if (progress) progress(state);
  backend_.parallel(static_cast<int64_t>(groups_.size()), [&](int64_t index) {
    if (cancellation != nullptr && cancellation->cancelled()) throw Cancelled{};
    const std::vector<Job>& group = groups_[static_cast<size_t>(index)];
    run_group(group);
    std::lock_guard lock(mutex);
    for (const Job& job : group) {
      state.loaded_bytes += static_cast<uint64_t>(job.num_rows) * job.row_bytes;
    }
    if (progress) progress(state);
  });
  groups_.clear();
}

}  // namespace qvl
