// The ways in which one model can be stored - shards, types, names, a head of its own or not - and
// kept in memory, and what they do to its logits.

#include "check.h"
#include "io/patterns.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl::test {
namespace {

/// One key/value head of 8: q, k and v are 48, 8 and 8 rows, and their borders lie inside of
/// panels.
ModelConfig narrow_config() {
  ModelConfig config = tiny_config();
  config.hidden_size = config.vision.out_dim = 48;
  config.num_heads = 6;
  config.num_kv_heads = 1;
  config.intermediate_size = 40;
  config.mrope_section = {2, 1, 1};
  return config;
}

std::vector<StoredTensor> stored_as(const ModelConfig& config, const std::string& dtype) {
  WeightFormula formula;
  formula.dtype = dtype;
  return formula_tensors(config, formula);
}

/// 17 tokens, 12 of them of a video.
std::vector<float> logits_of(Model& model) {
  const Prompt prompt{{5, 58, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 59, 7, 8},
                      {make_video({picture("waves", 84, 56), picture("noise", 84, 56),
                                   picture("waves", 84, 56, 2)})}};
  Sequence sequence(model, prompt, scattered_blocks(0, 2));
  return prefill(model, sequence);
}

std::vector<float> logits_of(const std::vector<StoredTensor>& tensors, const ModelConfig& config,
                             const LoadSettings& settings = {}) {
  return logits_of(*load_model(tensors, config, settings));
}

/// The value of element `index` of a BF16 tensor, as F32 bytes.
std::string widened(const StoredTensor& bf16) {
  std::string bytes;
  for (size_t i = 0; i < bf16.bytes.size(); i += 2) {
    bytes.append(2, '\0').append(bf16.bytes, i, 2);
  }
  return bytes;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return largest;
}

}  // namespace

TEST(shards_are_one_model) {
  for (const int threads : {1, 3}) {
    const ModelConfig config = narrow_config();
    const std::vector<StoredTensor> tensors = stored_as(config, "BF16");
    // Dealt out, so that q, k and v of a layer lie in three files.
    const TempFolder folder;
    std::vector<std::string> paths;
    for (size_t shard = 0; shard < 3; ++shard) {
      std::vector<StoredTensor> part;
      for (size_t i = shard; i < tensors.size(); i += 3) part.push_back(tensors[i]);
      paths.push_back(folder.path("model-" + std::to_string(shard) + ".safetensors"));
      write_safetensors(paths.back(), part);
    }
    LoadSettings settings;
    settings.cpu.threads = threads;
    const std::unique_ptr<Model> sharded = load_model(paths, config, settings);
    CHECK(logits_of(*sharded) == logits_of(tensors, config));
  }
}

TEST(newer_names_are_the_same_model) {
  WeightFormula formula;
  formula.newer_names = true;
  const ModelConfig config = tiny_config();
  CHECK(logits_of(formula_tensors(config, formula), config) ==
        logits_of(formula_tensors(config), config));
}

TEST(names_of_both_schemes_may_be_mixed) {
  const ModelConfig config = narrow_config();
  std::vector<StoredTensor> tensors = formula_tensors(config);
  const std::vector<float> expected = logits_of(tensors, config);
  for (size_t i = 0; i < tensors.size(); i += 2) {
    tensors[i].name = newer_tensor_name(tensors[i].name);
  }
  CHECK(logits_of(tensors, config) == expected);
}

TEST(tied_head_is_the_embedding_whatever_else_is_stored) {
  ModelConfig config = tiny_config();
  config.tie_word_embeddings = true;
  std::vector<StoredTensor> tensors = formula_tensors(config);
  const std::vector<float> tied = logits_of(tensors, config);
  const auto embedding = std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.name == "model.embed_tokens.weight";
  });
  StoredTensor head = *embedding;
  head.name = "lm_head.weight";

  ModelConfig untied = config;
  untied.tie_word_embeddings = false;
  std::vector<StoredTensor> with_copy = tensors;
  with_copy.push_back(head);
  CHECK(logits_of(with_copy, untied) == tied);

  std::fill(head.bytes.begin(), head.bytes.end(), '\x7f');
  tensors.push_back(head);
  CHECK(logits_of(tensors, config) == tied);
}

// A 16-bit weight is widened exactly: only its storage differs.
TEST(bf16_weights_compute_as_their_f32_values_do) {
  for (const ModelConfig& config : {tiny_config(), narrow_config()}) {
    const std::vector<StoredTensor> bf16 = stored_as(config, "BF16");
    const std::vector<float> expected = logits_of(bf16, config);

    std::vector<StoredTensor> wide = bf16;
    for (StoredTensor& tensor : wide) {
      tensor.bytes = widened(tensor);
      tensor.dtype = "F32";
    }
    CHECK(logits_of(wide, config) == expected);

    LoadSettings settings;
    settings.options.convert_weights = true;
    settings.options.weight_dtype = DType::kF32;
    CHECK(logits_of(bf16, config, settings) == expected);
    settings.options.weight_dtype = DType::kBF16;
    CHECK(logits_of(wide, config, settings) == expected);
  }
}

// The F32 parts hold values that no 16-bit type has.
TEST(types_may_differ_within_a_stacked_matrix) {
  const ModelConfig config = narrow_config();
  const std::vector<StoredTensor> f32 = formula_tensors(config);
  std::vector<StoredTensor> mixed = stored_as(config, "BF16");
  std::vector<StoredTensor> wide = mixed;
  size_t kept = 0;
  for (size_t i = 0; i < f32.size(); ++i) {
    const std::string& name = f32[i].name;
    if (name.ends_with("k_proj.weight") || name.ends_with("up_proj.weight") ||
        name.ends_with("v_proj.bias")) {
      mixed[i] = wide[i] = f32[i];
      ++kept;
    } else {
      wide[i].bytes = widened(mixed[i]);
      wide[i].dtype = "F32";
    }
  }
  CHECK_EQ(kept, size_t{6});
  CHECK(logits_of(mixed, config) == logits_of(wide, config));
}

TEST(weights_of_16_bits_stay_close_to_those_of_32) {
  const ModelConfig config = tiny_config();
  const std::vector<float> exact = logits_of(formula_tensors(config), config);
  const double bf16 = largest_difference(logits_of(stored_as(config, "BF16"), config), exact);
  const double f16 = largest_difference(logits_of(stored_as(config, "F16"), config), exact);
  CHECK(bf16 > 1e-4 && bf16 < 0.1);
  CHECK(f16 > 1e-5 && f16 < 0.1 / 4);
}

TEST(cache_of_16_bits_keeps_logits_close) {
  for (const ModelConfig& config : {tiny_config(), narrow_config()}) {
    const std::vector<StoredTensor> tensors = formula_tensors(config);
    const std::vector<float> exact = logits_of(tensors, config);
    LoadSettings settings;
    settings.options.kv_dtype = DType::kBF16;
    const double bf16 = largest_difference(logits_of(tensors, config, settings), exact);
    settings.options.kv_dtype = DType::kF16;
    const double f16 = largest_difference(logits_of(tensors, config, settings), exact);
    CHECK(bf16 > 1e-4 && bf16 < 0.05);
    CHECK(f16 > 1e-5 && f16 < 0.05 / 4);
  }
}

}  // namespace qvl::test
