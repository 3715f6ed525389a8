#pragma once

// From a checkpoint's tensors to a backend's weights: found under either naming scheme, checked,
// stacked where the model wants one matrix, and read in parallel without a second copy, or left in
// the mapped files. Matrices that are stored quantised stay as they are.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "model/quantized_reader.h"
#include "model/quantized_tensor.h"

namespace qvl {

/// The published name ("visual.", "model.") of a tensor under either naming scheme.
std::string published_name(std::string_view name);

/// A tensor the model needs: its published name and its shape.
struct TensorPart {
  std::string name;
  std::vector<int64_t> shape;
};

class WeightLoader {
 public:
  /// All three must outlive the loader. With a mapping, matrices are not read but stay where they
  /// are and keep the mapping, but for those whose parts have different types.
  WeightLoader(const Checkpoint& checkpoint, Backend& backend, const ModelOptions& options,
               std::shared_ptr<const CheckpointMapping> mapping = nullptr,
               const StoredQuantization& stored = {})
      : checkpoint_(checkpoint),
        backend_(&backend),
        options_(options),
        mapping_(std::move(mapping)),
        stored_(stored) {}

  /// Only checks what it is asked for: matrices and vectors are null.
  WeightLoader(const Checkpoint& checkpoint, const StoredQuantization& stored)
      : checkpoint_(checkpoint), backend_(nullptr), stored_(stored) {}

  /// The matrix of the parts' rows on top of each other; a part's dimensions after the first are
  /// its columns. Its values are there after run(). `segments`, `pair_distance`: see WeightSpec.
  /// Throws Error(ERR_CHECKPOINT_*).
  std::unique_ptr<Weight> matrix(const std::vector<TensorPart>& parts, int segments = 1,
                                 int64_t pair_distance = 0);
  /// The one-dimensional parts end to end as F32; read at once.
  std::unique_ptr<Buffer> vector(const std::vector<TensorPart>& parts);
  /// Likewise, with zeros for parts that the checkpoint lacks; null where all are zeros.
  std::unique_ptr<Buffer> optional_vector(const std::vector<TensorPart>& parts);

  /// Reads all matrices asked for. Throws Cancelled, Error.
  void run(const std::function<void(const LoadProgress&)>& progress,
           const CancellationFlag* cancellation);

 private:
  /// Rows of one tensor that go to consecutive rows of a weight, read at once.
  struct Job {
    Weight* weight;
    const TensorEntry* tensor;
    DType dtype;
    int64_t first_source_row;
    int64_t first_row;  // of the weight
    int64_t num_rows;
    uint64_t row_bytes;

    uint64_t offset() const { return static_cast<uint64_t>(first_source_row) * row_bytes; }
    uint64_t size_bytes() const { return static_cast<uint64_t>(num_rows) * row_bytes; }
  };
  /// A part of a tensor that is stored quantised, whose rows go to consecutive rows of a weight.
  struct QuantizedJob {
    Weight* weight;
    const QuantizedTensor* tensor;
    QuantizedReader::Part part;
    int64_t first_row;  // of the weight
  };
  /// What one thread reads without a break, in order: jobs may share a panel with the one before.
  struct Group {
    std::vector<Job> jobs;
    std::vector<QuantizedJob> quantized_jobs;
    uint64_t size_bytes = 0;
    /// Where it begins.
    const TensorEntry* tensor = nullptr;
    uint64_t offset = 0;
  };
  class Staging;

  const TensorEntry* lookup(const std::string& name) const;
  const TensorEntry& find(const TensorPart& part) const;
  void read_vector(const TensorEntry& tensor, float* values);
  bool holds_numbers(const TensorPart& part) const;
  bool is_stored_quantized(const TensorPart& part) const;
  QuantizedTensor quantized_tensor(const TensorPart& part) const;
  std::unique_ptr<Weight> quantized_matrix(const std::vector<TensorPart>& parts, int segments,
                                           int64_t pair_distance);
  void add_quantized_jobs(Weight& weight, const std::vector<const QuantizedTensor*>& tensors);
  void add_quantized_slabs(Weight& weight, const std::vector<const QuantizedTensor*>& tensors);
  void run_quantized_job(const QuantizedJob& job, QuantizedReader& reader) const;
  std::string file_of(const TensorEntry& tensor) const;
  DType dtype_of(const TensorEntry& tensor) const;
  std::unique_ptr<Weight> map(const WeightSpec& spec,
                              const std::vector<const TensorEntry*>& tensors) const;
  void add_jobs(Weight& weight, const std::vector<const TensorEntry*>& tensors);
  void run_group(const Group& group, Staging& staging, const CancellationFlag* cancellation) const;

  const Checkpoint& checkpoint_;
  Backend* const backend_;  // null: only check
  const ModelOptions options_;
  const std::shared_ptr<const CheckpointMapping> mapping_;  // or null
  const StoredQuantization stored_;
  std::vector<std::unique_ptr<QuantizedTensor>> quantized_tensors_;  // of the jobs
  std::vector<Group> groups_;
  uint64_t vector_bytes_ = 0;
};

}  // namespace qvl
