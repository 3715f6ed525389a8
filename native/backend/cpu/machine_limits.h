#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu/memory.h"
#include "backend/cpu/thread_pool.h"

namespace qvl {

/// What the processor can do at most with some threads, measured. A benchmark measures it again and
/// again beside what it compares: machines change their speed.
class MachineLimits {
 public:
  /// `threads`: 0 = the physical cores this process may use.
  explicit MachineLimits(int threads);

  /// "read", the memory bandwidth, then "fp32 <instruction set>" and "int8 <instruction set>" for
  /// what this processor has, the narrowest first.
  static std::vector<std::string> names();

  /// Bytes, or operations, per second: a good one of passes that take about `seconds` together.
  /// Throws Error(ERR_INVALID_ARGUMENT) for a name that is none of names().
  double measure(std::string_view name, double seconds);

 private:
  double measure_read(double seconds);

  ThreadPool pool_;
  PageMemory memory_;  // read by "read"; allocated at its first use
};

}  // namespace qvl
