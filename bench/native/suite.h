#pragma once

// What the kernel benchmarks share: the suite runs a case in turn with the machine's limits and
// prints the times.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/machine_limits.h"
#include "case.h"

namespace qvl::bench {

struct Options {
  std::string filter;           // only cases whose name has this
  std::string instruction_set;  // "" = the best
  int threads = 0;              // 0 = the physical cores
  int rounds = 3;               // of limits and case
  double seconds = 0.06;        // of each limit, and of the case, in a round
};

/// Runs cases and prints each as a line of JSON, with the limits as they were meanwhile.
class Suite {
 public:
  explicit Suite(const Options& options);

  Backend& backend() { return *backend_; }
  bool wants(const std::string& name) const;
  /// Times `body` if the filter lets it through.
  void run(const Case& which, const std::function<void()>& body);
  void print_machine() const;

 private:
  void measure(std::vector<Limit>& limits);

  Options options_;
  std::unique_ptr<Backend> backend_;
  MachineLimits machine_;
};

Tensor tensor(std::vector<float>& data, int64_t rows, int64_t cols);

/// Copies of an operand of so many bytes that, used in turn, they cannot stay in a cache.
int copies_beyond_caches(double bytes);

// ---- the cases, a file each ----

/// Products with the weights of the 2B model: one row to 512, every format.
void run_linear(Suite& suite);
/// Decode, prefill and vision attention.
void run_attention(Suite& suite);
/// Norms, SwiGLU, rotation and the append to the KV cache.
void run_rows(Suite& suite);
/// Resizing and patch extraction, on one thread.
void run_images(Suite& suite);

}  // namespace qvl::bench
