// Linear layers on device 'cuda' as the model calls them, with what comes before and after the
// product: up to 8 rows by the kernels of decoding where there is one, otherwise by cuBLASLt.

#include "backend/on_device.h"
#include "kernels/cuda/gemv.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kEps = 1e-6f;

/// What a linear layer is asked to do.
struct Layer {
  const char* name;
  bool x_is_f32, out_is_f32;
  bool norm = false, bias = false, residual = false;
  Activation activation = Activation::kNone;

  bool is_swiglu() const { return activation == Activation::kSwiGlu; }
  /// What a row is does not depend on their number, up to 8: there is a kernel of our own.
  bool is_decode_kernel() const { return !bias && (norm ? out_is_f32 || is_swiglu() : residual); }
};

constexpr Layer kLayers[] = {
    {"plain", false, false},
    {"plain F32", false, true},
    {"of F32", true, false},
    {"bias", false, false, false, true},
    {"bias F32", false, true, false, true},
    {"bias quick_gelu", false, false, false, true, false, Activation::kQuickGelu},
    {"bias gelu", false, false, false, true, false, Activation::kGelu},
    {"residual", false, true, false, false, true},
    {"bias residual", false, true, false, true, true},
    {"norm", true, false, true},
    {"norm F32", true, true, true},
    {"norm bias", true, false, true, true},
    {"norm swiglu", true, false, true, false, false, Activation::kSwiGlu},
    {"swiglu", false, false, false, false, false, Activation::kSwiGlu},
    {"norm bias swiglu", true, false, true, true, false, Activation::kSwiGlu},
};

struct Shape {
  int64_t in, out;
};
// The smallest, the tiny checkpoint's, one with odd ends of tiles, patches.
constexpr Shape kShapes[] = {{8, 16}, {256, 80}, {200, 48}, {576, 32}, {1176, 16}};
// About the tiles' edges, the last row of the decode kernels, and cuBLASLt's classes of rows.
constexpr int64_t kRows[] = {1, 2, 3, 7, 8, 9, 16, 17, 33, 65};

class Problem {
 public:
  static constexpr int64_t kMostRows = 65;

  Problem(Half type, const Shape& shape)
      : type_(type),
        shape_(shape),
        weight_(random_halves(static_cast<size_t>(shape.in * shape.out), 1, type,
                              1.f / std::sqrt(static_cast<float>(shape.in)))),
        norm_(random_values(static_cast<size_t>(shape.in), 2)),
        bias_(random_values(static_cast<size_t>(shape.out), 3)),
        x_(random_halves(static_cast<size_t>(shape.in * kMostRows), 4, type, 2.f)),
        residual_(random_values(static_cast<size_t>(shape.out * kMostRows), 5)) {}

  /// Rows [first, first + count) of what `layer` makes of x.
  std::vector<float> run(Backend& backend, const Layer& layer, int64_t first, int64_t count) const {
    const auto weight = weight_of(backend, weight_, shape_.in, type_);
    const auto norm = buffer_of(backend, norm_);
    const auto bias = buffer_of(backend, bias_);
    const DType dtype = dtype_of(type_);
    const OnDevice x(backend, rows_of(x_, shape_.in, first, count), shape_.in,
                     layer.x_is_f32 ? DType::kF32 : dtype);
    const int64_t cols = layer.is_swiglu() ? shape_.out / 2 : shape_.out;
    const DType out_type = layer.out_is_f32 ? DType::kF32 : dtype;
    const OnDevice out = layer.residual ? OnDevice(backend, rows_of(residual_, cols, first, count),
                                                   cols, out_type, 8)
                                        : OnDevice(backend, count, cols, out_type, 8);
    const Tensor residual = out.tensor();
    LinearOptions options;
    if (layer.norm) options.norm = {norm.get(), kEps};
    if (layer.bias) options.bias = bias.get();
    if (layer.residual) options.residual = &residual;
    options.activation = layer.activation;
    backend.linear(out.tensor(), x.tensor(), *weight, options);
    return out.values();
  }

  std::vector<Expected> expected(const Layer& layer, int64_t rows) const {
    std::vector<Expected> all;
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<Expected> sums = products(layer, row);
      if (layer.is_swiglu()) sums = swiglu(sums);
      for (size_t i = 0; i < sums.size(); ++i) {
        Expected& sum = sums[i];
        sum = activated(sum, layer.activation);
        if (!layer.residual) continue;
        const double residual = residual_[static_cast<size_t>(row) * sums.size() + i];
        sum.value += residual;
        sum.slack += std::fabs(residual) * 0x1p-22;
      }
      all.insert(all.end(), sums.begin(), sums.end());
    }
    return all;
  }

 private:
  /// The row of x, normalised in double precision and rounded, as all kernels round it.
  std::vector<double> input(const Layer& layer, int64_t row) const {
    const auto first = x_.begin() + row * shape_.in;
    std::vector<double> values(first, first + shape_.in);
    if (!layer.norm) return values;
    double squares = 0;
    for (const double value : values) squares += value * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(shape_.in) + double{kEps});
    for (size_t i = 0; i < values.size(); ++i) {
      const auto normal = static_cast<float>(values[i] * scale * double{norm_[i]});
      values[i] = double{widen(narrow(normal, type_), type_)};
    }
    return values;
  }

  /// Of a row: x W^T + b, [out_features].
  std::vector<Expected> products(const Layer& layer, int64_t row) const {
    const std::vector<double> x = input(layer, row);
    std::vector<Expected> sums;
    for (int64_t out = 0; out < shape_.out; ++out) {
      const float* w = weight_.data() + out * shape_.in;
      double sum = 0, sizes = 0, squares = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double product = x[i] * double{w[i]};
        sum += product, sizes += std::fabs(product), squares += product * product;
      }
      // Sums are F32. Some normalised numbers round to their other neighbour, as the device's
      // reciprocal root differs in the last bits.
      double slack = sizes * 0x1p-20;
      if (layer.norm) slack += 0.25 * rounding_of(type_) * std::sqrt(squares);
      // Between two kernels a product is a number of the type.
      const bool is_rounded = !layer.out_is_f32 && (layer.bias || layer.is_swiglu());
      if (is_rounded) slack += std::fabs(sum) * rounding_of(type_);
      if (layer.bias) {
        sum += double{bias_[static_cast<size_t>(out)]};
        if (layer.is_swiglu()) slack += std::fabs(sum) * rounding_of(type_);
      }
      sums.push_back({sum, slack + 1e-6});
    }
    return sums;
  }

  static Expected activated(const Expected& in, Activation activation) {
    const double x = in.value;
    // Neither is steeper than 1.13.
    if (activation == Activation::kQuickGelu) {
      return {x / (1 + std::exp(-1.702 * x)), 1.2 * in.slack};
    }
    if (activation == Activation::kGelu) {
      return {0.5 * x * std::erfc(-x / std::sqrt(2.0)), 1.2 * in.slack};
    }
    return in;
  }

  static std::vector<Expected> swiglu(const std::vector<Expected>& sums) {
    std::vector<Expected> out;
    const size_t half = sums.size() / 2;
    for (size_t i = 0; i < half; ++i) {
      const auto& [gate, gate_slack] = sums[i];
      const auto& [up, up_slack] = sums[half + i];
      const double silu = gate / (1 + std::exp(-gate));
      out.push_back({silu * up, 1.1 * gate_slack * std::fabs(up) + up_slack * std::fabs(silu) +
                                    gate_slack * up_slack + 1e-6});
    }
    return out;
  }

  Half type_;
  Shape shape_;
  std::vector<float> weight_, norm_, bias_, x_, residual_;
};

std::string name_of_case(Half type, const Shape& shape, const Layer& layer, int64_t rows) {
  return describe(name_of(type), " ", layer.name, ", in ", shape.in, " out ", shape.out, " rows ",
                  rows);
}

}  // namespace

TEST(linear_layers_are_those_of_double_precision_for_any_number_of_rows) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const Shape& shape : kShapes) {
      const Problem problem(type, shape);
      for (const Layer& layer : kLayers) {
        const std::vector<Expected> all = problem.expected(layer, Problem::kMostRows);
        const size_t cols = all.size() / Problem::kMostRows;
        for (const int64_t rows : kRows) {
          const std::vector<float> out = problem.run(*backend, layer, 0, rows);
          const std::vector<Expected> expected(all.begin(),
                                               all.begin() + rows * static_cast<int64_t>(cols));
          const std::string where = name_of_case(type, shape, layer, rows);
          if (layer.out_is_f32) {
            check_floats(out, expected, where);
          } else {
            check_rows(out, cols, expected, cols, type, where);
          }
        }
      }
    }
  }
}

TEST(rows_of_decode_steps_do_not_depend_on_the_others_bit_for_bit) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const Shape& shape : {Shape{256, 80}, Shape{1176, 16}}) {
      const Problem problem(type, shape);
      for (const Layer& layer : kLayers) {
        if (!layer.is_decode_kernel()) continue;
        const std::vector<float> all = problem.run(*backend, layer, 0, kGemvMaxRows);
        const auto cols = static_cast<int64_t>(all.size()) / kGemvMaxRows;
        for (const auto& [first, count] :
             {std::pair<int64_t, int64_t>{0, 1}, {7, 1}, {2, 3}, {1, 7}}) {
          CHECK(same_bits(problem.run(*backend, layer, first, count),
                          rows_of(all, cols, first, count)));
        }
      }
    }
  }
}

TEST(logits_of_a_vocabulary_of_any_size) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    const Layer layer{"logits", true, true, true};
    for (const int64_t vocabulary : {3, 17, 100, 257}) {
      const Shape shape{64, vocabulary};
      const Problem problem(type, shape);
      for (const int64_t rows : {1, 5, 12}) {
        check_floats(problem.run(*backend, layer, 0, rows), problem.expected(layer, rows),
                     name_of_case(type, shape, layer, rows));
      }
    }
  }
}

TEST(segments_of_a_sum_change_nothing_that_can_be_seen) {
  const auto backend = cuda_backend(Half::kBf16);
  const auto values = random_halves(16 * 64, 1, Half::kBf16);
  const OnDevice x(*backend, random_halves(2 * 64, 2, Half::kBf16), 64, DType::kBF16);
  std::vector<std::vector<float>> results;
  for (const int segments : {1, 8}) {
    const auto weight = backend->create_weight({16, 64, DType::kBF16, segments});
    CHECK_EQ(weight->spec().segments, segments);
    backend->write_weight(*weight, 0, 16, values.data(), DType::kF32);
    const OnDevice out(*backend, std::vector<float>(2 * 16, 1.f), 16, DType::kF32);
    const Tensor residual = out.tensor();
    backend->linear(out.tensor(), x.tensor(), *weight, {nullptr, &residual});
    results.push_back(out.values());
  }
  CHECK(same_bits(results[0], results[1]));
}
