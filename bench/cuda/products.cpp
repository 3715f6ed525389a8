#include "suite.h"

namespace qvl::bench {
namespace {

/// What the numbers of a weight are kept as.
struct Storage {
  const char* name;
  double bytes;  // of a number, its share of the scales included
  Quantization quantization{};
};

const Storage kBf16 = {"bf16", 2};
const Storage kInt8 = {"int8", 1 + 2.0 / 128, {8, 128}};
const Storage kInt4 = {"int4", 0.5 + 2.0 / 32, {4, 32}};

struct Product {
  const char* name;
  int64_t out_features, in_features;
  enum Kind : uint8_t { kResidual, kSwiGlu, kLogits } kind;
  std::vector<int64_t> row_counts;
  Storage storage = kBf16;
};

std::string row_name(const Product& product, int64_t rows) {
  return text(rows == 1 ? "GEMV " : "GEMM ", product.name, " ", product.storage.name, " ", rows,
              "×", product.in_features, "×", product.out_features);
}

/// `rows` sequences that decode: the shape of a step that is recorded.
std::unique_ptr<SequenceBatch> decoding(Backend& backend, int64_t rows) {
  static constexpr int32_t kBlock[] = {0};
  std::vector<SequenceSpan> sequences;
  for (int64_t row = 0; row < rows; ++row) sequences.push_back({row, 1, 0, kBlock});
  auto batch = backend.create_sequence_batch(rows, 1);
  batch->assign(sequences);
  return batch;
}

void run_rows(const Suite& suite, const Product& product, int64_t rows) {
  const std::string name = row_name(product, rows);
  if (!suite.wants(name)) return;
  const int64_t n = product.out_features;
  const int64_t k = product.in_features;
  const double bytes = product.storage.bytes * static_cast<double>(n * k);
  const auto backend = suite.make_backend();
  const int copies = suite.copies_beyond_caches(bytes);
  const std::vector<float> source = numbers(32 * k);
  std::vector<std::unique_ptr<Weight>> weights;
  for (int i = 0; i < copies; ++i) {
    weights.push_back(
        backend->create_weight({n, k, DType::kBF16, 1, product.storage.quantization}));
    backend->parallel(n / 32, [&](int64_t part) {
      backend->write_weight(*weights.back(), part * 32, 32, source.data(), DType::kF32);
    });
  }
  const bool has_norm = product.kind != Product::kResidual;
  const bool is_swiglu = product.kind == Product::kSwiGlu;
  const Operand x(*backend, rows, k, has_norm ? DType::kF32 : DType::kBF16);
  const Operand norm(*backend, 1, k, DType::kF32);
  const Operand out(*backend, rows, is_swiglu ? n / 2 : n, is_swiglu ? DType::kBF16 : DType::kF32);
  const Tensor target = out.tensor();
  LinearOptions options;
  if (has_norm) options.norm = {&norm.buffer(), 1e-6F};
  if (is_swiglu) options.activation = Activation::kSwiGlu;
  if (product.kind == Product::kResidual) options.residual = &target;
  // Steps of more rows are not recorded.
  const auto batch = rows <= 8 ? decoding(*backend, rows) : nullptr;
  const Case which{name, bytes, 2.0 * static_cast<double>(rows * n * k)};
  suite.run(which, *backend, batch.get(), copies, [&](int i) {
    backend->linear(target, x.tensor(), *weights[static_cast<size_t>(i)], options);
  });
}

}  // namespace

void run_products(const Suite& suite) {
  const Shapes& s = suite.shapes();
  const Product products[] = {
      {"o", s.hidden, s.heads * s.head_dim, Product::kResidual, {1, 8, 512}},
      {"gate_up", 2 * s.inner, s.hidden, Product::kSwiGlu, {1, 4, 8, 16, 128, 512, 2048}},
      {"down", s.hidden, s.inner, Product::kResidual, {1, 8, 512}},
      {"gate_up", 2 * s.inner, s.hidden, Product::kSwiGlu, {1, 8, 512}, kInt8},
      {"gate_up", 2 * s.inner, s.hidden, Product::kSwiGlu, {1, 8, 512}, kInt4},
      {"down", s.hidden, s.inner, Product::kResidual, {1, 8}, kInt4},
      {"head", s.vocabulary, s.hidden, Product::kLogits, {1, 8}},
  };
  for (const Product& product : products) {
    for (const int64_t rows : product.row_counts) run_rows(suite, product, rows);
  }
}

}  // namespace qvl::bench
