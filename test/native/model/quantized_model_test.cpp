// Whole models that are stored quantised, and the matrices of one's own that become so.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "check.h"
#include "common/half.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"
#include "model/quantize_matrix.h"

namespace qvl::test {
namespace {

using Method = StoredQuantization::Method;

constexpr StoredQuantization kAwq{Method::kAwq, 4, 32, false};
constexpr StoredQuantization kGptq{Method::kGptq, 8, 32, true};

std::string module_of(const std::string& name) { return name.substr(0, name.size() - 7); }

bool is_quantized(const std::string& name) {
  return name.starts_with("model.layers.") && name.ends_with("_proj.weight");
}

template <class Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

/// The number of output n and input k, from the definitions of the formats.
float number_of(const QuantizedMatrix& matrix, const StoredQuantization& format, int64_t out,
                int64_t n, int64_t k) {
  constexpr int kAwqNibble[] = {0, 4, 1, 5, 2, 6, 3, 7};
  const int64_t group = k / format.group_size;
  const float scale = f16_to_f32(matrix.scales[static_cast<size_t>(group * out + n)]);
  if (format.method == Method::kAwq) {
    const int shift = 4 * kAwqNibble[n % 8];
    const uint32_t code = matrix.qweight[static_cast<size_t>((k * out + n) / 8)] >> shift & 15;
    const uint32_t zero = matrix.qzeros[static_cast<size_t>((group * out + n) / 8)] >> shift & 15;
    return (static_cast<float>(code) - static_cast<float>(zero)) * scale;
  }
  const uint32_t code = matrix.qweight[static_cast<size_t>(k / 4 * out + n)] >> (k % 4 * 8) & 255;
  const uint32_t stored =
      matrix.qzeros[static_cast<size_t>((group * out + n) / 4)] >> (n % 4 * 8) & 255;
  return (static_cast<float>(code) - static_cast<float>((stored + 1) & 255)) * scale;
}

/// The tiny model stored quantised, and the same numbers in fp32.
struct Pair {
  std::vector<StoredTensor> stored;
  std::vector<StoredTensor> plain;
};

Pair make_pair_of(const StoredQuantization& format, const ModelConfig& config = tiny_config(),
                  const std::function<bool(const std::string&)>& chosen = is_quantized) {
  Pair pair;
  for (const StoredTensor& tensor : formula_tensors(config)) {
    if (!chosen(tensor.name)) {
      pair.stored.push_back(tensor);
      pair.plain.push_back(tensor);
      continue;
    }
    const int64_t out = tensor.shape[0];
    const int64_t in = tensor.shape[1];
    const QuantizedMatrix matrix =
        quantize_matrix(tensor.bytes.data(), DType::kF32, out, in, format);
    const std::string module = module_of(tensor.name);
    const bool is_awq = format.method == Method::kAwq;
    const int64_t per_word = 32 / format.bits;
    pair.stored.push_back({module + ".qweight", "I32",
                           is_awq ? std::vector{in, out / 8} : std::vector{in / per_word, out},
                           bytes_of(matrix.qweight)});
    pair.stored.push_back(
        {module + ".qzeros", "I32", {in / 32, out / per_word}, bytes_of(matrix.qzeros)});
    pair.stored.push_back({module + ".scales", "F16", {in / 32, out}, bytes_of(matrix.scales)});
    StoredTensor plain = tensor;
    plain.bytes.clear();
    for (int64_t n = 0; n < out; ++n) {
      for (int64_t k = 0; k < in; ++k) {
        plain.bytes += to_bytes(number_of(matrix, format, out, n, k), "F32");
      }
    }
    pair.plain.push_back(std::move(plain));
  }
  return pair;
}

ModelConfig config_with(const StoredQuantization& format) {
  ModelConfig config = tiny_config();
  config.stored_quantization = format;
  return config;
}

std::vector<float> logits_of(Model& model) {
  const Prompt prompt{{5, 6, 7, 8, 9, 1, 2, 3, 4, 10, 20, 30, 40, 50}, {}};
  Sequence sequence(model, prompt, scattered_blocks(0, 4));
  return prefill(model, sequence);
}

TEST(logits_are_those_of_the_model_with_dequantised_weights) {
  for (const StoredQuantization& format : {kAwq, kGptq}) {
    const Pair pair = make_pair_of(format);
    const auto stored = load_model(pair.stored, config_with(format));
    const auto plain = load_model(pair.plain, tiny_config());
    const std::vector<float> found = logits_of(*stored);
    const std::vector<float> expected = logits_of(*plain);
    // Sums over inputs have other segments, no more.
    CHECK_CLOSE(found.data(), expected.data(), expected.size(), 1e-5);
  }
}

// Some quantisers take the head too; others leave layers out, which their names say.
TEST(any_matrix_may_be_stored_quantised_and_any_layer_not) {
  ModelConfig config = tiny_config();
  config.tie_word_embeddings = false;
  const Pair pair = make_pair_of(kGptq, config, [](const std::string& name) {
    return name == "lm_head.weight" || name == "visual.merger.mlp.0.weight" ||
           (name.starts_with("model.layers.1.") && is_quantized(name));
  });
  CHECK(pair.stored.size() > pair.plain.size());
  ModelConfig stored_config = config;
  stored_config.stored_quantization = kGptq;
  const std::vector<float> found = logits_of(*load_model(pair.stored, stored_config));
  const std::vector<float> expected = logits_of(*load_model(pair.plain, config));
  CHECK_CLOSE(found.data(), expected.data(), expected.size(), 1e-5);
}

StoredTensor bias_of(const std::string& name, int64_t size, float value) {
  StoredTensor tensor{name, "F32", {size}, {}};
  for (int64_t i = 0; i < size; ++i) {
    tensor.bytes += to_bytes(value * static_cast<float>(i % 5), "F32");
  }
  return tensor;
}

/// Biases of the layers for which published models have none, but quantisers make room.
void add_biases(std::vector<StoredTensor>& tensors, float value) {
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string name(layer);
    tensors.push_back(bias_of(name + "self_attn.o_proj.bias", 64, value));
    tensors.push_back(bias_of(name + "mlp.up_proj.bias", 96, value));
    tensors.push_back(bias_of(name + "mlp.down_proj.bias", 64, value));
  }
}

TEST(biases_of_any_layer_are_added_and_missing_ones_are_zeros) {
  Pair pair = make_pair_of(kAwq);
  const std::vector<float> without = logits_of(*load_model(pair.stored, config_with(kAwq)));
  std::vector<StoredTensor> zeros = pair.stored;
  add_biases(zeros, 0.0f);
  CHECK(logits_of(*load_model(zeros, config_with(kAwq))) == without);
  add_biases(pair.stored, 0.125f);
  add_biases(pair.plain, 0.125f);
  const std::vector<float> found = logits_of(*load_model(pair.stored, config_with(kAwq)));
  const std::vector<float> expected = logits_of(*load_model(pair.plain, tiny_config()));
  CHECK(found != without);
  CHECK_CLOSE(found.data(), expected.data(), expected.size(), 1e-5);
}

TEST(biases_that_every_model_has_must_be_there) {
  Pair pair = make_pair_of(kGptq);
  std::erase_if(pair.stored, [](const StoredTensor& tensor) {
    return tensor.name == "model.layers.1.self_attn.k_proj.bias";
  });
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_MISSING_TENSOR", load_model(pair.stored, config_with(kGptq)));
  CHECK(message.find("k_proj.bias") != std::string::npos);
}

TEST(quantised_tensors_need_a_configuration_that_says_how) {
  const Pair pair = make_pair_of(kAwq);
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED", load_model(pair.stored, tiny_config()));
  CHECK(message.find("quantize_config.json") != std::string::npos);
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", load_model(pair.stored, config_with(kGptq)));
}

TEST(a_configuration_of_quantisation_over_plain_tensors_changes_nothing) {
  const Pair pair = make_pair_of(kAwq);
  CHECK(logits_of(*load_model(pair.plain, config_with(kAwq))) ==
        logits_of(*load_model(pair.plain, tiny_config())));
}

TEST(checking_finds_what_loading_finds) {
  Pair pair = make_pair_of(kGptq);
  const TempFolder folder;
  write_safetensors(folder.path("good"), pair.stored);
  check_qwen2_vl(*Checkpoint::open({folder.path("good")}), config_with(kGptq));
  const WeightSizes sizes =
      measure_weights(*Checkpoint::open({folder.path("good")}), kGptq, ModelOptions{});
  int64_t numbers = 0;
  for (const StoredTensor& tensor : pair.plain) {
    numbers += static_cast<int64_t>(tensor.bytes.size()) / 4;
  }
  CHECK_EQ(sizes.num_parameters, numbers);
  std::erase_if(pair.stored, [](const StoredTensor& tensor) {
    return tensor.name == "model.layers.0.mlp.up_proj.scales";
  });
  write_safetensors(folder.path("bad"), pair.stored);
  CHECK_ERROR("ERR_CHECKPOINT_MISSING_TENSOR",
              check_qwen2_vl(*Checkpoint::open({folder.path("bad")}), config_with(kGptq)));
}

// ---- rounding ----

/// Bell-shaped, as trained weights are.
std::vector<float> bell_shaped(size_t count) {
  std::vector<float> values(count);
  uint32_t x = 1;
  for (float& value : values) {
    for (int i = 0; i < 8; ++i) {
      x = x * 1664525u + 1013904223u;
      value += static_cast<float>(x >> 8) * 0x1p-24f - 0.5f;
    }
  }
  return values;
}

TEST(eight_bits_are_off_by_half_a_step_at_most) {
  constexpr int64_t kOut = 136;
  constexpr int64_t kIn = 96;
  const std::vector<float> rows = bell_shaped(kOut * kIn);
  const QuantizedMatrix matrix = quantize_matrix(rows.data(), DType::kF32, kOut, kIn, kGptq);
  for (int64_t n = 0; n < kOut; ++n) {
    for (int64_t k = 0; k < kIn; ++k) {
      const float step = f16_to_f32(matrix.scales[static_cast<size_t>(k / 32 * kOut + n)]);
      const float found = number_of(matrix, kGptq, kOut, n, k);
      // The largest number has no code where the scale was rounded down.
      CHECK(std::fabs(found - rows[static_cast<size_t>(n * kIn + k)]) <= 0.6f * step);
    }
  }
}

// Steps from the least to the greatest number of a group make errors of 0.29 steps.
TEST(four_bits_lose_less_than_steps_over_the_whole_range) {
  constexpr int64_t kOut = 136;
  constexpr int64_t kIn = 256;
  constexpr int64_t kGroup = 128;
  constexpr StoredQuantization kFormat{Method::kAwq, 4, kGroup, false};
  const std::vector<float> rows = bell_shaped(kOut * kIn);
  const QuantizedMatrix matrix = quantize_matrix(rows.data(), DType::kF32, kOut, kIn, kFormat);
  double error = 0;
  double expected = 0;
  for (int64_t n = 0; n < kOut; ++n) {
    for (int64_t first = 0; first < kIn; first += kGroup) {
      const auto [least, greatest] =
          std::minmax_element(&rows[static_cast<size_t>(n * kIn + first)],
                              &rows[static_cast<size_t>(n * kIn + first)] + kGroup);
      const double step = (static_cast<double>(*greatest) - *least) / 15;
      expected += kGroup * step * step / 12;
      for (int64_t k = first; k < first + kGroup; ++k) {
        const double off = static_cast<double>(number_of(matrix, kFormat, kOut, n, k)) -
                           rows[static_cast<size_t>(n * kIn + k)];
        error += off * off;
      }
    }
  }
  CHECK(error > 0.5 * expected && error < 0.95 * expected);
}

TEST(groups_of_zeros_are_zeros_with_a_scale_that_is_not) {
  const std::vector<float> rows(8 * 32);
  for (const StoredQuantization& format : {kAwq, kGptq}) {
    const QuantizedMatrix matrix = quantize_matrix(rows.data(), DType::kF32, 8, 32, format);
    for (int64_t n = 0; n < 8; ++n) {
      CHECK(f16_to_f32(matrix.scales[static_cast<size_t>(n)]) > 0);
      for (int64_t k = 0; k < 32; ++k) CHECK_EQ(number_of(matrix, format, 8, n, k), 0.0f);
    }
  }
}

TEST(numbers_that_are_not_finite_are_refused) {
  for (const float wrong : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> rows(8 * 32, 0.5f);
    rows[3 * 32 + 7] = wrong;
    const std::string message = CHECK_ERROR(
        "ERR_CHECKPOINT_QUANTIZATION", quantize_matrix(rows.data(), DType::kF32, 8, 32, kGptq));
    CHECK(message.find("row 3") != std::string::npos);
  }
}

TEST(all_half_precision_numbers_go_to_fp32_and_back) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0) continue;  // NaN
    CHECK_EQ(f32_to_f16(f16_to_f32(static_cast<uint16_t>(half))), half);
  }
  CHECK_EQ(f32_to_f16(65519.0f), 0x7bff);
  CHECK_EQ(f32_to_f16(65520.0f), 0x7c00);
  CHECK_EQ(f32_to_f16(0x1p-25f), 0);    // half of the smallest, to even
  CHECK_EQ(f32_to_f16(0x1.8p-24f), 2);  // likewise
  CHECK_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
  CHECK_EQ(f32_to_f16(1.0f + 0x1.8p-10f), 0x3c02);
}

}  // namespace
}  // namespace qvl::test
