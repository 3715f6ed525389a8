#include "kernels/cuda/gemv.h"

#include <cstring>
#include <utility>

#include "check.h"
#include "kernels/compare.h"
#include "kernels/gpu.h"
#include "kernels/qkv_output.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kEpsilon = 1e-6f;

/// Inputs of a product, on the host.
struct Problem {
  Half type;
  int in_features, out_features, rows;
  bool has_norm;
  std::vector<float> weight, norm_weight, x;

  Problem(Half half, int in, int out, int num_rows, bool normed)
      : type(half), in_features(in), out_features(out), rows(num_rows), has_norm(normed) {
    const size_t columns = static_cast<size_t>(in);
    weight = random_halves(columns * static_cast<size_t>(out), 1, type,
                           1.f / std::sqrt(static_cast<float>(in)));
    norm_weight = random_values(columns, 2);
    for (int row = 0; row < rows; ++row) {
      // Rows of different magnitudes, each the same whatever their number.
      const float scale = has_norm ? std::ldexp(1.f, row % 5) : 1.f;
      const auto values = random_halves(columns, 100 + static_cast<unsigned>(row), type, scale);
      x.insert(x.end(), values.begin(), values.end());
    }
  }

  std::string name() const {
    return describe(type == Half::kBf16 ? "bf16" : "fp16", " in ", in_features, " out ",
                    out_features, " rows ", rows);
  }
  /// [rows, out_features]
  std::vector<double> products() const {
    std::vector<double> result;
    for (int row = 0; row < rows; ++row) {
      const std::vector<double> in = multiplied(row);
      for (int out = 0; out < out_features; ++out) {
        const float* w = weight.data() + static_cast<size_t>(out) * in.size();
        double sum = 0;
        for (size_t i = 0; i < in.size(); ++i) sum += in[i] * static_cast<double>(w[i]);
        result.push_back(sum);
      }
    }
    return result;
  }
  /// How far a product, which is of size 1, may be off. A normalised number may round to its other
  /// neighbour, as the device's reciprocal root differs in the last bits.
  double slack() const { return has_norm ? 0.25 * rounding_of(type) : 4e-6; }

 private:
  /// The row of x, normalised and rounded.
  std::vector<double> multiplied(int row) const {
    const float* src = x.data() + static_cast<size_t>(row) * static_cast<size_t>(in_features);
    std::vector<double> result(src, src + in_features);
    if (!has_norm) return result;
    double squares = 0;
    for (const double value : result) squares += value * value;
    const double scale = 1 / std::sqrt(squares / in_features + static_cast<double>(kEpsilon));
    for (size_t i = 0; i < result.size(); ++i) {
      const double value = result[i] * scale * static_cast<double>(norm_weight[i]);
      result[i] = static_cast<double>(widen(narrow(static_cast<float>(value), type), type));
    }
    return result;
  }
};

/// The same in the device's memory.
struct OnDevice {
  const Problem& problem;
  DeviceArray<uint16_t> weight, x_halves;
  DeviceArray<float> x, norm_weight;

  OnDevice(Gpu& gpu, const Problem& inputs)
      : problem(inputs),
        weight(gpu.upload(narrow(inputs.weight, inputs.type))),
        x_halves(gpu.upload(narrow(inputs.x, inputs.type))),
        x(gpu.upload(inputs.x)),
        norm_weight(gpu.upload(inputs.norm_weight)) {}
};

/// Which rows of a problem are multiplied in one launch, and how many blocks it may have.
struct Launch {
  int first_row, rows;
  int64_t resident;
};

template <class Epilogue>
void run(Gpu& gpu, const char* base, const OnDevice& on, const Launch& how,
         const Epilogue& epilogue) {
  const Problem& problem = on.problem;
  const int64_t skipped = static_cast<int64_t>(how.first_row) * problem.in_features;
  const auto numbers = static_cast<size_t>(how.rows * problem.in_features);
  const auto x = gpu.filled<float>(problem.has_norm ? numbers : 0, 0xff);
  const auto x_halves = gpu.filled<uint16_t>(problem.has_norm ? 0 : numbers, 0xff);
  GemvKernelParams<Epilogue> params{{}, epilogue};
  GemvParams& p = params.gemv;
  p.weight = on.weight.get();
  p.x = problem.has_norm ? static_cast<const void*>(x.get()) : x_halves.get();
  p.norm_weight = problem.has_norm ? on.norm_weight.get() : nullptr;
  p.x_stride = problem.in_features;
  p.rows = how.rows;
  p.in_features = problem.in_features;
  p.out_features = problem.out_features;
  p.eps = kEpsilon;
  // The kernel before writes x.
  if (problem.has_norm) {
    gpu.produce(x, on.x.get() + skipped);
  } else {
    gpu.produce(x_halves, on.x_halves.get() + skipped);
  }
  gpu.launch(kernel_name(base, problem.type), {gemv_grid<Epilogue>(p.out_features, how.resident)},
             {kGemvThreads}, gemv_shared_bytes<Epilogue>(p.rows, p.in_features), params);
}

std::vector<float> logits(Gpu& gpu, const OnDevice& on, const Launch& how) {
  const int width = on.problem.out_features;
  auto out = gpu.filled<float>(static_cast<size_t>(how.rows * width), 0xff);
  run(gpu, "gemv_logits", on, how, LogitsEpilogue{out.get(), width});
  return gpu.download(out);
}

/// initial + x W^T
std::vector<float> residual(Gpu& gpu, const OnDevice& on, const Launch& how,
                            const std::vector<float>& initial) {
  const int width = on.problem.out_features;
  const auto first = initial.begin() + how.first_row * width;
  auto x = gpu.upload(std::vector<float>(first, first + how.rows * width));
  run(gpu, "gemv_residual", on, how, ResidualEpilogue{x.get(), width});
  return gpu.download(x);
}

std::vector<uint16_t> swiglu(Gpu& gpu, const OnDevice& on, const Launch& how) {
  const int width = on.problem.out_features / 2;
  auto out = gpu.filled<uint16_t>(static_cast<size_t>(how.rows * width), 0xff);
  run(gpu, "gemv_swiglu", on, how, SwiGluEpilogue{out.get(), width});
  return gpu.download(out);
}

std::vector<uint16_t> qkv(Gpu& gpu, const OnDevice& on, const Launch& how,
                          const QkvInputs& inputs) {
  const QkvOutput out(gpu, inputs, how.first_row, how.rows);
  run(gpu, "gemv_qkv", on, how, out.epilogue());
  return out.download();
}

void check_floats(const std::vector<float>& actual, const std::vector<double>& expected,
                  const Problem& problem) {
  CHECK_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::abs(static_cast<double>(actual[i]) - expected[i]) <= problem.slack()) continue;
    fail(__FILE__, __LINE__,
         describe(problem.name(), ": element ", i, " is ", actual[i], ", expected ", expected[i],
                  " within ", problem.slack()));
  }
}

/// Checks that the first rows, and each row alone, have the bits they have among all.
template <class Run>
void check_invariance(int rows, const Run& result) {
  const auto all = result(Launch{0, rows, 1});
  const size_t width = all.size() / static_cast<size_t>(rows);
  const auto check = [&](const Launch& how) {
    const auto some = result(how);
    const auto* same = all.data() + static_cast<size_t>(how.first_row) * width;
    CHECK_EQ(some.size(), static_cast<size_t>(how.rows) * width);
    CHECK(std::memcmp(some.data(), same, some.size() * sizeof(some[0])) == 0);
  };
  for (int row = 0; row < rows; ++row) check({row, 1, 1 + row});
  for (int few = 2; few <= rows; ++few) check({0, few, 1 + few});
}

struct Shape {
  int in_features, out_features, rows;
};

}  // namespace

TEST(gemv_logits_matches_double_precision) {
  Gpu gpu;
  for (const Half type : kHalves) {
    // Widths below, at and above what the warps read at a time; last tiles that are not full.
    for (const auto& [in, out, rows] : {Shape{8, 3, 1},
                                        {72, 17, 2},
                                        {256, 24, 8},
                                        {264, 9, 3},
                                        {576, 40, 5},
                                        {1536, 33, 1},
                                        {3584, 8, 4},
                                        {8192, 8, 1}}) {
      const Problem problem(type, in, out, rows, true);
      check_floats(logits(gpu, OnDevice(gpu, problem), {0, rows, 2}), problem.products(), problem);
    }
  }
}

TEST(gemv_residual_adds_to_what_is_there) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const auto& [in, out, rows] : {Shape{256, 24, 8},
                                        {576, 24, 8},
                                        {1536, 20, 1},
                                        {8960, 16, 2},
                                        {18944, 8, 1},
                                        {29568, 8, 2}}) {
      const Problem problem(type, in, out, rows, false);
      const auto initial = random_values(static_cast<size_t>(rows * out), 7);
      std::vector<double> expected = problem.products();
      for (size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(initial[i]);
      check_floats(residual(gpu, OnDevice(gpu, problem), {0, rows, 2}, initial), expected, problem);
    }
  }
}

TEST(gemv_residual_combines_eight_segments_as_a_balanced_tree) {
  // Each segment's sum is exact; they are such that another order of adding them gives another sum.
  Gpu gpu;
  constexpr int kSegment = 64, kIn = 8 * kSegment, kOut = 8;
  const float sums[8] = {0x1p24f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f, 1.f};
  const float tree =
      ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  float in_order = 0.f;
  for (const float sum : sums) in_order += sum;
  CHECK(tree != in_order);

  Problem problem(Half::kBf16, kIn, kOut, 1, false);
  for (size_t i = 0; i < problem.weight.size(); ++i) {
    const size_t column = i % kIn;
    problem.weight[i] = column % kSegment == 17 ? sums[column / kSegment] : 0.f;
  }
  problem.x.assign(kIn, 1.f);
  const auto initial = std::vector<float>(kOut);
  for (const float sum : residual(gpu, OnDevice(gpu, problem), {0, 1, 1}, initial)) {
    CHECK_EQ(sum, tree);
  }
}

TEST(gemv_swiglu_matches_double_precision) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const auto& [in, out, rows] : {Shape{64, 16, 1}, {256, 48, 8}, {1536, 32, 3}}) {
      const Problem problem(type, in, out, rows, true);
      const std::vector<double> products = problem.products();
      const size_t width = static_cast<size_t>(out) / 2;
      std::vector<Expected> expected;
      for (size_t i = 0; i < static_cast<size_t>(rows) * width; ++i) {
        const double gate = products[i / width * 2 * width + i % width];
        const double up = products[(i / width * 2 + 1) * width + i % width];
        expected.push_back({gate / (1 + std::exp(-gate)) * up,
                            problem.slack() * (1 + std::abs(gate) + std::abs(up))});
      }
      const auto actual = widen(swiglu(gpu, OnDevice(gpu, problem), {0, rows, 2}), type);
      check_rows(actual, width, expected, width, type, problem.name());
    }
  }
}

TEST(gemv_rows_do_not_depend_on_each_other_or_on_the_grid) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const int in : {256, 584, 1536}) {
      constexpr int kOut = 48;
      const Problem normed(type, in, kOut, kGemvMaxRows, true);
      const Problem plain(type, in, kOut, kGemvMaxRows, false);
      const OnDevice on_normed(gpu, normed), on_plain(gpu, plain);
      const auto initial = random_values(kOut * kGemvMaxRows, 3);
      check_invariance(kGemvMaxRows,
                       [&](const Launch& how) { return logits(gpu, on_normed, how); });
      check_invariance(kGemvMaxRows,
                       [&](const Launch& how) { return swiglu(gpu, on_normed, how); });
      check_invariance(kGemvMaxRows,
                       [&](const Launch& how) { return residual(gpu, on_plain, how, initial); });
    }
  }
}

TEST(gemv_qkv_rotates_and_appends_to_the_paged_cache) {
  Gpu gpu;
  // A draft of three tokens across the end of a block, a token at a block's beginning, a prompt's.
  const Step step({{3, 30}, {1, 64}, {2, 0}});
  for (const Half type : kHalves) {
    for (const auto& [heads, in] : {std::pair{QkvHeads{8, 2, 32}, 256},
                                    {{2, 1, 64}, 136},
                                    {{6, 1, 128}, 64},
                                    {{3, 3, 16}, 72}}) {
      const Problem problem(type, in, heads.columns(), step.num_rows, true);
      const QkvInputs inputs(gpu, heads, step);
      const auto actual =
          qkv(gpu, OnDevice(gpu, problem), {0, step.num_rows, /*resident=*/3}, inputs);
      const std::vector<double> products = problem.products();
      const auto width = static_cast<size_t>(heads.columns());
      const auto expected = inputs.expected([&](int row, int column) {
        return Expected{products[static_cast<size_t>(row) * width + static_cast<size_t>(column)],
                        problem.slack()};
      });
      check_rows(widen(actual, type), width, expected, width, type,
                 describe(problem.name(), " heads of ", heads.head_dim));
    }
  }
}

TEST(gemv_qkv_of_a_row_does_not_depend_on_the_others_or_on_the_grid) {
  Gpu gpu;
  const Step step({{3, 30}, {1, 64}, {4, 0}});
  for (const Half type : kHalves) {
    const QkvInputs inputs(gpu, {3, 1, 32}, step);
    const Problem problem(type, 264, inputs.heads().columns(), step.num_rows, true);
    const OnDevice on(gpu, problem);
    check_invariance(step.num_rows, [&](const Launch& how) { return qkv(gpu, on, how, inputs); });
  }
}
