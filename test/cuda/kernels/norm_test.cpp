#include "kernels/cuda/norm.h"

#include "kernels/compare.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kEps = 1e-6f;
// Widths of the checkpoints, the smallest, and those at which a block gets another warp.
constexpr int kWidths[] = {8, 120, 192, 256, 512, 520, 1280, 1536, 3584, 8192, kNormMaxCols};

struct Problem {
  std::vector<float> x, weight, bias;  // x [rows, cols]
  size_t rows, cols;

  Problem(size_t num_rows, int num_cols, float mean)
      : x(random_values(num_rows * static_cast<size_t>(num_cols), 1)),
        weight(random_values(static_cast<size_t>(num_cols), 2)),
        bias(random_values(static_cast<size_t>(num_cols), 3)),
        rows(num_rows),
        cols(static_cast<size_t>(num_cols)) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += mean * static_cast<float>(i / cols + 1);
    // One number makes most of the sums, so that no other part of the row passes for its part.
    for (size_t row = 0; row < rows; ++row) {
      x[row * cols + (row + 3) % 7 * cols / 7] += 3.f * std::sqrt(static_cast<float>(cols));
    }
  }
};

/// Rows further apart than they are wide, as columns of a wider matrix are.
std::vector<uint16_t> run(Gpu& gpu, const std::string& kernel, const Problem& problem) {
  const size_t x_stride = problem.cols + 4;
  const size_t out_stride = problem.cols + 8;
  std::vector<float> padded(problem.rows * x_stride, NAN);
  for (size_t i = 0; i < problem.x.size(); ++i) {
    padded[i / problem.cols * x_stride + i % problem.cols] = problem.x[i];
  }
  const auto x = gpu.upload(padded);
  const auto weight = gpu.upload(problem.weight);
  const auto bias = gpu.upload(problem.bias);
  const auto out = gpu.filled<uint16_t>(problem.rows * out_stride, 0xab);
  const NormParams params{x.get(),
                          weight.get(),
                          bias.get(),
                          out.get(),
                          static_cast<int64_t>(x_stride),
                          static_cast<int64_t>(out_stride),
                          static_cast<int32_t>(problem.cols),
                          kEps};
  const auto threads = static_cast<unsigned>(norm_threads(params.cols));
  gpu.launch(kernel, {static_cast<unsigned>(problem.rows)}, {threads}, kNormSharedBytes, params);
  std::vector<uint16_t> result = gpu.download(out);
  check_untouched(result, out_stride, problem.cols, 0xabab, kernel);
  return result;
}

std::vector<Expected> expected_norm(const Problem& problem, bool centred) {
  const double cols = static_cast<double>(problem.cols);
  std::vector<Expected> expected;
  for (size_t row = 0; row < problem.rows; ++row) {
    const float* x = problem.x.data() + row * problem.cols;
    double mean = 0.0;
    for (size_t i = 0; centred && i < problem.cols; ++i) mean += x[i] / cols;
    double variance = 0.0;
    for (size_t i = 0; i < problem.cols; ++i) variance += (x[i] - mean) * (x[i] - mean) / cols;
    const double inverse = 1.0 / std::sqrt(variance + static_cast<double>(kEps));
    for (size_t i = 0; i < problem.cols; ++i) {
      const double weight = problem.weight[i];
      const double bias = centred ? static_cast<double>(problem.bias[i]) : 0.0;
      // The mean is known to an ulp or two of itself, and the sum is rounded once more.
      const double slack = std::fabs(weight) * inverse * std::fabs(mean) * 0x1p-20 +
                           std::fabs(bias) * rounding_of(Half::kFp16) * 0x1p-8 + 1e-6;
      expected.push_back({(x[i] - mean) * inverse * weight + bias, slack});
    }
  }
  return expected;
}

}  // namespace

TEST(rms_norm_is_that_of_double_precision_at_every_width) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const int cols : kWidths) {
      const Problem problem(2, cols, 0.5f);
      const auto out = run(gpu, kernel_name("rms_norm", type), problem);
      check_rows(widen(out, type), problem.cols + 8, expected_norm(problem, false), problem.cols,
                 type, describe("rms_norm of ", cols));
    }
  }
}

TEST(layer_norm_is_that_of_double_precision_even_where_the_mean_is_large) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const int cols : kWidths) {
      const Problem problem(2, cols, 100.f);
      const auto out = run(gpu, kernel_name("layer_norm", type), problem);
      check_rows(widen(out, type), problem.cols + 8, expected_norm(problem, true), problem.cols,
                 type, describe("layer_norm of ", cols));
    }
  }
}

TEST(norms_of_equal_values_are_finite) {
  Gpu gpu;
  Problem problem(2, 192, 0.f);
  for (size_t i = 0; i < problem.x.size(); ++i) problem.x[i] = i < problem.cols ? 0.f : 3.f;
  for (const Half type : kHalves) {
    const auto rms = widen(run(gpu, kernel_name("rms_norm", type), problem), type);
    check_rows(rms, problem.cols + 8, expected_norm(problem, false), problem.cols, type, "rms");
    const auto layer = widen(run(gpu, kernel_name("layer_norm", type), problem), type);
    check_rows(layer, problem.cols + 8, expected_norm(problem, true), problem.cols, type, "layer");
  }
}

TEST(norm_of_a_row_does_not_depend_on_the_other_rows) {
  Gpu gpu;
  for (const int cols : {120, 1280, 3584}) {
    const Problem all(5, cols, 2.f);
    for (const Half type : kHalves) {
      for (const char* base : {"rms_norm", "layer_norm"}) {
        const std::string kernel = kernel_name(base, type);
        const std::vector<uint16_t> together = run(gpu, kernel, all);
        for (size_t row = 0; row < all.rows; ++row) {
          Problem one(1, cols, 0.f);
          std::copy_n(all.x.begin() + static_cast<std::ptrdiff_t>(row * all.cols), all.cols,
                      one.x.begin());
          const std::vector<uint16_t> alone = run(gpu, kernel, one);
          CHECK(std::equal(alone.begin(), alone.end(),
                           together.begin() + static_cast<std::ptrdiff_t>(row * alone.size())));
        }
      }
    }
  }
}
