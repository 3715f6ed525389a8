// From safetensors to the backend: names, shapes, types, stacking, progress, cancellation.

#include "model/weight_loader.h"

#include <algorithm>
#include <atomic>
#include <functional>

#include "backend/cpu/cpu_backend.h"
#include "check.h"
#include "model/formula_checkpoint.h"
#include "model/language_model.h"

namespace qvl {
namespace {

using test::StoredTensor;

std::shared_ptr<const Checkpoint> write_and_open(const test::TempFolder& folder,
                                                 const std::vector<StoredTensor>& tensors) {
  write_safetensors(folder.path("w.safetensors"), tensors);
  return Checkpoint::open({folder.path("w.safetensors")});
}

/// Element i is `first` + i, exact in every type for small numbers.
StoredTensor counting(const std::string& name, const std::vector<int64_t>& shape, float first,
                      const std::string& dtype = "F32") {
  StoredTensor tensor{name, dtype, shape, {}};
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  for (int64_t i = 0; i < count; ++i) {
    tensor.bytes += test::to_bytes(first + static_cast<float>(i), dtype);
  }
  return tensor;
}

/// All rows of a weight as floats.
std::vector<float> rows_of(Backend& backend, const Weight& weight) {
  const int64_t rows = weight.spec().out_features;
  const int64_t cols = weight.spec().in_features;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (int32_t i = 0; i < rows; ++i) ids[static_cast<size_t>(i)] = i;
  backend.embed({values.data(), rows, cols, cols}, weight, ids);
  return values;
}

std::vector<float> values_of(const Buffer& buffer) {
  const auto* data = static_cast<const float*>(buffer.data());
  return {data, data + buffer.size_bytes() / sizeof(float)};
}

/// A file of tensors and a loader over it.
struct Fixture {
  explicit Fixture(const std::vector<StoredTensor>& tensors, const ModelOptions& model_options = {},
                   int threads = 2)
      : checkpoint(write_and_open(folder, tensors)),
        backend(create_cpu_backend({threads, ""})),
        options(model_options),
        loader(*checkpoint, *backend, options) {}

  std::vector<float> load(const std::vector<TensorPart>& parts) {
    const std::unique_ptr<Weight> weight = loader.matrix(parts);
    loader.run({}, nullptr);
    return rows_of(*backend, *weight);
  }

  test::TempFolder folder;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Backend> backend;
  ModelOptions options;
  WeightLoader loader;
};

// ---- values ----

TEST(every_type_is_read_exactly_and_kept_as_stored) {
  for (const auto& [name, dtype] :
       {std::pair{"F32", DType::kF32}, {"BF16", DType::kBF16}, {"F16", DType::kF16}}) {
    Fixture fixture({counting("lm_head.weight", {20, 6}, 1, name)});
    const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"lm_head.weight", {20, 6}}});
    fixture.loader.run({}, nullptr);
    CHECK(weight->spec().dtype == dtype);
    const std::vector<float> values = rows_of(*fixture.backend, *weight);
    for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], 1.0f + static_cast<float>(i));
  }
}

TEST(a_wanted_type_is_converted_to) {
  Fixture fixture({counting("lm_head.weight", {3, 5}, 1, "F16")},
                  {.convert_weights = true, .weight_dtype = DType::kBF16});
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"lm_head.weight", {3, 5}}});
  fixture.loader.run({}, nullptr);
  CHECK(weight->spec().dtype == DType::kBF16);
  CHECK_EQ(rows_of(*fixture.backend, *weight).back(), 15.0f);
}

TEST(dimensions_after_the_first_are_columns) {
  Fixture fixture({counting("visual.patch_embed.proj.weight", {2, 3, 2, 2, 2}, 0)});
  const std::unique_ptr<Weight> weight =
      fixture.loader.matrix({{"visual.patch_embed.proj.weight", {2, 3, 2, 2, 2}}});
  fixture.loader.run({}, nullptr);
  CHECK_EQ(weight->spec().out_features, 2);
  CHECK_EQ(weight->spec().in_features, 24);
  CHECK_EQ(rows_of(*fixture.backend, *weight)[24], 24.0f);
}

// 1, 5, 16 and 40 rows: parts that begin and end inside of panels.
TEST(parts_are_stacked_wherever_their_borders_fall) {
  Fixture fixture({counting("a", {5, 3}, 0), counting("b", {1, 3}, 100),
                   counting("c", {40, 3}, 200), counting("d", {16, 3}, 400)});
  const std::vector<float> values =
      fixture.load({{"a", {5, 3}}, {"b", {1, 3}}, {"c", {40, 3}}, {"d", {16, 3}}});
  std::vector<float> expected;
  for (const auto& [first, count] : {std::pair{0, 15}, {100, 3}, {200, 120}, {400, 48}}) {
    for (int i = 0; i < count; ++i) expected.push_back(static_cast<float>(first + i));
  }
  CHECK_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], expected[i]);
}

TEST(parts_of_different_types_become_f32) {
  Fixture fixture({counting("a", {4, 2}, 1, "BF16"), counting("b", {4, 2}, 9, "F16")});
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {4, 2}}, {"b", {4, 2}}});
  fixture.loader.run({}, nullptr);
  CHECK(weight->spec().dtype == DType::kF32);
  const std::vector<float> values = rows_of(*fixture.backend, *weight);
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], 1.0f + static_cast<float>(i));
}

TEST(a_large_matrix_is_read_in_chunks_by_any_number_of_threads) {
  constexpr int64_t kRows = 5000;
  constexpr int64_t kCols = 640;  // 12.8 MB: several chunks, and rows that do not divide them
  StoredTensor tensor{"lm_head.weight", "F32", {kRows, kCols}, {}};
  std::vector<float> expected(kRows * kCols);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(i);
  tensor.bytes.assign(reinterpret_cast<const char*>(expected.data()), expected.size() * 4);
  for (const int threads : {1, 2, 3}) {
    Fixture fixture({tensor}, {}, threads);
    CHECK(fixture.load({{"lm_head.weight", {kRows, kCols}}}) == expected);
  }
}

TEST(vectors_are_widened_and_joined) {
  Fixture fixture(
      {counting("a", {3}, 1, "BF16"), counting("b", {2}, 4, "F16"), counting("c", {1}, 6, "F32")});
  const std::unique_ptr<Buffer> buffer =
      fixture.loader.vector({{"a", {3}}, {"b", {2}}, {"c", {1}}});
  const std::vector<float> values = values_of(*buffer);
  CHECK_EQ(values.size(), size_t{6});
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], 1.0f + static_cast<float>(i));
}

TEST(sums_that_ranks_may_share_have_as_many_segments_as_divide_them) {
  CHECK_EQ(shared_segments(8960), 8);
  CHECK_EQ(shared_segments(18944), 8);
  CHECK_EQ(shared_segments(12), 4);
  CHECK_EQ(shared_segments(10), 2);
  CHECK_EQ(shared_segments(7), 1);
}

// ---- names ----

TEST(each_tensor_may_have_its_published_or_its_newer_name) {
  Fixture fixture({counting("model.language_model.layers.0.mlp.gate_proj.weight", {2, 2}, 0),
                   counting("model.layers.0.mlp.up_proj.weight", {2, 2}, 4)});
  const std::vector<float> values = fixture.load({{"model.layers.0.mlp.gate_proj.weight", {2, 2}},
                                                  {"model.layers.0.mlp.up_proj.weight", {2, 2}}});
  CHECK_EQ(values.size(), size_t{8});
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], static_cast<float>(i));
}

TEST(newer_names_are_led_back_to_the_published_ones) {
  CHECK_EQ(published_name("model.visual.blocks.3.norm1.bias"), "visual.blocks.3.norm1.bias");
  CHECK_EQ(published_name("model.language_model.norm.weight"), "model.norm.weight");
  CHECK_EQ(published_name("model.norm.weight"), "model.norm.weight");
  CHECK_EQ(published_name("visual.merger.ln_q.bias"), "visual.merger.ln_q.bias");
  CHECK_EQ(published_name("lm_head.weight"), "lm_head.weight");
}

// ---- whole models ----

using Change = std::function<void(std::vector<StoredTensor>&)>;

/// Loads the tiny model from its tensors after a change to them.
std::unique_ptr<Model> load_changed(const Change& change, bool tied = false) {
  ModelConfig config = test::tiny_config();
  config.tie_word_embeddings = tied;
  std::vector<StoredTensor> tensors = test::formula_tensors(config);
  change(tensors);
  const test::TempFolder folder;
  return load_qwen2_vl(write_and_open(folder, tensors), config, create_cpu_backend({1, ""}),
                       {.num_kv_blocks = 2}, {}, nullptr);
}

StoredTensor& tensor_of(std::vector<StoredTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& tensor) { return tensor.name == name; });
  CHECK(found != tensors.end());
  return *found;
}

/// Loading after the change fails with this code and a message that holds all of `expected`.
void check_load_fails(const char* code, const Change& change,
                      const std::vector<std::string>& expected) {
  const std::string message = CHECK_ERROR(code, load_changed(change));
  for (const std::string& part : expected) {
    if (message.find(part) == std::string::npos) CHECK_EQ(message, part);
  }
}

TEST(every_missing_tensor_is_named) {
  for (const auto& [name, shape] : test::tensor_shapes(test::tiny_config())) {
    const std::string& missing = name;
    check_load_fails("ERR_CHECKPOINT_MISSING_TENSOR",
                     [&](std::vector<StoredTensor>& tensors) {
                       std::erase_if(tensors, [&](const StoredTensor& tensor) {
                         return tensor.name == missing;
                       });
                     },
                     {missing, test::newer_tensor_name(missing)});
  }
}

TEST(every_wrong_shape_is_named_with_what_was_found_and_expected) {
  for (const auto& [name, shape] : test::tensor_shapes(test::tiny_config())) {
    const std::string& wrong = name;
    check_load_fails("ERR_CHECKPOINT_SHAPE",
                     [&](std::vector<StoredTensor>& tensors) {
                       StoredTensor& tensor = tensor_of(tensors, wrong);
                       tensor.shape.insert(tensor.shape.begin(), 1);
                     },
                     {wrong, "has shape [1, " + std::to_string(shape[0]),
                      "asks for [" + std::to_string(shape[0])});
  }
}

TEST(a_shape_of_as_many_elements_is_not_enough) {
  check_load_fails("ERR_CHECKPOINT_SHAPE",
                   [](std::vector<StoredTensor>& tensors) {
                     tensor_of(tensors, "model.layers.1.mlp.down_proj.weight").shape = {96, 64};
                   },
                   {"[96, 64]", "[64, 96]"});
  check_load_fails(
      "ERR_CHECKPOINT_SHAPE",
      [](std::vector<StoredTensor>& tensors) {
        tensor_of(tensors, "visual.patch_embed.proj.weight").shape = {32, 2, 3, 14, 14};
      },
      {"[32, 2, 3, 14, 14]", "[32, 3, 2, 14, 14]"});
}

TEST(other_types_are_refused_for_matrices_and_vectors) {
  for (const char* name : {"model.layers.0.self_attn.q_proj.weight", "visual.merger.ln_q.bias"}) {
    check_load_fails(
        "ERR_CHECKPOINT_DTYPE",
        [&](std::vector<StoredTensor>& tensors) { tensor_of(tensors, name).dtype = "I32"; },
        {name, "stored as I32", "BF16, F16 or F32"});
  }
}

TEST(a_tensor_under_both_names_is_refused) {
  check_load_fails("ERR_CHECKPOINT_DUPLICATE_TENSOR",
                   [](std::vector<StoredTensor>& tensors) {
                     StoredTensor copy = tensor_of(tensors, "model.norm.weight");
                     copy.name = "model.language_model.norm.weight";
                     tensors.push_back(copy);
                   },
                   {"model.norm.weight", "model.language_model.norm.weight"});
}

TEST(a_tied_head_is_not_read_whatever_it_is) {
  CHECK(load_changed([](std::vector<StoredTensor>&) {}, true) != nullptr);
  const auto add_head = [](std::vector<StoredTensor>& tensors) {
    tensors.push_back({"lm_head.weight", "I32", {3}, std::string(12, 'x')});
  };
  CHECK(load_changed(add_head, true) != nullptr);
}

TEST(buffers_of_older_files_are_ignored) {
  CHECK(load_changed([](std::vector<StoredTensor>& tensors) {
          tensors.push_back(counting("model.layers.0.self_attn.rotary_emb.inv_freq", {8}, 0));
          tensors.push_back(counting("visual.rotary_pos_emb.inv_freq", {4}, 0));
        }) != nullptr);
}

// ---- mapped weights ----

/// A loader over a mapping of the file.
struct MappedFixture {
  explicit MappedFixture(const std::vector<StoredTensor>& tensors, const ModelOptions& options = {})
      : file(tensors, options),
        mapping(std::make_shared<CheckpointMapping>(file.checkpoint)),
        loader(*file.checkpoint, *file.backend, file.options, mapping) {}

  Fixture file;
  std::shared_ptr<const CheckpointMapping> mapping;
  WeightLoader loader;
};

TEST(mapped_weights_have_the_numbers_of_packed_ones_without_being_read) {
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    const std::vector<StoredTensor> tensors = {counting("a", {5, 3}, 1, dtype),
                                               counting("b", {40, 3}, 16, dtype)};
    MappedFixture fixture(tensors);
    const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {5, 3}}, {"b", {40, 3}}});
    uint64_t total = 1;
    fixture.loader.run([&](const LoadProgress& progress) { total = progress.total_bytes; },
                       nullptr);
    CHECK_EQ(total, uint64_t{0});
    const std::vector<float> values = rows_of(*fixture.file.backend, *weight);
    CHECK_EQ(values.size(), size_t{135});
    for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], 1.0f + static_cast<float>(i));
  }
}

TEST(mapped_weights_are_not_converted) {
  MappedFixture fixture({counting("a", {3, 5}, 1, "F16")},
                        {.convert_weights = true, .weight_dtype = DType::kBF16});
  const std::string message =
      CHECK_ERROR("ERR_INVALID_ARGUMENT", fixture.loader.matrix({{"a", {3, 5}}}));
  CHECK(message.find("weights: 'packed'") != std::string::npos);
  MappedFixture same({counting("a", {3, 5}, 1, "F16")},
                     {.convert_weights = true, .weight_dtype = DType::kF16});
  CHECK(same.loader.matrix({{"a", {3, 5}}}) != nullptr);
}

TEST(mapped_weights_are_not_quantised) {
  ModelOptions options;
  options.quantization.language = QuantizationMode::kInt8;
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  MappedFixture fixture({counting(name, {32, 32}, 1)}, options);
  const std::string message =
      CHECK_ERROR("ERR_INVALID_ARGUMENT", fixture.loader.matrix({{name, {32, 32}}}));
  CHECK(message.find("leave quantization out") != std::string::npos);
}

TEST(a_matrix_of_parts_of_different_types_is_packed_even_where_others_are_mapped) {
  MappedFixture fixture({counting("a", {4, 2}, 1, "BF16"), counting("b", {4, 2}, 9, "F16")});
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {4, 2}}, {"b", {4, 2}}});
  fixture.loader.run({}, nullptr);
  const std::vector<float> values = rows_of(*fixture.file.backend, *weight);
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(values[i], 1.0f + static_cast<float>(i));
}

// ---- progress and cancellation ----

TEST(progress_comes_one_at_a_time_and_ends_at_the_total) {
  const StoredTensor large = counting("a", {20000, 256}, 0);  // 20 MB: five chunks
  Fixture fixture({large, counting("b", {4}, 0), counting("unused", {9}, 0)}, {}, 3);
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {20000, 256}}});
  const std::unique_ptr<Buffer> buffer = fixture.loader.vector({{"b", {4}}});
  std::atomic<int> inside{0};
  std::vector<LoadProgress> reports;
  fixture.loader.run(
      [&](const LoadProgress& progress) {
        CHECK_EQ(inside.fetch_add(1), 0);
        reports.push_back(progress);
        inside.fetch_sub(1);
      },
      nullptr);
  CHECK(reports.size() >= 5);
  const uint64_t total = large.bytes.size() + 16;
  for (size_t i = 0; i < reports.size(); ++i) {
    CHECK_EQ(reports[i].total_bytes, total);
    if (i > 0) CHECK(reports[i].loaded_bytes > reports[i - 1].loaded_bytes);
  }
  CHECK_EQ(reports.front().loaded_bytes, uint64_t{16});
  CHECK_EQ(reports.back().loaded_bytes, total);
}

TEST(a_load_is_cancelled_between_two_chunks) {
  Fixture fixture({counting("a", {20000, 256}, 0)});
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {20000, 256}}});
  CancellationFlag cancellation;
  uint64_t loaded = 0;
  bool cancelled = false;
  try {
    fixture.loader.run(
        [&](const LoadProgress& progress) {
          loaded = progress.loaded_bytes;
          if (loaded > 0) cancellation.cancel();
        },
        &cancellation);
  } catch (const Cancelled&) {
    cancelled = true;
  }
  CHECK(cancelled);
  CHECK(loaded > 0 && loaded < 20000 * 256 * 4);
}

TEST(an_error_of_the_progress_callback_ends_the_load) {
  Fixture fixture({counting("a", {20000, 256}, 0)});
  const std::unique_ptr<Weight> weight = fixture.loader.matrix({{"a", {20000, 256}}});
  CHECK_ERROR("ERR_TEST", fixture.loader.run(
                              [](const LoadProgress& progress) {
                                if (progress.loaded_bytes > 0) throw Error("ERR_TEST", "enough");
                              },
                              nullptr));
}

}  // namespace
}  // namespace qvl
