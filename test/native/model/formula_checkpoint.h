#pragma once

// Checkpoints whose every weight is a formula, so that a test can make a whole model and nothing
// has to be stored; test/golden/model/record.py has the same formula for the reference
// implementation.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace qvl::test {

/// A folder of its own, gone at the end of the test.
class TempFolder {
 public:
  TempFolder() {
    std::random_device random;
    do {
      path_ =
          std::filesystem::temp_directory_path() / ("qvl-model-test-" + std::to_string(random()));
    } while (!std::filesystem::create_directory(path_));
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// ---- number formats, written for reading: the code under test has its own ----

/// The nearest number with `digits` significant bits and no exponent below `min_exponent`, ties to
/// even.
inline double round_to(double value, int digits, int min_exponent) {
  int exponent = 0;
  std::frexp(value, &exponent);  // |value| < 2^exponent
  const double unit = std::ldexp(1.0, std::max(exponent, min_exponent + 1) - digits);
  return std::nearbyint(value / unit) * unit;
}

/// `value` as stored in `dtype` ("F32", "BF16", "F16"), little-endian. For weights: finite, small.
inline std::string to_bytes(float value, std::string_view dtype) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  size_t size = 4;
  if (dtype == "BF16") {
    const double rounded = round_to(static_cast<double>(value), 8, -126);
    bits = std::bit_cast<uint32_t>(static_cast<float>(rounded)) >> 16;
    size = 2;
  } else if (dtype == "F16") {
    const double rounded = round_to(static_cast<double>(value), 11, -14);
    const uint32_t sign = std::signbit(value) ? 0x8000u : 0u;
    int exponent = 0;
    const double fraction = std::frexp(std::fabs(rounded), &exponent);  // [0.5, 1)
    if (exponent < -13 || fraction == 0) {                              // subnormal, or 0
      bits = sign | static_cast<uint32_t>(std::ldexp(fraction, exponent + 24));
    } else {
      bits = sign | static_cast<uint32_t>(exponent + 14) << 10 |
             (static_cast<uint32_t>(std::ldexp(fraction, 11)) & 0x3ffu);
    }
    size = 2;
  } else if (dtype != "F32") {
    throw std::invalid_argument("no such weight type");
  }
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(bits >> (8 * i)));
  return bytes;
}

// ---- safetensors ----

struct StoredTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16", "F16"; any other word is written as it is
  std::vector<int64_t> shape;
  std::string bytes;
};

inline void write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors) {
  std::string header = "{";
  size_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    std::string shape;
    for (const int64_t size : tensor.shape) {
      shape.append(shape.empty() ? "" : ",").append(std::to_string(size));
    }
    if (offset != 0) header += ',';
    const std::string range =
        std::to_string(offset) + ',' + std::to_string(offset + tensor.bytes.size());
    header.append(1, '"').append(tensor.name).append(R"(":{"dtype":")").append(tensor.dtype);
    header.append(R"(","shape":[)").append(shape).append(R"(],"data_offsets":[)");
    header.append(range).append("]}");
    offset += tensor.bytes.size();
  }
  header += '}';
  std::ofstream file(path, std::ios::binary);
  for (int i = 0; i < 8; ++i) file.put(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  file << header;
  for (const StoredTensor& tensor : tensors) file << tensor.bytes;
  if (!file) throw std::runtime_error("cannot write " + path);
}

// ---- weights by formula ----

struct WeightFormula {
  uint64_t seed = 0;
  double gain = 3.4;  // of the matrices
  std::string dtype = "F32";
  bool newer_names = false;  // "model.visual.", "model.language_model."
};

/// Published names and shapes of all tensors of a checkpoint, in ASCII order.
inline std::map<std::string, std::vector<int64_t>> tensor_shapes(const ModelConfig& config) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const int64_t width = config.vision.embed_dim;
  const auto biased = [&](const std::string& name, int64_t out, int64_t in) {
    shapes[name + ".weight"] = in == 0 ? std::vector{out} : std::vector{out, in};
    shapes[name + ".bias"] = {out};
  };
  shapes["visual.patch_embed.proj.weight"] = {width, 3, 2, 14, 14};
  for (int64_t i = 0; i < config.vision.depth; ++i) {
    const std::string block = "visual.blocks." + std::to_string(i) + ".";
    biased(block + "norm1", width, 0);
    biased(block + "norm2", width, 0);
    biased(block + "attn.qkv", 3 * width, width);
    biased(block + "attn.proj", width, width);
    biased(block + "mlp.fc1", config.vision.mlp_dim, width);
    biased(block + "mlp.fc2", width, config.vision.mlp_dim);
  }
  biased("visual.merger.ln_q", width, 0);
  biased("visual.merger.mlp.0", 4 * width, 4 * width);
  biased("visual.merger.mlp.2", config.vision.out_dim, 4 * width);

  const int64_t hidden = config.hidden_size;
  const int64_t keys = config.num_kv_heads * config.head_dim();
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    biased(layer + "self_attn.q_proj", hidden, hidden);
    biased(layer + "self_attn.k_proj", keys, hidden);
    biased(layer + "self_attn.v_proj", keys, hidden);
    shapes[layer + "self_attn.o_proj.weight"] = {hidden, hidden};
    shapes[layer + "mlp.gate_proj.weight"] = {config.intermediate_size, hidden};
    shapes[layer + "mlp.up_proj.weight"] = {config.intermediate_size, hidden};
    shapes[layer + "mlp.down_proj.weight"] = {hidden, config.intermediate_size};
    shapes[layer + "input_layernorm.weight"] = {hidden};
    shapes[layer + "post_attention_layernorm.weight"] = {hidden};
  }
  shapes["model.norm.weight"] = {hidden};
  shapes["model.embed_tokens.weight"] = {config.vocab_size, hidden};
  if (!config.tie_word_embeddings) shapes["lm_head.weight"] = {config.vocab_size, hidden};
  return shapes;
}

inline std::string newer_tensor_name(const std::string& published) {
  if (published.starts_with("visual.")) return std::string("model.").append(published);
  if (published.starts_with("model.")) {
    return std::string("model.language_model.").append(published.substr(6));
  }
  return published;
}

/// Element `index` of the tensor that is number `order` of its checkpoint.
inline float formula_value(const std::string& name, const std::vector<int64_t>& shape,
                           uint64_t order, uint64_t index, const WeightFormula& formula) {
  auto x = static_cast<uint32_t>((index + 1) * 2654435761u + (order + 1 + formula.seed) * 40503u);
  x ^= x >> 15;
  x *= 2246822519u;
  x ^= x >> 13;
  const double v = static_cast<double>(x) / 4294967296.0 - 0.5;
  if (name.ends_with("bias")) return static_cast<float>(0.2 * v);
  if (shape.size() == 1) return static_cast<float>(1 + 0.2 * v);
  if (name == "model.embed_tokens.weight") return static_cast<float>(2 * v);
  int64_t columns = 1;
  for (size_t i = 1; i < shape.size(); ++i) columns *= shape[i];
  return static_cast<float>(v * formula.gain / std::sqrt(static_cast<double>(columns)));
}

/// All tensors of the checkpoint, in ASCII order of their published names.
inline std::vector<StoredTensor> formula_tensors(const ModelConfig& config,
                                                 const WeightFormula& formula = {}) {
  std::vector<StoredTensor> tensors;
  for (const auto& [name, shape] : tensor_shapes(config)) {
    uint64_t count = 1;
    for (const int64_t size : shape) count *= static_cast<uint64_t>(size);
    std::string bytes;
    bytes.reserve(count * 4);
    for (uint64_t i = 0; i < count; ++i) {
      bytes += to_bytes(formula_value(name, shape, tensors.size(), i, formula), formula.dtype);
    }
    tensors.push_back({formula.newer_names ? newer_tensor_name(name) : name, formula.dtype, shape,
                       std::move(bytes)});
  }
  return tensors;
}

/// A small model of the published architecture: two layers, two vision blocks.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.vocab_size = 64;
  config.mrope_section = {2, 3, 3};
  config.image_token_id = 60;
  config.video_token_id = 61;
  config.vision.depth = 2;
  config.vision.embed_dim = 32;
  config.vision.num_heads = 2;
  config.vision.mlp_dim = 128;
  config.vision.out_dim = 64;
  return config;
}

}  // namespace qvl::test
