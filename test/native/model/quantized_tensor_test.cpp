// Matrices that are stored quantised: recorded layers of every format and option, stacked and
// reordered ones, and damaged ones.

#include "model/quantized_tensor.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>

#include "backend/cpu/cpu_backend.h"
#include "check.h"
#include "model/formula_checkpoint.h"
#include "model/recorded_layers.h"
#include "model/weight_loader.h"

namespace qvl::test {
namespace {

using Method = StoredQuantization::Method;

/// All rows of a weight.
std::vector<float> rows_of(Backend& backend, const Weight& weight) {
  const int64_t rows = weight.spec().out_features;
  const int64_t cols = weight.spec().in_features;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (int32_t i = 0; i < rows; ++i) ids[static_cast<size_t>(i)] = i;
  backend.embed({values.data(), rows, cols, cols}, weight, ids);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(recorded_layers_have_the_numbers_of_the_reference_bit_for_bit) {
  const auto checkpoint = Checkpoint::open({recorded_quantized("layers.safetensors")});
  const auto backend = create_cpu_backend({2, ""});
  CHECK_EQ(recorded_layers().size(), size_t{19});
  for (const RecordedLayer& layer : recorded_layers()) {
    const ModelOptions options;
    WeightLoader loader(*checkpoint, *backend, options, nullptr, layer.format);
    const auto weight =
        loader.matrix({{layer.name + ".weight", {layer.out_features, layer.in_features}}});
    loader.run({}, nullptr);
    CHECK_EQ(weight->spec().quantization.bits, layer.format.bits);
    CHECK_EQ(weight->spec().quantization.has_zeros, layer.has_zeros);
    CHECK_EQ(weight->spec().input_order.empty(), layer.name.find("act") == std::string::npos);
    const std::vector<float> expected = read_floats(*checkpoint, layer.name + ".matrix");
    CHECK(same_bits(rows_of(*backend, *weight), expected));
  }
}

TEST(products_are_the_recorded_ones) {
  const auto checkpoint = Checkpoint::open({recorded_quantized("layers.safetensors")});
  const auto backend = create_cpu_backend({2, ""});
  for (const RecordedLayer& layer : recorded_layers()) {
    for (const bool int8_activations : {false, true}) {
      ModelOptions options;
      options.quantization.int8_activations = int8_activations;
      WeightLoader loader(*checkpoint, *backend, options, nullptr, layer.format);
      const auto weight =
          loader.matrix({{layer.name + ".weight", {layer.out_features, layer.in_features}}}, 8);
      loader.run({}, nullptr);
      std::vector<float> x = read_floats(*checkpoint, layer.name + ".x");
      const std::vector<float> y = read_floats(*checkpoint, layer.name + ".y");
      std::vector<float> out(y.size());
      backend->linear({out.data(), 2, layer.out_features, layer.out_features},
                      {x.data(), 2, layer.in_features, layer.in_features}, *weight, {});
      // Activations in 8 bits err by up to 1/254 of their block's largest.
      CHECK_CLOSE(out.data(), y.data(), y.size(),
                  int8_activations ? 0.5 * layer.format.bits : 1e-3);
    }
  }
}

// ---- layers of any size ----

uint32_t random_word(uint32_t index) {
  uint32_t x = index * 2654435761u + 12345u;
  x ^= x >> 15;
  x *= 2246822519u;
  return x ^ x >> 13;
}

StoredTensor random_words(const std::string& name, std::vector<int64_t> shape, uint32_t seed) {
  StoredTensor tensor{name, "I32", std::move(shape), {}};
  const auto count = static_cast<uint32_t>(tensor.shape[0] * tensor.shape[1]);
  std::vector<uint32_t> words(count);
  for (uint32_t i = 0; i < count; ++i) words[i] = random_word(seed + i);
  tensor.bytes.assign(reinterpret_cast<const char*>(words.data()), 4 * words.size());
  return tensor;
}

StoredTensor scales(const std::string& name, std::vector<int64_t> shape) {
  StoredTensor tensor{name, "F16", std::move(shape), {}};
  for (int64_t i = 0; i < tensor.shape[0] * tensor.shape[1]; ++i) {
    tensor.bytes += to_bytes(static_cast<float>(i % 61 + 1) / 1024.0f, "F16");
  }
  return tensor;
}

StoredTensor integers(const std::string& name, const std::vector<int32_t>& values) {
  StoredTensor tensor{name, "I32", {static_cast<int64_t>(values.size())}, {}};
  tensor.bytes.assign(reinterpret_cast<const char*>(values.data()), 4 * values.size());
  return tensor;
}

/// GPTQ in 4 bits with groups of 128.
constexpr StoredQuantization kGptq{Method::kGptq, 4, 128, true};

std::vector<StoredTensor> gptq_layer(const std::string& name, int64_t out, int64_t in,
                                     uint32_t seed, int64_t group = 128) {
  const int64_t groups = (in + group - 1) / group;
  return {random_words(name + ".qweight", {in / 8, out}, seed),
          random_words(name + ".qzeros", {groups, out / 8}, seed + 7),
          scales(name + ".scales", {groups, out})};
}

const StoredTensor& tensor_of(const std::vector<StoredTensor>& tensors, const std::string& name) {
  return *std::find_if(tensors.begin(), tensors.end(),
                       [&](const StoredTensor& tensor) { return tensor.name == name; });
}

/// Words of a tensor.
std::vector<uint32_t> words_of(const StoredTensor& tensor) {
  std::vector<uint32_t> words(tensor.bytes.size() / 4);
  std::memcpy(words.data(), tensor.bytes.data(), tensor.bytes.size());
  return words;
}

/// Row by row the numbers of a GPTQ layer in 4 bits, from the definition.
std::vector<float> dequantized(const std::vector<StoredTensor>& tensors, const std::string& name,
                               int64_t out, int64_t in, const std::vector<int32_t>& g_idx) {
  const std::vector<uint32_t> codes = words_of(tensor_of(tensors, name + ".qweight"));
  const std::vector<uint32_t> zeros = words_of(tensor_of(tensors, name + ".qzeros"));
  std::vector<float> values;
  for (int64_t n = 0; n < out; ++n) {
    for (int64_t k = 0; k < in; ++k) {
      const int64_t g = g_idx[static_cast<size_t>(k)];
      const uint32_t code = codes[static_cast<size_t>(k / 8 * out + n)] >> (k % 8 * 4) & 15;
      const uint32_t stored = zeros[static_cast<size_t>((g * out + n) / 8)] >> (n % 8 * 4) & 15;
      const float scale = static_cast<float>((g * out + n) % 61 + 1) / 1024.0f;
      values.push_back(
          static_cast<float>(static_cast<int>(code) - static_cast<int>((stored + 1) & 15)) * scale);
    }
  }
  return values;
}

std::vector<int32_t> groups_in_order(int64_t in, int64_t group) {
  std::vector<int32_t> g_idx;
  for (int64_t k = 0; k < in; ++k) g_idx.push_back(static_cast<int32_t>(k / group));
  return g_idx;
}

/// In the order that a permutation of the inputs makes of it.
std::vector<int32_t> shuffled(std::vector<int32_t> g_idx) {
  for (size_t i = g_idx.size() - 1; i > 0; --i) {
    std::swap(g_idx[i], g_idx[random_word(static_cast<uint32_t>(i)) % (i + 1)]);
  }
  return g_idx;
}

struct Loaded {
  std::shared_ptr<Backend> backend;
  std::unique_ptr<Weight> weight;
};

Loaded load(const std::vector<StoredTensor>& tensors, const std::vector<TensorPart>& parts,
            const StoredQuantization& format = kGptq, int threads = 2,
            const std::function<void(const LoadProgress&)>& progress = {},
            const CancellationFlag* cancellation = nullptr, const ModelOptions& options = {}) {
  const TempFolder folder;
  write_safetensors(folder.path("m.safetensors"), tensors);
  const auto checkpoint = Checkpoint::open({folder.path("m.safetensors")});
  std::shared_ptr<Backend> backend = create_cpu_backend({threads, ""});
  WeightLoader loader(*checkpoint, *backend, options, nullptr, format);
  auto weight = loader.matrix(parts);
  loader.run(progress, cancellation);
  return {backend, std::move(weight)};
}

TEST(matrices_of_many_parts_and_groups_are_stacked_by_any_number_of_threads) {
  constexpr int64_t kIn = 4096;
  std::vector<StoredTensor> tensors = gptq_layer("q", 1544, kIn, 1);
  for (const StoredTensor& tensor : gptq_layer("k", 40, kIn, 2)) tensors.push_back(tensor);
  for (const StoredTensor& tensor : gptq_layer("v", 72, kIn, 3)) tensors.push_back(tensor);
  const std::vector<int32_t> g_idx = groups_in_order(kIn, 128);
  std::vector<float> expected = dequantized(tensors, "q", 1544, kIn, g_idx);
  for (const auto& [name, out] : {std::pair{"k", 40}, {"v", 72}}) {
    const std::vector<float> part = dequantized(tensors, name, out, kIn, g_idx);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  for (const int threads : {1, 3}) {
    const Loaded loaded =
        load(tensors, {{"q.weight", {1544, kIn}}, {"k.weight", {40, kIn}}, {"v.weight", {72, kIn}}},
             kGptq, threads);
    CHECK(same_bits(rows_of(*loaded.backend, *loaded.weight), expected));
  }
}

TEST(inputs_in_another_order_are_sorted_into_their_groups) {
  constexpr int64_t kIn = 328;  // a last group of 72
  const std::vector<int32_t> g_idx = shuffled(groups_in_order(kIn, 128));
  std::vector<StoredTensor> tensors = gptq_layer("gate", 1048, kIn, 5);
  for (const StoredTensor& tensor : gptq_layer("up", 40, kIn, 6)) tensors.push_back(tensor);
  for (const char* name : {"gate.g_idx", "up.g_idx"}) tensors.push_back(integers(name, g_idx));
  std::vector<float> expected = dequantized(tensors, "gate", 1048, kIn, g_idx);
  const std::vector<float> up = dequantized(tensors, "up", 40, kIn, g_idx);
  expected.insert(expected.end(), up.begin(), up.end());
  for (const int threads : {1, 3}) {
    const Loaded loaded =
        load(tensors, {{"gate.weight", {1048, kIn}}, {"up.weight", {40, kIn}}}, kGptq, threads);
    CHECK(same_bits(rows_of(*loaded.backend, *loaded.weight), expected));
  }
}

TEST(groups_too_large_to_be_read_at_once_are_read_for_some_outputs_at_a_time) {
  constexpr int64_t kIn = 8192;
  constexpr int64_t kOut = 1056;
  const std::vector<StoredTensor> tensors = gptq_layer("m", kOut, kIn, 9, kIn);
  const Loaded loaded = load(tensors, {{"m.weight", {kOut, kIn}}}, {Method::kGptq, 4, 0, true});
  CHECK(same_bits(rows_of(*loaded.backend, *loaded.weight),
                  dequantized(tensors, "m", kOut, kIn, groups_in_order(kIn, kIn))));
}

TEST(parts_with_and_without_zero_points_are_stacked) {
  std::vector<StoredTensor> tensors = gptq_layer("q", 40, 128, 1);
  std::vector<StoredTensor> symmetric = gptq_layer("k", 24, 128, 2);
  symmetric[1].bytes.assign(symmetric[1].bytes.size(), '\x77');
  tensors.insert(tensors.end(), symmetric.begin(), symmetric.end());
  const std::vector<int32_t> g_idx = groups_in_order(128, 128);
  std::vector<float> expected = dequantized(tensors, "q", 40, 128, g_idx);
  const std::vector<float> second = dequantized(tensors, "k", 24, 128, g_idx);
  expected.insert(expected.end(), second.begin(), second.end());
  const Loaded loaded = load(tensors, {{"q.weight", {40, 128}}, {"k.weight", {24, 128}}});
  CHECK(loaded.weight->spec().quantization.has_zeros);
  CHECK(same_bits(rows_of(*loaded.backend, *loaded.weight), expected));
}

TEST(progress_counts_the_bytes_of_the_file_and_a_cancel_ends_the_load) {
  const std::vector<StoredTensor> tensors = gptq_layer("m", 1024, 8192, 1);
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : tensors) bytes += tensor.bytes.size();
  LoadProgress last;
  int reports = 0;
  load(tensors, {{"m.weight", {1024, 8192}}}, kGptq, 2, [&](const LoadProgress& progress) {
    CHECK(progress.loaded_bytes >= last.loaded_bytes);
    last = progress;
    ++reports;
  });
  CHECK_EQ(last.total_bytes, bytes);
  CHECK_EQ(last.loaded_bytes, bytes);
  CHECK(reports > 3);

  CancellationFlag cancellation;
  bool was_cancelled = false;
  try {
    load(
        tensors, {{"m.weight", {1024, 8192}}}, kGptq, 1,
        [&](const LoadProgress&) { cancellation.cancel(); }, &cancellation);
  } catch (const Cancelled&) {
    was_cancelled = true;
  }
  CHECK(was_cancelled);
}

TEST(other_matrices_are_quantised_as_asked_and_stored_ones_left_alone) {
  std::vector<StoredTensor> tensors = gptq_layer("model.layers.0.mlp.down_proj", 40, 128, 1);
  ModelOptions options;
  options.quantization.language = QuantizationMode::kInt8;
  const Loaded loaded = load(tensors, {{"model.layers.0.mlp.down_proj.weight", {40, 128}}}, kGptq,
                             1, {}, nullptr, options);
  CHECK_EQ(loaded.weight->spec().quantization.bits, 4);
}

/// A layer of one group whose scales are `numbers` over and over, and the numbers of its rows.
std::vector<float> rows_with_scales(const std::string& dtype, const std::vector<float>& numbers) {
  std::vector<StoredTensor> tensors = gptq_layer("m", 40, 128, 3);
  tensors[2] = {"m.scales", dtype, {1, 40}, {}};
  for (size_t i = 0; i < 40; ++i) tensors[2].bytes += to_bytes(numbers[i % numbers.size()], dtype);
  const Loaded loaded = load(tensors, {{"m.weight", {40, 128}}});
  return rows_of(*loaded.backend, *loaded.weight);
}

TEST(scales_may_have_any_type_that_holds_numbers_of_fp16) {
  const std::vector<float> numbers = {0x1p-14f, 1.5f, -0.25f, 0x1.04p3f, 0x1.4p-20f, 0x1p-24f};
  const std::vector<float> expected = rows_with_scales("F16", numbers);
  CHECK(same_bits(rows_with_scales("BF16", numbers), expected));
  CHECK(same_bits(rows_with_scales("F32", numbers), expected));
}

// What a model in bf16 has for inputs that are next to never anything.
TEST(scales_in_bf16_that_fp16_has_no_bits_for_are_the_nearest) {
  CHECK(same_bits(rows_with_scales("BF16", {0x1.04p-24f, 0x1.9p-23f, 0x1p-30f}),
                  rows_with_scales("F16", {0x1p-24f, 0x1.8p-23f, 0.0f})));
}

// ---- what is refused ----

using Change = std::function<void(std::map<std::string, StoredTensor>&)>;

/// Loading a layer of 40 outputs and 256 inputs fails after the change.
void check_fails(const char* code, const Change& change, const std::string& expected,
                 const StoredQuantization& format = kGptq) {
  std::map<std::string, StoredTensor> tensors;
  for (const StoredTensor& tensor : gptq_layer("m", 40, 256, 1)) {
    tensors.emplace(tensor.name.substr(2), tensor);
  }
  tensors.emplace("g_idx", integers("m.g_idx", groups_in_order(256, 128)));
  change(tensors);
  std::vector<StoredTensor> list;
  for (const auto& [kind, tensor] : tensors) list.push_back(tensor);
  const std::string message = CHECK_ERROR(code, load(list, {{"m.weight", {40, 256}}}, format));
  if (message.find(expected) == std::string::npos) CHECK_EQ(message, expected);
}

TEST(tensors_of_a_layer_that_are_missing_are_named) {
  for (const std::string kind : {"scales", "qzeros"}) {
    check_fails(
        "ERR_CHECKPOINT_MISSING_TENSOR", [&](auto& tensors) { tensors.erase(kind); }, "m." + kind);
  }
}

TEST(the_order_of_inputs_must_be_there_where_they_are_not_in_order) {
  StoredQuantization format = kGptq;
  const Change remove = [](auto& tensors) { tensors.erase("g_idx"); };
  format.needs_group_index = true;
  check_fails("ERR_CHECKPOINT_MISSING_TENSOR", remove, "m.g_idx", format);
}

TEST(wrong_shapes_are_named_with_what_the_configuration_makes_them) {
  const auto set_shape = [](const char* kind, std::vector<int64_t> shape) {
    return [=](std::map<std::string, StoredTensor>& tensors) {
      StoredTensor& tensor = tensors.at(kind);
      tensor.shape = shape;
      int64_t size = tensor.dtype == "F16" ? 2 : 4;
      for (const int64_t side : shape) size *= side;
      tensor.bytes.resize(static_cast<size_t>(size), '\1');
    };
  };
  check_fails("ERR_CHECKPOINT_SHAPE", set_shape("qweight", {64, 40}), "[64, 40]");
  check_fails("ERR_CHECKPOINT_SHAPE", set_shape("qweight", {256, 5}), "make [32, 40]");
  check_fails("ERR_CHECKPOINT_SHAPE", set_shape("qzeros", {2, 40}), "make [2, 5]");
  check_fails("ERR_CHECKPOINT_SHAPE", set_shape("scales", {8, 40}), "groups of 128");
  check_fails("ERR_CHECKPOINT_SHAPE", set_shape("g_idx", {128}), "make [256]");
}

TEST(a_configuration_of_another_format_than_the_tensors_is_noticed) {
  const Change nothing = [](auto&) {};
  check_fails("ERR_CHECKPOINT_SHAPE", nothing, "make [64, 40]", {Method::kGptq, 8, 128, true});
  check_fails("ERR_CHECKPOINT_SHAPE", nothing, "make [256, 5]", {Method::kAwq, 4, 128, false});
  check_fails("ERR_CHECKPOINT_SHAPE", nothing, "make [8, 5]", {Method::kGptq, 4, 32, true});
  for (const StoredQuantization& format : {StoredQuantization{Method::kGptq, 3, 128},
                                           {Method::kAwq, 8, 128},
                                           {Method::kGptq, 4, 16},
                                           {Method::kNone, 4, 128}}) {
    check_fails("ERR_CHECKPOINT_UNSUPPORTED", nothing, "AWQ with 4 bits", format);
  }
}

TEST(wrong_types_are_named) {
  check_fails(
      "ERR_CHECKPOINT_DTYPE", [](auto& tensors) { tensors.at("qweight").dtype = "F32"; },
      "stored as F32");
  check_fails(
      "ERR_CHECKPOINT_DTYPE", [](auto& tensors) { tensors.at("scales").dtype = "I16"; },
      "expected F16");
}

TEST(scales_that_are_not_finite_are_refused) {
  for (const char* number : {"\x00\x7c", "\x00\xfc", "\x01\x7e"}) {
    check_fails(
        "ERR_CHECKPOINT_QUANTIZATION",
        [&](auto& tensors) { std::memcpy(tensors.at("scales").bytes.data() + 2 * 77, number, 2); },
        "m.scales");
  }
}

TEST(scales_that_fp16_cannot_hold_are_refused) {
  for (const float scale : {1.0f / 3.0f, 1e6f, 3e-8f}) {
    check_fails(
        "ERR_CHECKPOINT_QUANTIZATION",
        [&](auto& tensors) {
          StoredTensor& tensor = tensors.at("scales");
          tensor.dtype = "F32";
          tensor.bytes.clear();
          for (int i = 0; i < 80; ++i) tensor.bytes += to_bytes(i == 50 ? scale : 0.5f, "F32");
        },
        "cannot hold exactly");
  }
  check_fails(
      "ERR_CHECKPOINT_QUANTIZATION",
      [](auto& tensors) {
        StoredTensor& tensor = tensors.at("scales");
        tensor.dtype = "BF16";
        tensor.bytes.clear();
        for (int i = 0; i < 80; ++i) tensor.bytes += to_bytes(i == 50 ? 65536.0f : 0.5f, "BF16");
      },
      "in BF16 that fp16");
}

TEST(groups_of_inputs_that_cannot_be_are_refused) {
  const auto set_group = [](int input, int32_t group) {
    return [=](std::map<std::string, StoredTensor>& tensors) {
      std::memcpy(tensors.at("g_idx").bytes.data() + 4 * input, &group, 4);
    };
  };
  check_fails("ERR_CHECKPOINT_QUANTIZATION", set_group(255, 2), "group 2 for input 255");
  check_fails("ERR_CHECKPOINT_QUANTIZATION", set_group(0, -1), "group -1 for input 0");
  check_fails("ERR_CHECKPOINT_QUANTIZATION", set_group(255, 0), "more than 128 inputs of group 0");
}

TEST(a_matrix_that_is_there_twice_is_refused) {
  check_fails(
      "ERR_CHECKPOINT_DUPLICATE_TENSOR",
      [](auto& tensors) {
        tensors["weight"] = {"m.weight", "F32", {40, 256}, std::string(40960, '\0')};
      },
      "m.qweight");
}

TEST(matrices_that_are_multiplied_together_must_be_of_a_kind) {
  std::vector<StoredTensor> tensors = gptq_layer("a", 40, 128, 1, 32);
  for (const StoredTensor& tensor : gptq_layer("b", 40, 128, 2, 32)) tensors.push_back(tensor);
  tensors.push_back({"c.weight", "F32", {40, 128}, std::string(40 * 128 * 4, '\0')});
  tensors.push_back(integers("a.g_idx", shuffled(groups_in_order(128, 32))));
  const StoredQuantization format{Method::kGptq, 4, 32, true};
  std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED",
                  load(tensors, {{"a.weight", {40, 128}}, {"b.weight", {40, 128}}}, format));
  CHECK(message.find("without desc_act") != std::string::npos);
  message = CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED",
                        load(tensors, {{"a.weight", {40, 128}}, {"c.weight", {40, 128}}}, format));
  CHECK(message.find("c.weight") != std::string::npos);
}

TEST(widths_that_do_not_fill_words_are_refused) {
  const std::vector<StoredTensor> tensors = {random_words("m.qweight", {16, 36}, 1),
                                             random_words("m.qzeros", {1, 5}, 2),
                                             scales("m.scales", {1, 36})};
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED", load(tensors, {{"m.weight", {36, 128}}}));
  CHECK(message.find("36 outputs") != std::string::npos);
}

}  // namespace
}  // namespace qvl::test
