#pragma once

// From a checkpoint's tensors to a backend's weights: found under either naming scheme, checked,
// stacked where the model wants one matrix, and read in parallel without a second copy.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/safetensors.h"
#include "model/model.h"

namespace qvl {

/// One tensor of a (stacked) matrix: its published name and the rows it must have.
struct MatrixPart {
  std::string name;
  int64_t rows = 0;
};

class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, Backend& backend, const ModelOptions& options)
      : checkpoint_(checkpoint), backend_(backend), options_(options) {}

  /// The matrix of the parts' rows on top of each other, [sum of rows, cols]. Its values are there
  /// after run(). A tensor may have more than two dimensions; those after the first count as cols.
  /// `segments`: see WeightSpec. Throws Error(ERR_CHECKPOINT_*).
  std::unique_ptr<Weight> matrix(const std::vector<MatrixPart>& parts, int64_t cols,
                                 int segments = 1);
  /// The vectors end to end as F32; read at once.
  std::unique_ptr<Buffer> vector(const std::vector<MatrixPart>& parts);

  /// Reads all matrices asked for. Throws Cancelled, Error.
  void run(const std::function<void(const LoadProgress&)>& progress,
           const CancellationFlag* cancellation);

 private:
  struct Job {
    Weight* weight;
    const TensorEntry* tensor;
    DType dtype;
    int64_t first_source_row;
    int64_t first_row;  // of the weight
    int64_t num_rows;
    uint64_t row_bytes;
  };

  const TensorEntry& find(const std::string& published_name) const;
  void add_jobs(Weight& weight, const std::vector<const TensorEntry*>& tensors);
  void run_group(const std::vector<Job>& group) const;

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const ModelOptions& options_;
  /// Jobs of a group write into shared panels and so run on one thread, in order.
  std::vector<std::vector<Job>> groups_;
  uint64_t vector_bytes_ = 0;
  uint64_t matrix_bytes_ = 0;
};

}  // namespace qvl
