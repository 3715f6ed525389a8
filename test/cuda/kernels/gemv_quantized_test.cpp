#include "kernels/cuda/gemv_quantized.h"

#include <cmath>

#include "check.h"
#include "kernels/gpu.h"
#include "kernels/quantized_weights.h"

using namespace qvl;
using namespace qvl::test;
using cuda::QuantizedMatrixSpec;

namespace {

constexpr size_t kMaxShared = size_t{99} << 10;

std::vector<float> random_floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// Launches with what the host would choose, or with `staged_units` of x at a time.
template <class Epilogue>
void run(Gpu& gpu, const QuantizedWeights& weights, const std::string& variant, Half type,
         QuantizedGemvKernelParams<Epilogue> params, int staged_units = 0) {
  QuantizedGemvParams& p = params.gemv;
  p.matrix = weights.matrix();
  const auto launch = weights.layout().gemv_launch(p.rows, p.norm_weight != nullptr, kMaxShared,
                                                   gpu.num_multiprocessors());
  p.staged_units = staged_units == 0 ? launch.staged_units : staged_units;
  const int unit_columns = weights.layout().spec().bits == 4 ? 128 : 64;
  const auto shared =
      static_cast<size_t>(quantized_gemv_shared_bytes(p.staged_units, unit_columns, p.rows));
  gpu.launch(kernel_name(weights.kernel("gemv", variant), type), {launch.blocks},
             {kQuantizedGemvThreads}, shared, params);
}

/// out [rows, out_features] F32 += W x, from zero.
std::vector<float> product(Gpu& gpu, const QuantizedWeights& weights, Half type,
                           const std::vector<uint16_t>& x, int rows, int staged_units = 0,
                           const int32_t* input_order = nullptr) {
  const QuantizedMatrixSpec& spec = weights.layout().spec();
  const auto device_x = gpu.upload(x);
  auto out = gpu.filled<float>(static_cast<size_t>(rows * spec.out_features), 0);
  QuantizedGemvKernelParams<ResidualEpilogue> params{};
  params.gemv.x = device_x.get();
  params.gemv.x_stride = spec.in_features;
  params.gemv.rows = rows;
  params.gemv.input_order = input_order;
  params.epilogue = {out.get(), spec.out_features};
  run(gpu, weights, "residual", type, params, staged_units);
  return gpu.download(out);
}

double dot(const QuantizedWeights& weights, int64_t n, const float* x) {
  double sum = 0;
  for (int64_t k = 0; k < weights.layout().spec().in_features; ++k) {
    sum += static_cast<double>(weights.value(n, k)) * static_cast<double>(x[k]);
  }
  return sum;
}
/// What rounding each product's sum to F32 may cost.
double tolerance(const QuantizedWeights& weights, int64_t n, const float* x) {
  double sum = 0;
  for (int64_t k = 0; k < weights.layout().spec().in_features; ++k) {
    sum += std::fabs(static_cast<double>(weights.value(n, k)) * static_cast<double>(x[k]));
  }
  return sum * 0x1p-18;
}

/// x normalised as the kernel is asked to, rounded to W.
std::vector<float> normalized(const std::vector<float>& x, const std::vector<float>& weight,
                              float eps, Half type) {
  std::vector<float> out(x.size());
  const size_t cols = weight.size();
  for (size_t begin = 0; begin < x.size(); begin += cols) {
    double squares = 0;
    for (size_t k = 0; k < cols; ++k)
      squares += static_cast<double>(x[begin + k]) * static_cast<double>(x[begin + k]);
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(eps));
    for (size_t k = 0; k < cols; ++k) {
      const double value =
          static_cast<double>(x[begin + k]) * scale * static_cast<double>(weight[k]);
      out[begin + k] = widen(narrow(static_cast<float>(value), type), type);
    }
  }
  return out;
}
/// Sums of rounded inputs: an input that lay between two numbers of W may be the other one.
double normalized_tolerance(const QuantizedWeights& weights, int64_t n, const float* x, Half type) {
  return tolerance(weights, n, x) * (type == Half::kBf16 ? 0x1p7 : 0x1p4);
}

/// Every kernel of a variant: bits of a code, and groups as the layout keeps them.
struct Codes {
  int bits;
  int64_t group;
};
constexpr Codes kCodes[] = {{4, 32}, {4, 128}, {8, 32}, {8, 128}};
/// Wide enough for a warp to bring x to shared memory in two parts.
constexpr int64_t kWide = 4096;
/// Rows that are to be normalised. One number makes most of the sum of squares, and it belongs to a
/// lane that every exchange between lanes must bring along.
std::vector<float> rows_to_normalize(int rows, uint32_t seed) {
  std::vector<float> x = random_floats(static_cast<size_t>(rows * kWide), seed);
  for (int row = 0; row < rows; ++row) x[static_cast<size_t>(row * kWide + 31 * 4 + 1)] = 200.f;
  return x;
}
/// Units of x at a time: what the host would choose, and as few as there may be.
constexpr int kStagedUnits[] = {0, kQuantizedGemvAhead};

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
      const std::vector<uint16_t> x = narrow(random_floats(8 * k, seed), type);
      const std::vector<float> wide = widen(x, type);
      const std::vector<float> out = product(gpu, weights, type, x, 8);
      const auto n = static_cast<size_t>(spec.out_features);
      for (size_t row = 0; row < 8; ++row) {
        for (size_t i = 0; i < n; ++i) {
          const double expected = dot(weights, static_cast<int64_t>(i), &wide[row * k]);
          const double error = std::fabs(static_cast<double>(out[row * n + i]) - expected);
          CHECK(error <= tolerance(weights, static_cast<int64_t>(i), &wide[row * k]));
        }
      }
      for (const int rows : {1, 3}) {
        const std::vector<uint16_t> some(x.begin(), x.begin() + static_cast<int64_t>(k) * rows);
        const std::vector<float> few = product(gpu, weights, type, some, rows);
        for (size_t i = 0; i < few.size(); ++i) CHECK_EQ(few[i], out[i]);
      }
    }
  }
}

TEST(staging_a_part_of_the_input_at_a_time_changes_no_bits) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Codes& codes : kCodes) {
      const QuantizedMatrixSpec spec{24, kWide, codes.bits, codes.group, codes.bits == 4, 1};
      const QuantizedWeights weights(gpu, spec, 5);
      const auto x = narrow(random_floats(static_cast<size_t>(2 * kWide), 6), type);
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
  const std::vector<uint16_t> x = narrow(random_floats(2 * 384, 8), Half::kFp16);
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
  const auto x = gpu.upload(narrow(random_floats(3 * 256, 10), Half::kBf16));
  const std::vector<float> before = random_floats(3 * 24, 11);
  const auto out = gpu.upload(before);
  QuantizedGemvKernelParams<ResidualEpilogue> params{};
  params.gemv.x = x.get();
  params.gemv.x_stride = 256;
  params.gemv.rows = 2;
  params.epilogue = {out.get(), 24};
  run(gpu, weights, "residual", Half::kBf16, params);
  const std::vector<float> after = gpu.download(out);
  const std::vector<float> wide = widen(gpu.download(x), Half::kBf16);
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t row = i / 24, n = i % 24;
    if (row >= 2 || n >= 20) {
      CHECK_EQ(after[i], before[i]);
      continue;
    }
    const double expected =
        static_cast<double>(before[i]) + dot(weights, static_cast<int64_t>(n), &wide[row * 256]);
    CHECK(std::fabs(static_cast<double>(after[i]) - expected) <=
          tolerance(weights, static_cast<int64_t>(n), &wide[row * 256]) + 1e-5);
  }
}

/// Logits, and sums that are added to, of normalised rows.
template <class Epilogue>
void check_normalized_product(Gpu& gpu, const std::string& variant, const Codes& codes, Half type,
                              int staged_units) {
  const QuantizedMatrixSpec spec{20, kWide, codes.bits, codes.group, false, 1};
  const QuantizedWeights weights(gpu, spec, 12);
  const std::vector<float> x = rows_to_normalize(3, 13), norm = random_floats(kWide, 14);
  const auto device_x = gpu.upload(x), device_norm = gpu.upload(norm);
  auto out = gpu.filled<float>(3 * 20, 0);
  QuantizedGemvKernelParams<Epilogue> params{};
  params.gemv.x = device_x.get();
  params.gemv.norm_weight = device_norm.get();
  params.gemv.x_stride = kWide;
  params.gemv.rows = 3;
  params.gemv.eps = 1e-6f;
  params.epilogue = {out.get(), 20};
  run(gpu, weights, variant, type, params, staged_units);
  const std::vector<float> n = normalized(x, norm, 1e-6f, type);
  const std::vector<float> actual = gpu.download(out);
  for (size_t i = 0; i < actual.size(); ++i) {
    const auto column = static_cast<int64_t>(i % 20);
    const float* row = &n[i / 20 * static_cast<size_t>(kWide)];
    CHECK(std::fabs(static_cast<double>(actual[i]) - dot(weights, column, row)) <=
          normalized_tolerance(weights, column, row, type));
  }
}

TEST(logits_are_products_of_the_normalised_row) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Codes& codes : kCodes) {
      for (const int staged : kStagedUnits) {
        check_normalized_product<LogitsEpilogue>(gpu, "logits", codes, type, staged);
      }
    }
  }
}

TEST(a_residual_may_be_of_normalised_rows) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Codes& codes : kCodes) {
      check_normalized_product<ResidualEpilogue>(gpu, "residual", codes, type, 0);
    }
  }
}

void check_swiglu(Gpu& gpu, const Codes& codes, int64_t inner, Half type, int staged_units) {
  QuantizedMatrixSpec spec{2 * inner, kWide, codes.bits, codes.group, true, 1};
  spec.pair_distance = inner;
  const QuantizedWeights weights(gpu, spec, 15);
  const std::vector<float> x = rows_to_normalize(3, 16), norm(kWide, 0.0125f);
  const auto device_x = gpu.upload(x), device_norm = gpu.upload(norm);
  auto out = gpu.filled<uint16_t>(static_cast<size_t>(3 * inner), 0xff);
  QuantizedGemvKernelParams<SwiGluEpilogue> params{};
  params.gemv.x = device_x.get();
  params.gemv.norm_weight = device_norm.get();
  params.gemv.x_stride = kWide;
  params.gemv.rows = 3;
  params.gemv.eps = 1e-6f;
  params.epilogue = {out.get(), inner};
  run(gpu, weights, "swiglu", type, params, staged_units);
  const std::vector<float> n = normalized(x, norm, 1e-6f, type);
  const std::vector<float> actual = widen(gpu.download(out), type);
  for (size_t i = 0; i < actual.size(); ++i) {
    const auto column = static_cast<int64_t>(i) % inner;
    const float* row = &n[i / static_cast<size_t>(inner) * static_cast<size_t>(kWide)];
    const double gate = dot(weights, column, row), up = dot(weights, column + inner, row);
    const double expected = gate / (1 + std::exp(-gate)) * up;
    const double slack =
        normalized_tolerance(weights, column, row, type) * (std::fabs(up) + 1) +
        normalized_tolerance(weights, column + inner, row, type) * (std::fabs(gate) + 1);
    CHECK(std::fabs(static_cast<double>(actual[i]) - expected) <=
          slack + std::fabs(expected) * 0x1p-7);
  }
}

TEST(swiglu_pairs_a_gate_with_what_it_lets_through) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Codes& codes : kCodes) {
      check_swiglu(gpu, codes, 36, type, 0);
      check_swiglu(gpu, codes, 8, type, kQuantizedGemvAhead);
    }
  }
}

void check_qkv(Gpu& gpu, const Codes& codes, int32_t head_dim, Half type, int staged_units) {
  const int32_t heads = 3, kv_heads = 2, half = head_dim / 2;
  const int64_t out_features = (heads + 2 * kv_heads) * head_dim;
  QuantizedMatrixSpec spec{out_features, kWide, codes.bits, codes.group, false, 1};
  spec.pair_distance = half;
  const QuantizedWeights weights(gpu, spec, 17);
  // Two sequences: a token at position 33, in the second block; two at positions 0 and 1.
  const auto first_row = gpu.upload<int32_t>({0, 1}), num_tokens = gpu.upload<int32_t>({1, 2});
  const auto num_cached = gpu.upload<int32_t>({33, 0});
  const auto block_table = gpu.upload<int32_t>({3, 1, 2, -1});
  const auto row_sequence = gpu.upload<int32_t>({0, 1, 1});
  const int place[3] = {1 * kKvTokens + 1, 2 * kKvTokens, 2 * kKvTokens + 1};  // block, token

  const std::vector<float> x = rows_to_normalize(3, 18), norm(kWide, 0.025f);
  const std::vector<float> bias = random_floats(static_cast<size_t>(out_features), 19);
  const std::vector<float> angles = random_floats(static_cast<size_t>(3 * half), 20);
  std::vector<float> cos, sin;
  for (const float angle : angles) cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
  const auto device_x = gpu.upload(x), device_norm = gpu.upload(norm);
  const auto device_bias = gpu.upload(bias), device_cos = gpu.upload(cos),
             device_sin = gpu.upload(sin);
  auto q = gpu.filled<uint16_t>(static_cast<size_t>(3 * heads * head_dim), 0xff);
  const auto cache_size = static_cast<size_t>(4 * kv_heads * 2 * kKvTokens * head_dim);
  auto cache = gpu.filled<uint16_t>(cache_size, 0xab);

  QuantizedGemvKernelParams<QkvEpilogue> params{};
  params.gemv.x = device_x.get();
  params.gemv.norm_weight = device_norm.get();
  params.gemv.x_stride = kWide;
  params.gemv.rows = 3;
  params.gemv.eps = 1e-6f;
  QkvEpilogue& e = params.epilogue;
  e.bias = device_bias.get();
  e.cos = device_cos.get();
  e.sin = device_sin.get();
  e.q = q.get();
  e.cache = cache.get();
  e.sequences = {first_row.get(),   num_tokens.get(),   num_cached.get(),
                 block_table.get(), row_sequence.get(), 2};
  e.q_stride = heads * head_dim;
  e.table_stride = half;
  e.heads = heads;
  e.kv_heads = kv_heads;
  e.head_dim = head_dim;
  run(gpu, weights, "qkv", type, params, staged_units);

  const std::vector<float> n = normalized(x, norm, 1e-6f, type);
  const std::vector<uint16_t> cached = gpu.download(cache), queries = gpu.download(q);
  size_t written = 0;
  for (const uint16_t bits : cached) written += bits != 0xabab;
  CHECK(written >= 3 * 2 * static_cast<size_t>(kv_heads * head_dim) - 2);
  CHECK(written <= 3 * 2 * static_cast<size_t>(kv_heads * head_dim));
  for (int row = 0; row < 3; ++row) {
    const float* in = &n[static_cast<size_t>(row * kWide)];
    for (int head = 0; head < heads + 2 * kv_heads; ++head) {
      for (int i = 0; i < head_dim; ++i) {
        const auto sum = [&](int at) {
          const int column = head * head_dim + at;
          return dot(weights, column, in) + static_cast<double>(bias[static_cast<size_t>(column)]);
        };
        double expected = sum(i);
        if (head < heads + kv_heads) {
          const auto angle = static_cast<size_t>(row * half + i % half);
          const double other = i < half ? -sum(i + half) : sum(i - half);
          expected =
              expected * static_cast<double>(cos[angle]) + other * static_cast<double>(sin[angle]);
        }
        size_t at = static_cast<size_t>((row * heads + head) * head_dim + i);
        if (head >= heads) {
          const int kind = head < heads + kv_heads ? 0 : 1;
          const int kv_head = (head - heads) % kv_heads;
          const int block = place[row] / kKvTokens, token = place[row] % kKvTokens;
          at = static_cast<size_t>(
              (((block * kv_heads + kv_head) * 2 + kind) * kKvTokens + token) * head_dim + i);
        }
        const float actual = widen(head < heads ? queries[at] : cached[at], type);
        const int column = head * head_dim + i;
        const int pair = head * head_dim + (i + half) % head_dim;
        CHECK(std::fabs(static_cast<double>(actual) - expected) <=
              normalized_tolerance(weights, column, in, type) +
                  normalized_tolerance(weights, pair, in, type) +
                  std::fabs(expected) * (type == Half::kBf16 ? 0x1p-7 : 0x1p-10));
      }
    }
  }
}

TEST(qkv_is_biased_rotated_and_appended) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Codes& codes : kCodes) {
      check_qkv(gpu, codes, 32, type, kQuantizedGemvAhead);
    }
  }
  check_qkv(gpu, {8, 128}, 128, Half::kFp16, 0);
  check_qkv(gpu, {4, 128}, 128, Half::kBf16, 0);
}
