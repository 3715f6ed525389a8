#include <algorithm>

#include "suite.h"

namespace qvl::bench {
namespace {

struct Shape {
  const char* name;
  int64_t out_features, in_features;
  int segments;
  DType dtype;
  std::vector<int64_t> row_counts;
  Activation activation = Activation::kNone;
};

// Of the 2B model. One row is a matrix-vector product, bound by memory; 8 are a batch of sequences;
// 128 and 512 are prompts; those of the vision tower are pieces of images.
const std::vector<Shape>& shapes() {
  static const std::vector<int64_t> kMost = {1, 4, 8, 16, 128, 512};
  static const std::vector<int64_t> kFew = {1, 8, 128, 512};
  static const std::vector<Shape> shapes = {
      {"qkv", 2048, 1536, 1, DType::kBF16, kFew},
      {"o", 1536, 1536, 8, DType::kBF16, kFew},
      {"gate_up", 17920, 1536, 1, DType::kBF16, kMost, Activation::kSwiGlu},
      {"down", 1536, 8960, 8, DType::kBF16, kFew},
      {"head", 151936, 1536, 1, DType::kBF16, {1, 8}},
      {"gate_up", 17920, 1536, 1, DType::kF16, {1, 8, 512}, Activation::kSwiGlu},
      {"gate_up", 17920, 1536, 1, DType::kF32, {1, 8, 512}, Activation::kSwiGlu},
      {"vision qkv", 3840, 1280, 1, DType::kBF16, {1024}},
      {"vision proj", 1280, 1280, 1, DType::kBF16, {1024}},
      {"vision fc1", 5120, 1280, 1, DType::kBF16, {1024}},
      {"vision fc2", 1280, 5120, 1, DType::kBF16, {1024}},
      {"vision patch", 1280, 1176, 1, DType::kBF16, {1024}},
  };
  return shapes;
}

std::string row_name(const Shape& shape, int64_t rows) {
  return text(rows == 1 ? "GEMV " : "GEMM ", shape.name, " ", dtype_name(shape.dtype), " ", rows,
              "×", shape.in_features, "×", shape.out_features);
}

void run_shape(Suite& suite, const Shape& shape) {
  const auto wanted = [&](int64_t rows) { return suite.wants(row_name(shape, rows)); };
  if (std::none_of(shape.row_counts.begin(), shape.row_counts.end(), wanted)) return;
  Backend& backend = suite.backend();
  const int64_t n = shape.out_features;
  const int64_t k = shape.in_features;
  std::vector<float> source = numbers(16 * k);
  std::vector<std::unique_ptr<Weight>> weights;
  const auto weight_bytes =
      static_cast<double>(n * k) * static_cast<double>(dtype_size(shape.dtype));
  for (int i = 0; i < copies_beyond_caches(weight_bytes); ++i) {
    weights.push_back(backend.create_weight({n, k, shape.dtype, shape.segments}));
    backend.parallel(n / 16, [&](int64_t part) {
      backend.write_weight(*weights.back(), part * 16, 16, source.data(), DType::kF32);
    });
  }
  size_t next = 0;
  for (const int64_t rows : shape.row_counts) {
    std::vector<float> x = numbers(rows * k);
    const int64_t columns = shape.activation == Activation::kSwiGlu ? n / 2 : n;
    std::vector<float> out(static_cast<size_t>(rows * columns));
    const auto operations = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
    suite.run({row_name(shape, rows), weight_bytes, operations}, [&] {
      backend.linear(tensor(out, rows, columns), tensor(x, rows, k),
                     *weights[next++ % weights.size()], {nullptr, nullptr, shape.activation});
    });
  }
}

}  // namespace

void run_linear(Suite& suite) {
  for (const Shape& shape : shapes()) run_shape(suite, shape);
}

}  // namespace qvl::bench
