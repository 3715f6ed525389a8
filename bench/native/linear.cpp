#include <algorithm>

#include "suite.h"

namespace qvl::bench {
namespace {

/// What the numbers of a weight are kept as.
struct Storage {
  const char* name;
  double bytes;  // of a number, its share of the scales included
  DType dtype = DType::kBF16;
  Quantization quantization{};
};

constexpr Storage kBf16 = {"bf16", 2};
constexpr Storage kFp16 = {"fp16", 2, DType::kF16};
constexpr Storage kFp32 = {"fp32", 4, DType::kF32};
constexpr double kScaleBytes = 2;
constexpr Storage kInt8 = {"int8", 1 + kScaleBytes / 128, DType::kBF16, {8, 128, false}};
constexpr Storage kInt4 = {"int4", 0.5 + kScaleBytes / 32, DType::kBF16, {4, 32, false}};
constexpr Storage kInt8Rows = {"int8·int8", 1 + kScaleBytes / 128, DType::kBF16, {8, 128, true}};
constexpr Storage kInt4Rows = {"int4·int8", 0.5 + kScaleBytes / 32, DType::kBF16, {4, 32, true}};

struct Shape {
  const char* name;
  int64_t out_features, in_features;
  int segments;
  std::vector<int64_t> row_counts;
  Activation activation = Activation::kNone;
};

std::string row_name(const Shape& shape, const Storage& storage, int64_t rows) {
  return text(rows == 1 ? "GEMV " : "GEMM ", shape.name, " ", storage.name, " ", rows, "×",
              shape.in_features, "×", shape.out_features);
}

std::vector<std::unique_ptr<Weight>> make_weights(Backend& backend, const Shape& shape,
                                                  const Storage& storage) {
  const int64_t n = shape.out_features;
  const int64_t k = shape.in_features;
  std::vector<float> source = numbers(16 * k);
  std::vector<std::unique_ptr<Weight>> weights;
  for (int i = 0; i < copies_beyond_caches(static_cast<double>(n * k) * storage.bytes); ++i) {
    weights.push_back(
        backend.create_weight({n, k, storage.dtype, shape.segments, storage.quantization}));
    backend.parallel(n / 16, [&](int64_t part) {
      backend.write_weight(*weights.back(), part * 16, 16, source.data(), DType::kF32);
    });
  }
  return weights;
}

void run_shape(Suite& suite, const Shape& shape, const Storage& storage) {
  const auto wanted = [&](int64_t rows) { return suite.wants(row_name(shape, storage, rows)); };
  if (std::none_of(shape.row_counts.begin(), shape.row_counts.end(), wanted)) return;
  Backend& backend = suite.backend();
  const int64_t n = shape.out_features;
  const int64_t k = shape.in_features;
  const int64_t columns = shape.activation == Activation::kSwiGlu ? n / 2 : n;
  const auto weights = make_weights(backend, shape, storage);
  size_t next = 0;
  for (const int64_t rows : shape.row_counts) {
    std::vector<float> x = numbers(rows * k);
    std::vector<float> out(static_cast<size_t>(rows * columns));
    const auto operations = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
    const bool sums_integers = storage.quantization.int8_activations;
    const Case which = {row_name(shape, storage, rows), static_cast<double>(n * k) * storage.bytes,
                        sums_integers ? 0 : operations, sums_integers ? operations : 0};
    suite.run(which, [&] {
      backend.linear(tensor(out, rows, columns), tensor(x, rows, k),
                     *weights[next++ % weights.size()], {nullptr, nullptr, shape.activation});
    });
  }
}

}  // namespace

// Of the 2B model. One row is a matrix-vector product, bound by memory; 8 are a batch of sequences;
// 128 and 512 are prompts; those of the vision tower are pieces of images.
void run_linear(Suite& suite) {
  const std::vector<int64_t> most = {1, 4, 8, 16, 128, 512};
  const std::vector<int64_t> few = {1, 8, 512};
  const auto gate_up = [](std::vector<int64_t> row_counts) {
    return Shape{"gate_up", 17920, 1536, 1, std::move(row_counts), Activation::kSwiGlu};
  };
  const auto down = [](std::vector<int64_t> row_counts) {
    return Shape{"down", 1536, 8960, 8, std::move(row_counts)};
  };
  run_shape(suite, {"qkv", 2048, 1536, 1, few}, kBf16);
  run_shape(suite, {"o", 1536, 1536, 8, few}, kBf16);
  run_shape(suite, gate_up(most), kBf16);
  run_shape(suite, down(few), kBf16);
  run_shape(suite, {"head", 151936, 1536, 1, {1, 8}}, kBf16);
  for (const Storage& storage : {kFp16, kFp32, kInt8, kInt4, kInt8Rows, kInt4Rows}) {
    run_shape(suite, gate_up(few), storage);
  }
  // A segment is a whole number of groups.
  run_shape(suite, {"down", 1536, 8960, 2, few}, kInt8Rows);
  run_shape(suite, down(few), kInt4Rows);
  for (const Storage& storage : {kBf16, kInt8Rows}) {
    run_shape(suite, {"vision qkv", 3840, 1280, 1, {1024}}, storage);
    run_shape(suite, {"vision proj", 1280, 1280, 1, {1024}}, storage);
    run_shape(suite, {"vision fc1", 5120, 1280, 1, {1024}}, storage);
    run_shape(suite, {"vision fc2", 1280, 5120, 1, {1024}}, storage);
  }
  run_shape(suite, {"vision patch", 1280, 1176, 1, {1024}}, kBf16);
}

}  // namespace qvl::bench
