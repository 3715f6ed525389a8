// The operations that treat each row by itself: norms, swiglu, rope.

#include <cmath>

#include "check.h"
#include "kernels/support.h"

namespace qvl::test {

using kernels::KernelTable;
using kernels::RowsArgs;

constexpr int64_t kRows = 3;
constexpr int64_t kGap = 5;
constexpr float kEps = 1e-6f;
constexpr int64_t kWidths[] = {1, 7, 8, 9, 31, 32, 33, 40, 63, 64, 65, 100, 1280, 1536};

RowsArgs rows_args(std::vector<float>& out, const std::vector<float>& x, int64_t out_cols,
                   int64_t x_cols) {
  out.assign(static_cast<size_t>(kRows * (out_cols + kGap)), -7.0f);
  return {out.data(), x.data(), out_cols, out_cols + kGap, x_cols + kGap};
}

TEST(rms_norm_is_right_and_the_same_everywhere) {
  for (const int64_t cols : kWidths) {
    const std::vector<float> x = random_floats(kRows * (cols + kGap), 1, 3.0f);
    const std::vector<float> weight = random_floats(cols, 2);
    std::vector<float> scalar;
    for (const KernelTable* table : all_kernels()) {
      std::vector<float> out;
      const RowsArgs args = rows_args(out, x, cols, cols);
      table->rms_norm(args, weight.data(), kEps, 0, 1);
      table->rms_norm(args, weight.data(), kEps, 1, kRows);
      if (scalar.empty()) scalar = out;
      CHECK(agrees(*table, out, scalar));
    }
    for (int64_t r = 0; r < kRows; ++r) {
      const float* row = &x[static_cast<size_t>(r * (cols + kGap))];
      double squares = 0;
      for (int64_t i = 0; i < cols; ++i) squares += static_cast<double>(row[i]) * row[i];
      std::vector<float> expected(static_cast<size_t>(cols));
      for (int64_t i = 0; i < cols; ++i) {
        expected[static_cast<size_t>(i)] =
            static_cast<float>(row[i] / std::sqrt(squares / static_cast<double>(cols) + kEps) *
                               weight[static_cast<size_t>(i)]);
      }
      CHECK_CLOSE(&scalar[static_cast<size_t>(r * (cols + kGap))], expected.data(),
                  static_cast<size_t>(cols), 2e-6);
    }
  }
}

TEST(layer_norm_is_right_and_the_same_everywhere) {
  for (const int64_t cols : kWidths) {
    std::vector<float> x = random_floats(kRows * (cols + kGap), 1, 3.0f);
    for (float& value : x) value += 10.0f;  // a mean that must be taken off first
    const std::vector<float> weight = random_floats(cols, 2);
    const std::vector<float> bias = random_floats(cols, 3);
    std::vector<float> scalar;
    for (const KernelTable* table : all_kernels()) {
      std::vector<float> out;
      table->layer_norm(rows_args(out, x, cols, cols), weight.data(), bias.data(), kEps, 0, kRows);
      if (scalar.empty()) scalar = out;
      CHECK(agrees(*table, out, scalar));
    }
    if (cols == 1) continue;  // variance 0: nothing but rounding
    for (int64_t r = 0; r < kRows; ++r) {
      const float* row = &x[static_cast<size_t>(r * (cols + kGap))];
      double mean = 0;
      double variance = 0;
      for (int64_t i = 0; i < cols; ++i) mean += row[i] / static_cast<double>(cols);
      for (int64_t i = 0; i < cols; ++i) {
        variance += (row[i] - mean) * (row[i] - mean) / static_cast<double>(cols);
      }
      std::vector<float> expected(static_cast<size_t>(cols));
      for (int64_t i = 0; i < cols; ++i) {
        expected[static_cast<size_t>(i)] = static_cast<float>(
            (row[i] - mean) / std::sqrt(variance + kEps) * weight[static_cast<size_t>(i)] +
            bias[static_cast<size_t>(i)]);
      }
      CHECK_CLOSE(&scalar[static_cast<size_t>(r * (cols + kGap))], expected.data(),
                  static_cast<size_t>(cols), 4e-6);
    }
  }
}

TEST(swiglu_is_right_and_the_same_everywhere) {
  for (const int64_t cols : kWidths) {
    const std::vector<float> x = random_floats(kRows * (2 * cols + kGap), 1, 4.0f);
    std::vector<float> scalar;
    for (const KernelTable* table : all_kernels()) {
      std::vector<float> out;
      table->swiglu(rows_args(out, x, cols, 2 * cols), 0, kRows);
      if (scalar.empty()) scalar = out;
      CHECK(agrees(*table, out, scalar));
    }
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < cols; ++i) {
        const double gate = x[static_cast<size_t>(r * (2 * cols + kGap) + i)];
        const double up = x[static_cast<size_t>(r * (2 * cols + kGap) + cols + i)];
        const float actual = scalar[static_cast<size_t>(r * (cols + kGap) + i)];
        CHECK(std::fabs(actual - gate / (1 + std::exp(-gate)) * up) <
              3e-7 * (1 + std::fabs(gate * up)));
      }
    }
  }
}

TEST(rope_rotates_each_half_pair_of_a_head) {
  const int64_t heads = 3;
  const int64_t dim = 20;
  const int64_t stride = heads * dim + kGap;
  const std::vector<float> before = random_floats(kRows * stride, 1);
  std::vector<float> angles = random_floats(kRows * dim / 2, 2);
  std::vector<float> cos;
  std::vector<float> sin;
  for (const float angle : angles) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  std::vector<float> x = before;
  for (const KernelTable* table : all_kernels()) {
    std::vector<float> rotated = before;
    const kernels::RopeArgs args{rotated.data(), cos.data(), sin.data(), heads, dim,
                                 stride,         dim / 2,    dim / 2};
    table->rope(args, 0, 1);
    table->rope(args, 1, kRows);
    if (table == &kernels::scalar_kernels()) x = rotated;
    CHECK(same_bits(rotated, x));
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t i = 0; i < heads * dim; ++i) {
      const int64_t d = i % dim;
      const auto at = static_cast<size_t>(r * stride + i);
      const auto angle = static_cast<size_t>(r * dim / 2 + d % (dim / 2));
      const double other = d < dim / 2 ? -before[at + dim / 2] : before[at - dim / 2];
      const double expected = static_cast<double>(before[at]) * cos[angle] + other * sin[angle];
      CHECK(std::fabs(x[at] - expected) < 1e-6);
    }
    for (int64_t i = heads * dim; i < stride; ++i) {
      const auto at = static_cast<size_t>(r * stride + i);
      CHECK_EQ(x[at], before[at]);
    }
  }
}

}  // namespace qvl::test
