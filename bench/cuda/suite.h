#pragma once

// The operations of the CUDA backend alone, as the product runs them: those of decoding recorded
// once and started as a whole, those of many rows one after the other.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "case.h"

namespace qvl::bench {

struct Options {
  int device = 0;
  std::string filter;     // only cases whose name has this
  bool is_small = false;  // tiny shapes, to see that everything runs
  int rounds = 5;
  double seconds = 0.05;  // of a round
};

/// Sizes that the cases have.
struct Shapes {
  int64_t hidden, inner, heads, kv_heads, head_dim, vocabulary;
  int64_t vision_heads, vision_head_dim;
  std::vector<int64_t> contexts, prompts, patches;
};

class Suite {
 public:
  explicit Suite(const Options& options);

  const Shapes& shapes() const;
  bool wants(const std::string& name) const;
  /// A backend for one case: what it records of a step's shape is of that case alone.
  std::unique_ptr<Backend> make_backend() const;
  /// How many operands of so many bytes are to be used in turn, so that none stays in a cache.
  int copies_beyond_caches(double bytes) const;

  /// Times body(i), i = 0 ... count - 1, which starts an operation on the i-th operand; `batch`, if
  /// there is one, is a step's that a recorded one repeats.
  void run(const Case& which, Backend& backend, const SequenceBatch* batch, int count,
           const std::function<void(int)>& body) const;
  void print_machine() const;

 private:
  Options options_;
  std::unique_ptr<Backend> keeper_;  // of the device, between cases
};

/// Products with weights of the decoder: one row to 512.
void run_products(const Suite& suite);
/// Decode, prefill and vision attention.
void run_attention(const Suite& suite);

/// Memory of a backend with numbers in it.
class Operand {
 public:
  Operand(Backend& backend, int64_t rows, int64_t cols, DType dtype);
  Tensor tensor() const { return tensor_; }
  const Buffer& buffer() const { return *buffer_; }

 private:
  std::unique_ptr<Buffer> buffer_;
  Tensor tensor_;
};

}  // namespace qvl::bench
