// Quantised weights on device 'cuda': the numbers that become of a checkpoint's tensors, of blocks
// and of rows that are quantised on the way, read back through products with single inputs.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/on_device.h"
#include "model/formula_checkpoint.h"
#include "model/recorded_layers.h"
#include "model/weight_loader.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// The simulated device's: loading more than there is takes little time then.
const bool kIsLimited = setenv("QWEN2_VL_SIM_MEMORY", "300000000", 0) == 0;

/// x [rows, in_features], in the backend's type, times the weight: [rows, out_features] F32.
std::vector<float> multiply(Backend& backend, const Weight& weight, const std::vector<float>& x,
                            Half type, const std::vector<float>& bias = {}) {
  const WeightSpec& spec = weight.spec();
  const OnDevice input(backend, x, spec.in_features, dtype_of(type));
  const auto rows = static_cast<size_t>(input.tensor().rows);
  const std::vector<float> zeros(rows * static_cast<size_t>(spec.out_features));
  const OnDevice output(backend, zeros, spec.out_features, DType::kF32);
  const Tensor residual = output.tensor();
  const auto device_bias = buffer_of(backend, bias);
  LinearOptions options;
  options.residual = &residual;
  if (!bias.empty()) options.bias = device_bias.get();
  backend.linear(output.tensor(), input.tensor(), weight, options);
  return output.values();
}

/// The matrix [out_features, in_features], found by multiplying with one input after another, so
/// many rows at a time.
std::vector<float> numbers_of(Backend& backend, const Weight& weight, Half type,
                              int64_t at_a_time) {
  const WeightSpec& spec = weight.spec();
  const auto inputs = static_cast<size_t>(spec.in_features);
  const auto outputs = static_cast<size_t>(spec.out_features);
  std::vector<float> values(inputs * outputs);
  for (size_t first = 0; first < inputs; first += static_cast<size_t>(at_a_time)) {
    const size_t count = std::min(static_cast<size_t>(at_a_time), inputs - first);
    std::vector<float> x(count * inputs);
    for (size_t row = 0; row < count; ++row) x[row * inputs + first + row] = 1.0f;
    const std::vector<float> columns = multiply(backend, weight, x, type);
    for (size_t row = 0; row < count; ++row) {
      for (size_t n = 0; n < outputs; ++n) {
        values[n * inputs + first + row] = columns[row * outputs + n];
      }
    }
  }
  return values;
}

/// Kernels of few rows multiply with the exact numbers; for many rows these are rounded once.
void check_numbers(Backend& backend, const Weight& weight, Half type,
                   const std::vector<float>& expected, const std::string& where) {
  constexpr int64_t kFew = 8;
  const std::vector<float> rounded = widen(narrow(expected, type), type);
  const std::vector<float> few = numbers_of(backend, weight, type, kFew);
  const std::vector<float> many = numbers_of(backend, weight, type, weight.spec().in_features);
  CHECK_EQ(few.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (few[i] == expected[i] && many[i] == rounded[i]) continue;
    fail(__FILE__, __LINE__,
         describe(where, ": number ", i, " is ", few[i], " for few rows and ", many[i],
                  " for many, expected ", expected[i], " and ", rounded[i]));
  }
}

/// Row by row what the CPU makes of a weight.
std::vector<float> rows_of(Backend& cpu, const Weight& weight) {
  const int64_t rows = weight.spec().out_features;
  const int64_t cols = weight.spec().in_features;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < rows; ++i) ids.push_back(i);
  cpu.embed({values.data(), rows, cols, cols}, weight, ids);
  return values;
}

WeightSpec quantized_spec(int64_t out, int64_t in, int bits, int64_t group, bool has_zeros) {
  WeightSpec spec;
  spec.out_features = out;
  spec.in_features = in;
  spec.quantization.bits = bits;
  spec.quantization.group_size = group;
  spec.quantization.has_zeros = has_zeros;
  return spec;
}

/// Random codes, the same in every backend, in blocks of rows that end anywhere.
void write_blocks(Backend& backend, Weight& weight) {
  const WeightSpec& spec = weight.spec();
  const uint32_t mask = (1u << spec.quantization.bits) - 1;
  const int64_t size = spec.quantization.group_size;
  const int64_t groups = (spec.in_features + size - 1) / size;
  constexpr int64_t kRows = 64;  // threads share no panel of the CPU's
  const int64_t parts = (spec.out_features + kRows - 1) / kRows;
  backend.parallel(groups * parts, [&](int64_t index) {
    const int64_t group = index / parts;
    const int64_t end = std::min((index % parts + 1) * kRows, spec.out_features);
    int64_t first = index % parts * kRows;
    const auto inputs = static_cast<size_t>(std::min(size, spec.in_features - group * size));
    for (const int64_t border : {first + 17, first + 40, end}) {
      const auto rows = static_cast<size_t>(std::min(border, end) - first);
      if (rows == 0) continue;
      const auto seed = static_cast<uint32_t>(group * spec.out_features + first);
      std::vector<uint8_t> codes(inputs * rows), zeros(rows);
      std::vector<uint16_t> scales(rows);
      for (size_t n = 0; n < rows; ++n) {
        const auto at = seed + static_cast<uint32_t>(n);
        scales[n] = kernels::f32_to_f16(static_cast<float>(1 + random_word(at) % 1000) / 16384.f);
        zeros[n] = static_cast<uint8_t>(random_word(at + 7) & mask);
        for (size_t k = 0; k < inputs; ++k) {
          codes[k * rows + n] =
              static_cast<uint8_t>(random_word(at * 512 + static_cast<uint32_t>(k)) & mask);
        }
      }
      backend.write_quantized(
          weight, {group, first, static_cast<int64_t>(rows), codes.data(), scales.data(),
                   spec.quantization.has_zeros ? zeros.data() : nullptr});
      first += static_cast<int64_t>(rows);
    }
  });
}

}  // namespace

TEST(recorded_layers_have_the_numbers_of_the_reference_bit_for_bit) {
  const auto checkpoint = Checkpoint::open({recorded_quantized("layers.safetensors")});
  int loaded = 0;
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const RecordedLayer& layer : recorded_layers()) {
      WeightLoader loader(*checkpoint, *backend, {}, nullptr, layer.format);
      const std::vector<TensorPart> parts = {
          {layer.name + ".weight", {layer.out_features, layer.in_features}}};
      if (layer.in_features % 8 != 0) {
        const std::string message = CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED", loader.matrix(parts));
        CHECK(message.find("device 'cpu'") != std::string::npos);
        continue;
      }
      const auto weight = loader.matrix(parts);
      loader.run({}, nullptr);
      check_numbers(*backend, *weight, type, read_floats(*checkpoint, layer.name + ".matrix"),
                    layer.name);
      ++loaded;
    }
  }
  CHECK_EQ(loaded, 2 * 15);
}

TEST(blocks_of_any_rows_become_the_matrix_that_the_cpu_has) {
  struct Shape {
    WeightSpec spec;
    int64_t pair_distance = 0;
    int segments = 1;
    bool is_ordered = true;
  };
  const Shape shapes[] = {
      {quantized_spec(200, 256, 4, 32, true), 16},       // heads of 32
      {quantized_spec(256, 384, 4, 128, true), 64},      // heads of 128
      {quantized_spec(144, 264, 4, 32, false), 72},      // a gate and what it lets through
      {quantized_spec(72, 1024, 4, 64, true), 0, 8},     // segments of two groups
      {quantized_spec(100, 1152, 8, 128, true), 50, 1},  // no whole tiles
      {quantized_spec(96, 320, 8, 128, false), 0, 1, false},
      {quantized_spec(24, 160, 4, 32, true), 12, 1, false},
  };
  const auto cpu = create_cpu_backend({2, ""});
  const auto cuda = cuda_backend(Half::kBf16);
  for (const Shape& shape : shapes) {
    WeightSpec spec = shape.spec;
    spec.pair_distance = shape.pair_distance;
    spec.segments = shape.segments;
    if (!shape.is_ordered) {
      for (int64_t k = 0; k < spec.in_features; ++k) {
        spec.input_order.push_back(static_cast<int32_t>(k * 77 % spec.in_features));
      }
    }
    const auto expected = cpu->create_weight(spec);
    write_blocks(*cpu, *expected);
    const auto weight = cuda->create_weight(spec);
    write_blocks(*cuda, *weight);
    check_numbers(*cuda, *weight, Half::kBf16, rows_of(*cpu, *expected),
                  describe(spec.out_features, " x ", spec.in_features));
  }
}

TEST(rows_become_the_codes_that_the_cpu_makes_of_them) {
  const auto cpu = create_cpu_backend({2, ""});
  for (const Half type : kHalves) {
    const auto cuda = cuda_backend(type);
    for (const auto& [bits, group, rows, cols] :
         {std::tuple<int, int64_t, int64_t, int64_t>{8, 128, 90, 576}, {4, 32, 70, 288}}) {
      const WeightSpec spec = quantized_spec(rows, cols, bits, group, false);
      const std::vector<float> values = random_values(static_cast<size_t>(rows * cols), 3);
      const std::vector<uint16_t> halves = narrow(values, Half::kBf16);
      const auto write = [&](Backend& backend, Weight& weight) {
        constexpr int64_t kPart = Backend::kWeightRowAlignment;
        backend.parallel((rows + kPart - 1) / kPart, [&](int64_t part) {
          const int64_t first = part * kPart;
          backend.write_weight(weight, first, std::min(kPart, rows - first),
                               &halves[static_cast<size_t>(first * cols)], DType::kBF16);
        });
      };
      const auto expected = cpu->create_weight(spec);
      write(*cpu, *expected);
      const auto weight = cuda->create_weight(spec);
      write(*cuda, *weight);
      const std::vector<float> numbers = rows_of(*cpu, *expected);
      check_numbers(*cuda, *weight, type, numbers, describe(bits, " bits"));
      if (bits != 8) continue;
      const std::vector<int32_t> ids = {static_cast<int32_t>(rows) - 1, 0, 41};
      const OnDevice out(*cuda, 3, cols, DType::kF32);
      cuda->embed(out.tensor(), *weight, ids);
      const std::vector<float> looked_up = out.values();
      for (size_t i = 0; i < ids.size(); ++i) {
        CHECK(rows_of(looked_up, cols, static_cast<int64_t>(i), 1) ==
              rows_of(numbers, cols, ids[i], 1));
      }
    }
  }
}

// cuBLASLt has the same matrix in both cases.
TEST(biases_and_activations_follow_as_they_do_with_the_dequantised_matrix) {
  constexpr int64_t kInner = 40, kIn = 64;
  const Half type = Half::kBf16;
  const auto cpu = create_cpu_backend({2, ""});
  const auto cuda = cuda_backend(type);
  WeightSpec spec = quantized_spec(2 * kInner, kIn, 4, 32, true);
  spec.pair_distance = kInner;
  const auto reference = cpu->create_weight(spec);
  write_blocks(*cpu, *reference);
  const std::vector<float> numbers = rows_of(*cpu, *reference);
  const auto dense = weight_of(*cuda, numbers, kIn, type);
  const auto quantized = cuda->create_weight(spec);
  write_blocks(*cuda, *quantized);
  const std::vector<float> bias = random_values(2 * kInner, 5);
  const auto device_bias = buffer_of(*cuda, bias);
  for (const int64_t rows : {1, 8, 9, 40}) {
    const auto count = static_cast<size_t>(rows);
    const std::vector<float> x = random_halves(count * kIn, 6, type);
    const std::vector<float> sums = multiply(*cuda, *quantized, x, type, bias);
    CHECK(sums == multiply(*cuda, *dense, x, type, bias));
    CHECK(sums != multiply(*cuda, *quantized, x, type));
    const OnDevice input(*cuda, x, kIn, DType::kBF16);
    std::vector<std::vector<float>> gated;
    for (const Weight* weight : {quantized.get(), dense.get()}) {
      const OnDevice out(*cuda, rows, kInner, DType::kBF16);
      LinearOptions options;
      options.bias = device_bias.get();
      options.activation = Activation::kSwiGlu;
      cuda->linear(out.tensor(), input.tensor(), *weight, options);
      gated.push_back(out.values());
    }
    CHECK(gated[0] == gated[1]);
  }
}

TEST(recorded_steps_do_not_use_memory_that_a_larger_matrix_left) {
  const Half type = Half::kBf16;
  const auto cuda = cuda_backend(type);
  const auto small = cuda->create_weight(quantized_spec(64, 64, 8, 32, true));
  const auto large = cuda->create_weight(quantized_spec(256, 512, 8, 128, false));
  write_blocks(*cuda, *small);
  write_blocks(*cuda, *large);
  const std::vector<float> bias = random_values(64, 1);
  const auto device_bias = buffer_of(*cuda, bias);
  const OnDevice input(*cuda, random_values(64, 2), 64, DType::kBF16);
  const OnDevice output(*cuda, 1, 64, DType::kBF16);
  const std::vector<int32_t> blocks = {0};
  const SequenceSpan span{0, 1, 0, blocks};
  const auto batch = cuda->create_sequence_batch(8, 1);
  int calls = 0;
  // A product with a bias takes the dequantised matrix for a single row too.
  const auto step = [&] {
    batch->assign({&span, 1});
    cuda->run_step(*batch, true, [&] {
      ++calls;
      LinearOptions options;
      options.bias = device_bias.get();
      cuda->linear(output.tensor(), input.tensor(), *small, options);
    });
    return output.values();
  };
  const std::vector<float> expected = step();
  for (int i = 0; i < 2; ++i) CHECK(step() == expected);
  CHECK_EQ(calls, 2);  // recorded the second time, repeated the third

  multiply(*cuda, *large, random_halves(9 * 512, 3, type), type);
  // Where the small matrix was dequantised to; nothing else is of this size.
  const std::vector<float> mine = random_halves(64 * 64, 4, type);
  const OnDevice taken(*cuda, mine, 64, DType::kBF16);
  for (int i = 0; i < 3; ++i) CHECK(step() == expected);
  CHECK_EQ(calls, 4);
  CHECK(taken.values() == mine);
}

// ---- loading that ends early ----

TEST(matrices_that_are_given_up_while_they_are_read_leave_nothing_behind) {
  const auto cuda = cuda_backend(Half::kBf16);
  const TempFolder folder;
  constexpr int64_t kOut = 1024, kIn = 8192;
  const auto zeros = [](const char* name, const char* dtype, int64_t rows, int64_t cols) {
    const int64_t bytes = rows * cols * (dtype[0] == 'F' ? 2 : 4);
    return StoredTensor{name, dtype, {rows, cols}, std::string(static_cast<size_t>(bytes), '\0')};
  };
  write_safetensors(folder.path("m"), {zeros("m.qweight", "I32", kIn / 8, kOut),
                                       zeros("m.qzeros", "I32", kIn / 128, kOut / 8),
                                       zeros("m.scales", "F16", kIn / 128, kOut)});
  const auto checkpoint = Checkpoint::open({folder.path("m")});
  const StoredQuantization format{StoredQuantization::Method::kGptq, 4, 128, true};
  const int64_t before = cuda->available_bytes();
  for (const bool is_cancelled : {true, false}) {
    WeightLoader loader(*checkpoint, *cuda, {}, nullptr, format);
    const auto weight = loader.matrix({{"m.weight", {kOut, kIn}}});
    CHECK(cuda->available_bytes() <= before - kOut * kIn / 2);
    CancellationFlag cancellation;
    bool was_cancelled = false;
    try {
      loader.run(
          [&](const LoadProgress& progress) {
            if (is_cancelled && progress.loaded_bytes > 0) cancellation.cancel();
          },
          &cancellation);
    } catch (const Cancelled&) {
      was_cancelled = true;
    }
    CHECK_EQ(was_cancelled, is_cancelled);
  }
  CHECK(cuda->available_bytes() >= before - (int64_t{2} << 20));  // small blocks share a chunk
}

TEST(a_matrix_that_the_device_has_no_room_for_is_refused_and_the_next_one_goes_on) {
  CHECK(kIsLimited);
  const auto cuda = cuda_backend(Half::kBf16);
  constexpr int64_t kIn = 8192;
  const int64_t rows = cuda->available_bytes() / kIn + 64;
  const std::string message = CHECK_ERROR(
      "ERR_OUT_OF_MEMORY", cuda->create_weight(quantized_spec(rows, kIn, 8, 128, false)));
  CHECK(message.find("the model's weights needs") != std::string::npos);
  const auto weight = cuda->create_weight(quantized_spec(64, 64, 8, 32, false));
  write_blocks(*cuda, *weight);
  const auto cpu = create_cpu_backend({1, ""});
  const auto expected = cpu->create_weight(quantized_spec(64, 64, 8, 32, false));
  write_blocks(*cpu, *expected);
  check_numbers(*cuda, *weight, Half::kBf16, rows_of(*cpu, *expected), "after it");
}

TEST(blocks_that_do_not_belong_to_the_matrix_are_refused) {
  const auto cuda = cuda_backend(Half::kFp16);
  const auto weight = cuda->create_weight(quantized_spec(16, 64, 8, 32, false));
  const std::vector<uint8_t> codes(32 * 16), zeros(16);
  const std::vector<uint16_t> scales(16);
  const auto refuse = [&](const QuantizedBlock& block, Weight& into) {
    CHECK_ERROR("ERR_INTERNAL", cuda->write_quantized(into, block));
  };
  refuse({2, 0, 16, codes.data(), scales.data(), nullptr}, *weight);
  refuse({-1, 0, 16, codes.data(), scales.data(), nullptr}, *weight);
  refuse({0, 1, 16, codes.data(), scales.data(), nullptr}, *weight);
  refuse({0, -1, 1, codes.data(), scales.data(), nullptr}, *weight);
  refuse({0, 0, 16, codes.data(), scales.data(), zeros.data()}, *weight);
  const auto dense = cuda->create_weight({16, 64, DType::kF16});
  refuse({0, 0, 16, codes.data(), scales.data(), nullptr}, *dense);
  WeightSpec wrong = quantized_spec(16, 64, 8, 32, false);
  wrong.input_order.assign(63, 0);
  CHECK_ERROR("ERR_INTERNAL", cuda->create_weight(wrong));
  wrong.input_order.assign(64, 64);
  CHECK_ERROR("ERR_INTERNAL", cuda->create_weight(wrong));
}
