#pragma once

// Steps that are recorded once and repeated: a decode step is hundreds of kernels, and the driver
// starts a recorded one as a whole.

#include <compare>
#include <cstdint>
#include <functional>
#include <map>

#include "backend/cuda/module.h"

namespace qvl::cuda {

/// Steps of one shape launch the same kernels with the same parameters.
struct StepShape {
  int64_t num_rows = 0;
  int64_t num_sequences = 0;
  int64_t max_blocks = 0;  // stride of the block table, and with it the places of the tables
  auto operator<=>(const StepShape&) const = default;
};

class StepGraphs {
 public:
  explicit StepGraphs(Device& device) : device_(device) {}
  ~StepGraphs() { clear(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  /// Runs body() the first time, so that memory it needs is there; the second time records what it
  /// launches in `stream` and starts that; from then on starts the recorded step without body().
  void run(const StepShape& shape, api::Stream stream, const std::function<void()>& body);
  /// Forgets all: memory that they refer to has moved.
  void clear();

 private:
  struct Entry {
    api::GraphExec executable = nullptr;  // null: ran once, memory is in its place
  };
  api::GraphExec record(api::Stream stream, const std::function<void()>& body);

  Device& device_;
  std::map<StepShape, Entry> entries_;
};

}  // namespace qvl::cuda
