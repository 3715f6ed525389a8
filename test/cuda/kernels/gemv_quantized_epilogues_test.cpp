// What the products of quantised matrices with normalised rows become.

#include <cmath>
#include <cstring>

#include "check.h"
#include "kernels/compare.h"
#include "kernels/cuda/gemv_quantized.h"
#include "kernels/qkv_output.h"
#include "kernels/quantized_products.h"

using namespace qvl;
using namespace qvl::test;
using cuda::QuantizedMatrixSpec;

namespace {

constexpr int kRows = kQuantizedGemvMaxRows;
constexpr float kEpsilon = 1e-6f;
/// Wide enough for a warp to bring x to shared memory in two parts, and one that is not.
constexpr int64_t kWide = 4096, kNarrow = 1152;
/// Units of x at a time: what the host would choose, and as few as there may be.
constexpr int kStagedUnits[] = {0, kQuantizedGemvAhead};

/// Which rows of a problem are multiplied in one launch.
struct Launch {
  int first_row = 0, rows = kRows;
  int staged_units = 0;
};

/// A matrix and kRows rows that are to be normalised.
class Problem {
 public:
  Problem(Gpu& gpu, const QuantizedMatrixSpec& spec, Half type, float norm_scale = 1.f)
      : gpu_(gpu),
        type_(type),
        columns_(static_cast<size_t>(spec.in_features)),
        weights_(gpu, spec, 12),
        x_(rows_to_normalize(columns_)),
        norm_(random_values(columns_, 14, norm_scale)),
        device_x_(gpu.upload(x_)),
        device_norm_(gpu.upload(norm_)) {}

  Gpu& gpu() const { return gpu_; }
  Half type() const { return type_; }
  int outputs() const { return static_cast<int>(weights_.layout().spec().out_features); }
  std::string name() const {
    const QuantizedMatrixSpec& spec = weights_.layout().spec();
    return describe(type_ == Half::kBf16 ? "bf16" : "fp16", ", int", spec.bits, " in groups of ",
                    spec.group_size);
  }

  template <class Epilogue>
  void run(const char* variant, const Launch& how, const Epilogue& epilogue) const {
    QuantizedGemvKernelParams<Epilogue> params{};
    params.gemv.norm_weight = device_norm_.get();
    params.gemv.rows = how.rows;
    params.gemv.eps = kEpsilon;
    params.epilogue = epilogue;
    const float* x = device_x_.get() + static_cast<size_t>(how.first_row) * columns_;
    run_quantized(gpu_, weights_, variant, type_, x, params, how.staged_units);
  }

  /// [kRows, outputs] in double precision. An input that lay between two numbers of W may have been
  /// rounded to the other one.
  std::vector<Expected> products() const {
    const std::vector<float> normed = normalized();
    std::vector<Expected> all;
    for (size_t row = 0; row < kRows; ++row) {
      for (int n = 0; n < outputs(); ++n) {
        const ExactProduct exact = exact_product(weights_, n, &normed[row * columns_]);
        const double slack = exact.tolerance * (type_ == Half::kBf16 ? 0x1p7 : 0x1p4);
        all.push_back({exact.value, slack});
      }
    }
    return all;
  }

 private:
  /// One number makes most of the sum of squares, and it belongs to a lane that every exchange
  /// between lanes must bring along.
  static std::vector<float> rows_to_normalize(size_t columns) {
    std::vector<float> x = random_values(kRows * columns, 13);
    for (size_t row = 0; row < kRows; ++row) x[row * columns + 31 * 4 + 1] = 200.f;
    return x;
  }
  std::vector<float> normalized() const {
    std::vector<float> out(x_.size());
    for (size_t begin = 0; begin < x_.size(); begin += columns_) {
      double squares = 0;
      for (size_t k = begin; k < begin + columns_; ++k) {
        squares += static_cast<double>(x_[k]) * static_cast<double>(x_[k]);
      }
      const double mean = squares / static_cast<double>(columns_);
      const double scale = 1 / std::sqrt(mean + static_cast<double>(kEpsilon));
      for (size_t k = 0; k < columns_; ++k) {
        const double value =
            static_cast<double>(x_[begin + k]) * scale * static_cast<double>(norm_[k]);
        out[begin + k] = widen(narrow(static_cast<float>(value), type_), type_);
      }
    }
    return out;
  }

  Gpu& gpu_;
  Half type_;
  size_t columns_;
  QuantizedWeights weights_;
  std::vector<float> x_, norm_;
  DeviceArray<float> device_x_, device_norm_;
};

/// Logits, or sums that are added to, from zero.
template <class Epilogue>
std::vector<float> floats(const Problem& problem, const char* variant, const Launch& how) {
  const auto count = static_cast<size_t>(how.rows * problem.outputs());
  const auto out = problem.gpu().filled<float>(count, 0);
  problem.run(variant, how, Epilogue{out.get(), problem.outputs()});
  return problem.gpu().download(out);
}
std::vector<float> logits(const Problem& problem, const Launch& how) {
  return floats<LogitsEpilogue>(problem, "logits", how);
}
std::vector<float> residual(const Problem& problem, const Launch& how) {
  return floats<ResidualEpilogue>(problem, "residual", how);
}
std::vector<uint16_t> swiglu(const Problem& problem, const Launch& how) {
  const int inner = problem.outputs() / 2;
  const auto out = problem.gpu().filled<uint16_t>(static_cast<size_t>(how.rows * inner), 0xff);
  problem.run("swiglu", how, SwiGluEpilogue{out.get(), inner});
  return problem.gpu().download(out);
}
std::vector<uint16_t> qkv(const Problem& problem, const QkvInputs& inputs, const Launch& how) {
  const QkvOutput out(problem.gpu(), inputs, how.first_row, how.rows);
  problem.run("qkv", how, out.epilogue());
  return out.download();
}

QuantizedMatrixSpec matrix(int64_t outputs, int64_t columns, const QuantizedCodes& codes,
                           bool has_zeros = false) {
  return {outputs, columns, codes.bits, codes.group, has_zeros, 1};
}
/// Rows that belong together `distance` apart.
QuantizedMatrixSpec paired(QuantizedMatrixSpec spec, int64_t distance) {
  spec.pair_distance = distance;
  return spec;
}

/// A draft of three tokens across the end of a block, a token at a block's beginning, a prompt.
Step step_of_eight_rows() { return Step({{3, 30}, {1, 64}, {4, 0}}); }

void check_floats(const std::vector<float>& actual, const Problem& problem) {
  const std::vector<Expected> expected = problem.products();
  CHECK_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i].value);
    if (error > expected[i].slack) fail(__FILE__, __LINE__, describe(problem.name(), " at ", i));
  }
}

void check_swiglu(const Problem& problem, int staged_units) {
  const std::vector<Expected> products = problem.products();
  const auto inner = static_cast<size_t>(problem.outputs()) / 2;
  std::vector<Expected> expected;
  for (size_t i = 0; i < kRows * inner; ++i) {
    const Expected& gate = products[i / inner * 2 * inner + i % inner];
    const Expected& up = products[(i / inner * 2 + 1) * inner + i % inner];
    const double slack =
        gate.slack * (std::fabs(up.value) + 1) + up.slack * (std::fabs(gate.value) + 1);
    expected.push_back({gate.value / (1 + std::exp(-gate.value)) * up.value, slack});
  }
  const auto actual = swiglu(problem, {0, kRows, staged_units});
  check_rows(widen(actual, problem.type()), inner, expected, inner, problem.type(), problem.name());
}

void check_qkv(Gpu& gpu, const QuantizedCodes& codes, const QkvHeads& heads, Half type,
               int staged_units) {
  const QkvInputs inputs(gpu, heads, step_of_eight_rows());
  const Problem problem(gpu, paired(matrix(heads.columns(), kWide, codes), heads.head_dim / 2),
                        type, 0.025f);
  const std::vector<Expected> products = problem.products();
  const auto width = static_cast<size_t>(heads.columns());
  const auto expected = inputs.expected([&](int row, int column) {
    return products[static_cast<size_t>(row) * width + static_cast<size_t>(column)];
  });
  const auto actual = qkv(problem, inputs, {0, kRows, staged_units});
  check_rows(widen(actual, type), width, expected, width, type, problem.name());
}

/// Checks that any number of rows, and a row alone, have the bits they have among all.
template <class Run>
void check_invariance(const Run& result) {
  const auto all = result(Launch{});
  const size_t width = all.size() / kRows;
  const auto check = [&](const Launch& how) {
    const auto some = result(how);
    CHECK_EQ(some.size(), static_cast<size_t>(how.rows) * width);
    const auto* same = all.data() + static_cast<size_t>(how.first_row) * width;
    CHECK(std::memcmp(some.data(), same, some.size() * sizeof(some[0])) == 0);
  };
  for (int rows = 1; rows < kRows; ++rows) check({0, rows, rows % 2 * kQuantizedGemvAhead});
  for (const int row : {3, kRows - 1}) check({row, 1});
}

}  // namespace

TEST(logits_are_products_of_the_normalised_row) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      const Problem problem(gpu, matrix(20, kWide, codes), type);
      for (const int staged : kStagedUnits) {
        check_floats(logits(problem, {0, kRows, staged}), problem);
      }
    }
  }
}

TEST(a_residual_may_be_of_normalised_rows) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      const Problem problem(gpu, matrix(20, kWide, codes), type);
      check_floats(residual(problem, {}), problem);
    }
  }
}

TEST(swiglu_pairs_a_gate_with_what_it_lets_through) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      for (const auto& [inner, staged] : {std::pair{36, 0}, {8, kQuantizedGemvAhead}}) {
        const auto spec = paired(matrix(2 * inner, kWide, codes, true), inner);
        check_swiglu(Problem(gpu, spec, type, 0.0125f), staged);
      }
    }
  }
}

TEST(qkv_is_biased_rotated_and_appended) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      check_qkv(gpu, codes, {3, 2, 32}, type, kQuantizedGemvAhead);
    }
  }
  check_qkv(gpu, {8, 128}, {2, 1, 128}, Half::kFp16, 0);
  check_qkv(gpu, {4, 128}, {2, 1, 128}, Half::kBf16, 0);
}

TEST(normalised_rows_do_not_depend_on_each_other) {
  Gpu gpu;
  const QkvHeads heads{1, 1, 32};
  const QkvInputs inputs(gpu, heads, step_of_eight_rows());
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      const Problem plain(gpu, matrix(20, kNarrow, codes), type);
      check_invariance([&](const Launch& how) { return logits(plain, how); });
      check_invariance([&](const Launch& how) { return residual(plain, how); });
      const Problem gated(gpu, paired(matrix(24, kNarrow, codes, true), 12), type);
      check_invariance([&](const Launch& how) { return swiglu(gated, how); });
      const Problem turned(gpu, paired(matrix(heads.columns(), kNarrow, codes), 16), type);
      check_invariance([&](const Launch& how) { return qkv(turned, inputs, how); });
    }
  }
}
