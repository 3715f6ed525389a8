#include "kernels/cuda/gemv_quantized.h"

#include <cmath>

#include "check.h"
#include "kernels/compare.h"
#include "kernels/quantized_products.h"

using namespace qvl;
using namespace qvl::test;
using cuda::QuantizedMatrixSpec;

namespace {

/// out [rows, out_features] F32 += W x, from zero.
std::vector<float> product(Gpu& gpu, const QuantizedWeights& weights, Half type,
                           const std::vector<uint16_t>& x, int rows, int staged_units = 0,
                           const int32_t* input_order = nullptr) {
  const QuantizedMatrixSpec& spec = weights.layout().spec();
  const auto device_x = gpu.upload(x);
  auto out = gpu.filled<float>(static_cast<size_t>(rows * spec.out_features), 0);
  QuantizedGemvKernelParams<ResidualEpilogue> params{};
  params.gemv.rows = rows;
  params.gemv.input_order = input_order;
  params.epilogue = {out.get(), spec.out_features};
  run_quantized(gpu, weights, "residual", type, device_x.get(), params, staged_units);
  return gpu.download(out);
}

/// What a published layer may look like: bits, groups, zero points, segments; widths and heights
/// that do and do not fill tiles.
const QuantizedMatrixSpec kMatrices[] = {
    {48, 256, 4, 32, false, 8},   {40, 576, 4, 32, true, 1},    {16, 640, 4, 128, true, 1},
    {72, 1024, 4, 128, false, 8}, {24, 384, 4, 64, true, 2},    {9, 1024, 4, 256, true, 4},
    {33, 192, 4, 0, true, 2},     {48, 256, 8, 32, true, 8},    {40, 576, 8, 128, false, 1},
    {16, 1024, 8, 128, true, 8},  {24, 384, 8, 64, false, 4},   {17, 1176, 8, 0, false, 1},
    {8, 29568, 4, 128, true, 1},  {8, 18944, 8, 128, false, 4}, {8, 8960, 4, 32, false, 8},
};

}  // namespace

TEST(every_weight_meets_the_input_of_its_column) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedMatrixSpec& spec : {QuantizedMatrixSpec{33, 320, 4, 32, true, 1},
                                            {33, 160, 8, 32, true, 1},
                                            {16, 256, 4, 128, true, 2},
                                            {16, 256, 8, 128, true, 2}}) {
      const QuantizedWeights weights(gpu, spec, 1);
      // Rows of x with a single 1 pick single weights, which the kernel gives exactly.
      for (int64_t first = 0; first < spec.in_features; first += kQuantizedGemvMaxRows) {
        std::vector<float> x(static_cast<size_t>(kQuantizedGemvMaxRows * spec.in_features));
        for (int64_t row = 0; row < kQuantizedGemvMaxRows; ++row) {
          x[static_cast<size_t>(row * spec.in_features + first + row)] = 1.f;
        }
        const auto out = product(gpu, weights, type, narrow(x, type), kQuantizedGemvMaxRows);
        for (int64_t row = 0; row < kQuantizedGemvMaxRows; ++row) {
          for (int64_t n = 0; n < spec.out_features; ++n) {
            CHECK_EQ(out[static_cast<size_t>(row * spec.out_features + n)],
                     weights.value(n, first + row));
          }
        }
      }
    }
  }
}

TEST(products_are_those_of_double_precision_and_the_same_for_any_rows) {
  Gpu gpu;
  uint32_t seed = 0;
  for (const QuantizedMatrixSpec& spec : kMatrices) {
    const QuantizedWeights weights(gpu, spec, ++seed);
    for (const Half type : kHalves) {
      const auto k = static_cast<size_t>(spec.in_features);
      const std::vector<uint16_t> x = narrow(random_values(8 * k, seed), type);
      const std::vector<float> wide = widen(x, type);
      const std::vector<float> out = product(gpu, weights, type, x, 8);
      const auto n = static_cast<size_t>(spec.out_features);
      for (size_t row = 0; row < 8; ++row) {
        for (size_t i = 0; i < n; ++i) {
          const auto exact = exact_product(weights, static_cast<int64_t>(i), &wide[row * k]);
          CHECK(std::fabs(static_cast<double>(out[row * n + i]) - exact.value) <= exact.tolerance);
        }
      }
      const auto check_part = [&](size_t first, size_t rows) {
        const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first * k);
        const std::vector<uint16_t> some(begin, begin + static_cast<std::ptrdiff_t>(rows * k));
        const std::vector<float> part = product(gpu, weights, type, some, static_cast<int>(rows));
        for (size_t i = 0; i < part.size(); ++i) CHECK_EQ(part[i], out[first * n + i]);
      };
      for (const size_t row : {size_t{0}, size_t{5}}) check_part(row, 1);
      // The widest matrices with fewer numbers of rows.
      for (size_t rows = 2; rows<8; rows += k> 4096 ? 3 : 1) check_part(0, rows);
    }
  }
}

TEST(staging_a_part_of_the_input_at_a_time_changes_no_bits) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const QuantizedCodes& codes : kQuantizedCodes) {
      // Wide enough for a warp to bring x to shared memory in two parts.
      constexpr int64_t kColumns = 4096;
      const QuantizedMatrixSpec spec{24, kColumns, codes.bits, codes.group, codes.bits == 4, 1};
      const QuantizedWeights weights(gpu, spec, 5);
      const auto x = narrow(random_values(static_cast<size_t>(2 * kColumns), 6), type);
      const std::vector<float> all = product(gpu, weights, type, x, 2);
      const std::vector<float> part = product(gpu, weights, type, x, 2, kQuantizedGemvAhead);
      for (size_t i = 0; i < all.size(); ++i) CHECK_EQ(part[i], all[i]);
    }
  }
}

TEST(an_order_of_inputs_is_followed) {
  Gpu gpu;
  const QuantizedMatrixSpec spec{24, 384, 4, 128, true, 1};
  const QuantizedWeights weights(gpu, spec, 7);
  std::vector<int32_t> order(384);
  for (int32_t k = 0; k < 384; ++k) order[static_cast<size_t>(k)] = k * 37 % 384;
  const auto device_order = gpu.upload(order);
  const std::vector<uint16_t> x = narrow(random_values(2 * 384, 8), Half::kFp16);
  std::vector<uint16_t> sorted(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    sorted[i] = x[i / 384 * 384 + static_cast<size_t>(order[i % 384])];
  }
  const auto expected = product(gpu, weights, Half::kFp16, sorted, 2);
  const auto actual = product(gpu, weights, Half::kFp16, x, 2, 0, device_order.get());
  for (size_t i = 0; i < actual.size(); ++i) CHECK_EQ(actual[i], expected[i]);
}

TEST(residual_is_added_to_and_nothing_else_written) {
  Gpu gpu;
  const QuantizedMatrixSpec spec{20, 256, 8, 32, false, 8};
  const QuantizedWeights weights(gpu, spec, 9);
  const auto x = gpu.upload(narrow(random_values(3 * 256, 10), Half::kBf16));
  const std::vector<float> before = random_values(3 * 24, 11);
  const auto out = gpu.upload(before);
  QuantizedGemvKernelParams<ResidualEpilogue> params{};
  params.gemv.rows = 2;
  params.epilogue = {out.get(), 24};
  run_quantized(gpu, weights, "residual", Half::kBf16, x.get(), params);
  const std::vector<float> after = gpu.download(out);
  const std::vector<float> wide = widen(gpu.download(x), Half::kBf16);
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t row = i / 24, n = i % 24;
    if (row >= 2 || n >= 20) {
      CHECK_EQ(after[i], before[i]);
      continue;
    }
    const auto exact = exact_product(weights, static_cast<int64_t>(n), &wide[row * 256]);
    const double expected = static_cast<double>(before[i]) + exact.value;
    CHECK(std::fabs(static_cast<double>(after[i]) - expected) <= exact.tolerance + 1e-5);
  }
}
