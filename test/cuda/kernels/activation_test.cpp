#include "kernels/cuda/activation.h"

#include <functional>

#include "kernels/compare.h"

using namespace qvl;
using namespace qvl::test;

namespace {

struct Shape {
  int rows, cols;
};
// A single chunk, part of a block, a block's end inside a row, rows of the checkpoints.
constexpr Shape kShapes[] = {{1, 8}, {3, 16}, {5, 520}, {33, 192}, {2, 2056}, {2, 18944}};

using Function = double (*)(double);
double identity(double x) { return x; }
double silu(double x) { return x / (1.0 + std::exp(-x)); }
double quick_gelu(double x) { return x / (1.0 + std::exp(-1.702 * x)); }
double gelu(double x) { return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0))); }

/// Mostly near zero, where the functions bend, with some values where they are flat or a line.
std::vector<float> inputs(size_t count, unsigned seed, Half type) {
  std::vector<float> values = random_values(count, seed, 2.f);
  const float extremes[] = {0.f, -0.f, 88.f, -88.f, 200.f, -200.f, 30000.f, -30000.f, 1e-6f};
  for (size_t i = 0; i < count; i += 7) values[i] = extremes[i / 7 % std::size(extremes)];
  return widen(narrow(values, type), type);
}

/// out = f(x + bias), in another place or in x itself.
void check_bias(Gpu& gpu, const char* kernel, Function f, Half type, const Shape& shape,
                bool in_place) {
  const auto cols = static_cast<size_t>(shape.cols);
  const size_t count = static_cast<size_t>(shape.rows) * cols;
  const size_t stride = cols + 8;
  const std::vector<float> x = inputs(count, 1, type);
  const std::vector<float> bias = random_values(cols, 2);
  std::vector<uint16_t> padded(static_cast<size_t>(shape.rows) * stride, 0xabab);
  for (size_t i = 0; i < count; ++i) padded[i / cols * stride + i % cols] = narrow(x[i], type);

  const auto device_x = gpu.upload(padded);
  const auto device_bias = gpu.upload(bias);
  const auto separate = gpu.filled<uint16_t>(padded.size(), 0xab);
  const auto& out = in_place ? device_x : separate;
  const auto step = static_cast<int64_t>(stride);
  gpu.launch(kernel_name(kernel, type),
             {static_cast<unsigned>(bias_blocks(shape.rows, shape.cols))}, {kActivationThreads}, 0,
             ActivationParams{device_x.get(), device_bias.get(), out.get(), step, step, shape.rows,
                              shape.cols});
  const std::vector<uint16_t> result = gpu.download(out);

  std::vector<Expected> expected;
  for (size_t i = 0; i < count; ++i) {
    const double sum = static_cast<double>(x[i]) + static_cast<double>(bias[i % cols]);
    // The sum is rounded to F32; erf near -1 keeps an absolute error of F32.
    expected.push_back({f(sum), std::fabs(sum) * 0x1p-22 + 1e-7});
  }
  const std::string where = describe(kernel, " of ", shape.rows, " x ", shape.cols);
  check_rows(widen(result, type), stride, expected, cols, type, where);
  check_untouched(result, stride, cols, 0xabab, where);
}

}  // namespace

TEST(swiglu_is_that_of_double_precision) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Shape& shape : kShapes) {
      const auto cols = static_cast<size_t>(shape.cols);
      const auto rows = static_cast<size_t>(shape.rows);
      const size_t x_stride = 2 * cols + 8;
      const size_t out_stride = cols + 16;
      const std::vector<float> gate = inputs(rows * cols, 1, type);
      const std::vector<float> up = random_halves(rows * cols, 2, type);
      std::vector<uint16_t> x(rows * x_stride);
      for (size_t i = 0; i < gate.size(); ++i) {
        x[i / cols * x_stride + i % cols] = narrow(gate[i], type);
        x[i / cols * x_stride + cols + i % cols] = narrow(up[i], type);
      }
      const auto device_x = gpu.upload(x);
      const auto out = gpu.filled<uint16_t>(rows * out_stride, 0xab);
      gpu.launch(
          kernel_name("swiglu", type),
          {static_cast<unsigned>(swiglu_blocks(shape.rows, shape.cols))}, {kActivationThreads}, 0,
          ActivationParams{device_x.get(), nullptr, out.get(), static_cast<int64_t>(x_stride),
                           static_cast<int64_t>(out_stride), shape.rows, shape.cols});
      const std::vector<uint16_t> result = gpu.download(out);

      std::vector<Expected> expected;
      for (size_t i = 0; i < gate.size(); ++i) {
        double value = silu(static_cast<double>(gate[i])) * static_cast<double>(up[i]);
        if (type == Half::kFp16 && std::fabs(value) > 65504.0)
          value = std::copysign(INFINITY, value);
        expected.push_back({value, 1e-7});
      }
      const std::string where = describe("swiglu of ", shape.rows, " x ", shape.cols);
      check_rows(widen(result, type), out_stride, expected, cols, type, where);
      check_untouched(result, out_stride, cols, 0xabab, where);
    }
  }
}

TEST(a_bias_and_the_gelus_are_those_of_double_precision) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Shape& shape : kShapes) {
      for (const bool in_place : {false, true}) {
        check_bias(gpu, "bias", identity, type, shape, in_place);
        check_bias(gpu, "bias_quick_gelu", quick_gelu, type, shape, in_place);
        check_bias(gpu, "bias_gelu", gelu, type, shape, in_place);
      }
    }
  }
}

TEST(a_bias_is_added_to_rows_of_f32) {
  Gpu gpu;
  for (const Shape& shape : kShapes) {
    const auto cols = static_cast<size_t>(shape.cols);
    const size_t stride = cols + 4;
    const std::vector<float> x = random_values(static_cast<size_t>(shape.rows) * stride, 1);
    const std::vector<float> bias = random_values(cols, 2);
    const auto device_x = gpu.upload(x);
    const auto device_bias = gpu.upload(bias);
    const auto step = static_cast<int64_t>(stride);
    gpu.launch("bias_f32", {static_cast<unsigned>(bias_blocks(shape.rows, shape.cols))},
               {kActivationThreads}, 0,
               ActivationParams{device_x.get(), device_bias.get(), device_x.get(), step, step,
                                shape.rows, shape.cols});
    const std::vector<float> result = gpu.download(device_x);
    for (size_t i = 0; i < result.size(); ++i) {
      const size_t column = i % stride;
      CHECK_EQ(result[i], column < cols ? x[i] + bias[column] : x[i]);
    }
  }
}

TEST(an_activation_of_a_row_does_not_depend_on_the_other_rows) {
  Gpu gpu;
  // Rows of odd numbers of chunks, so that a row alone starts at another thread than among others.
  constexpr int kRows = 7, kCols = 520;
  const auto blocks = [](const std::string& base, int rows) {
    return static_cast<unsigned>(base == "swiglu" ? swiglu_blocks(rows, kCols)
                                                  : bias_blocks(rows, kCols));
  };
  const auto device_bias = gpu.upload(random_values(kCols, 2));
  for (const Half type : kHalves) {
    for (const std::string base : {"swiglu", "bias", "bias_quick_gelu", "bias_gelu"}) {
      const int x_cols = base == "swiglu" ? 2 * kCols : kCols;
      const auto x =
          gpu.upload(narrow(inputs(size_t{kRows} * static_cast<size_t>(x_cols), 1, type), type));
      const auto run = [&](int first, int rows) {
        const auto out = gpu.filled<uint16_t>(static_cast<size_t>(rows * kCols), 0xff);
        gpu.launch(kernel_name(base, type), {blocks(base, rows)}, {kActivationThreads}, 0,
                   ActivationParams{x.get() + first * x_cols, device_bias.get(), out.get(), x_cols,
                                    kCols, rows, kCols});
        return gpu.download(out);
      };
      const std::vector<uint16_t> all = run(0, kRows);
      for (int row = 0; row < kRows; ++row) {
        const std::vector<uint16_t> alone = run(row, 1);
        CHECK(std::equal(alone.begin(), alone.end(), all.begin() + row * kCols));
      }
    }
  }
}
