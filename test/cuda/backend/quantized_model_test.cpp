// Whole models on device 'cuda' whose matrices are stored quantised in ways that `qwen2-vl
// quantize` does not write, against the CPU backend: inputs out of order, biases everywhere, tables
// in 8 bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/on_device.h"
#include "check.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr int64_t kGroup = 32;
constexpr StoredQuantization kGptq{StoredQuantization::Method::kGptq, 4, kGroup, true};

/// Two layers with heads of 32, the least that the kernels of attention know.
ModelConfig config_of_heads_of_32() {
  ModelConfig config = tiny_config();
  config.hidden_size = 128;
  config.intermediate_size = 352;
  config.mrope_section = {4, 6, 6};
  config.vision.out_dim = 128;
  config.stored_quantization = kGptq;
  return config;
}

template <class Number>
StoredTensor integers(const std::string& name, std::vector<int64_t> shape, Number number) {
  StoredTensor tensor{name, "I32", std::move(shape), {}};
  int64_t count = 1;
  for (const int64_t side : tensor.shape) count *= side;
  for (int64_t i = 0; i < count; ++i) {
    const auto word = static_cast<uint32_t>(number(static_cast<uint32_t>(i)));
    for (int shift = 0; shift < 32; shift += 8) {
      tensor.bytes.push_back(static_cast<char>(word >> shift));
    }
  }
  return tensor;
}

/// A layer of random codes about the middle, with its inputs in an order that is `order`'s.
void add_quantized(std::vector<StoredTensor>& tensors, const std::string& module, int64_t out,
                   int64_t in, uint32_t order) {
  const int64_t groups = in / kGroup;
  const auto seed = static_cast<uint32_t>(tensors.size()) * 100'003;
  tensors.push_back(integers(module + ".qweight", {in / 8, out},
                             [&](uint32_t i) { return random_word(seed + i); }));
  tensors.push_back(integers(module + ".qzeros", {groups, out / 8}, [&](uint32_t i) {
    return 0x66666666 + (random_word(seed + 7 * i) & 0x11111111);  // 7 or 8, stored less one
  }));
  StoredTensor scales{module + ".scales", "F16", {groups, out}, {}};
  const float scale = 0.2f / std::sqrt(static_cast<float>(in));
  for (int64_t i = 0; i < groups * out; ++i) {
    scales.bytes += to_bytes(scale * (1 + static_cast<float>(i % 7) / 8), "F16");
  }
  tensors.push_back(std::move(scales));
  std::vector<int32_t> g_idx;
  for (int64_t k = 0; k < in; ++k) g_idx.push_back(static_cast<int32_t>(k / kGroup));
  for (size_t i = g_idx.size() - 1; i > 0; --i) {
    const uint32_t random = random_word(order * 1000 + static_cast<uint32_t>(i));
    std::swap(g_idx[i], g_idx[random % (i + 1)]);
  }
  tensors.push_back(integers(module + ".g_idx", {in}, [&](uint32_t i) { return g_idx[i]; }));
}

/// Quantised layers with inputs in orders of their own, which those that are multiplied together
/// share.
std::vector<StoredTensor> stored_tensors(const ModelConfig& config) {
  std::vector<StoredTensor> tensors;
  for (const StoredTensor& tensor : formula_tensors(config)) {
    constexpr std::string_view kEnd = "_proj.weight";
    if (!tensor.name.starts_with("model.layers.") || !tensor.name.ends_with(kEnd)) {
      tensors.push_back(tensor);
      continue;
    }
    const std::string module = tensor.name.substr(0, tensor.name.size() - 7);
    const uint32_t order = module.ends_with("down_proj")               ? 3
                           : module.ends_with("o_proj")                ? 2
                           : module.find(".mlp.") != std::string::npos ? 1
                                                                       : 0;
    add_quantized(tensors, module, tensor.shape[0], tensor.shape[1], order);
  }
  return tensors;
}

void add_biases(std::vector<StoredTensor>& tensors, const ModelConfig& config) {
  const auto add = [&](const std::string& name, int64_t size) {
    StoredTensor bias{name + ".bias", "F32", {size}, {}};
    for (int64_t i = 0; i < size; ++i) {
      bias.bytes += to_bytes(0.125f * static_cast<float>(i % 5 - 2), "F32");
    }
    tensors.push_back(std::move(bias));
  };
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    add(layer + ".self_attn.o_proj", config.hidden_size);
    add(layer + ".mlp.gate_proj", config.intermediate_size);
    add(layer + ".mlp.down_proj", config.hidden_size);
  }
}

std::unique_ptr<Model> model_on(std::shared_ptr<Backend> backend,
                                const std::vector<StoredTensor>& tensors, const ModelConfig& config,
                                QuantizationMode others) {
  const TempFolder folder;
  write_safetensors(folder.path("m"), tensors);
  ModelOptions options;
  options.num_kv_blocks = 16;
  options.kv_dtype = backend->activation_dtype();
  options.quantization.language = others;
  return load_qwen2_vl(Checkpoint::open({folder.path("m")}), config, std::move(backend), options,
                       {}, nullptr);
}

/// Logits of a prompt of 40 tokens, of five tokens after it one at a time, and of another sequence
/// beside it.
std::vector<float> answers_of(Model& model) {
  Prompt prompt;
  for (int32_t i = 0; i < 40; ++i) prompt.token_ids.push_back(i * 7 % 59);
  Sequence first(model, prompt, scattered_blocks(0, 4));
  std::vector<float> all = prefill(model, first);
  const auto append = [&](std::span<const StepSequence> step) {
    const std::vector<float> rows = logits_of(model, step);
    all.insert(all.end(), rows.begin(), rows.end());
  };
  for (int32_t i = 0; i < 5; ++i) {
    first.append(11 * i % 59);
    const StepSequence step = first.take(1, LogitsWanted::kLast);
    append({&step, 1});
  }
  Sequence second(model, {{3, 1, 4, 1, 5}, {}}, scattered_blocks(8, 4));
  first.append(2);
  const std::vector<StepSequence> both = {first.take(1, LogitsWanted::kLast),
                                          second.take(5, LogitsWanted::kAll)};
  append(both);
  return all;
}

/// Root of the mean square of differences, by that of the second.
double relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  CHECK_EQ(found.size(), expected.size());
  double differences = 0, squares = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    differences += std::pow(double{found[i]} - double{expected[i]}, 2);
    squares += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(differences / squares);
}

void check_like_the_cpu(const std::vector<StoredTensor>& tensors, const ModelConfig& config,
                        QuantizationMode others = QuantizationMode::kNone) {
  const auto on_cpu = model_on(create_cpu_backend({2, ""}), tensors, config, others);
  const std::vector<float> expected = answers_of(*on_cpu);
  // Activations are rounded to 8 and to 11 bits.
  for (const auto& [dtype, tolerance] : {std::pair{DType::kBF16, 0.02}, {DType::kF16, 0.0025}}) {
    const auto on_cuda = model_on(create_cuda_backend({0, dtype}), tensors, config, others);
    const double error = relative_error(answers_of(*on_cuda), expected);
    if (!(error <= tolerance)) CHECK_EQ(error, tolerance);
  }
}

}  // namespace

TEST(inputs_out_of_order_are_gathered_for_every_kind_of_layer) {
  const ModelConfig config = config_of_heads_of_32();
  check_like_the_cpu(stored_tensors(config), config);
}

TEST(biases_of_any_layer_are_added) {
  const ModelConfig config = config_of_heads_of_32();
  std::vector<StoredTensor> tensors = stored_tensors(config);
  add_biases(tensors, config);
  check_like_the_cpu(tensors, config);
}

TEST(tables_become_8_bit_beside_layers_that_are_stored_in_4) {
  ModelConfig config = config_of_heads_of_32();
  for (const bool is_tied : {true, false}) {
    config.tie_word_embeddings = is_tied;
    check_like_the_cpu(stored_tensors(config), config, QuantizationMode::kInt8);
  }
}
