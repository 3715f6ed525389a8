#pragma once

// What the kernel benchmarks share: a case says what it moves and computes, the suite runs it in
// turn with the machine's limits and prints the times. Statistics and fractions are the business
// of who reads them (lib/bench).

#include <cstdint>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/machine_limits.h"

namespace qvl::bench {

struct Options {
  std::string filter;           // only cases whose name has this
  std::string instruction_set;  // "" = the best
  int threads = 0;              // 0 = the physical cores
  int rounds = 3;               // of limits and case
  double seconds = 0.06;        // of each limit, and of the case, in a round
};

struct Case {
  std::string name;
  double bytes;     // that have to come from memory or go there
  double fp32;      // operations; a multiply-add counts as two
  double int8 = 0;  // operations on 8-bit integers
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
  struct Limit {
    std::string name;
    std::vector<double> rates;
  };

  void measure(std::vector<Limit>& limits);

  Options options_;
  std::unique_ptr<Backend> backend_;
  MachineLimits machine_;
};

/// The parts behind each other, as a stream writes them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// Small numbers around zero, the same every time.
std::vector<float> numbers(int64_t count);
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
