// Device 'cuda' as the model uses it: memory, weights and the operations on rows.

#include <algorithm>
#include <numeric>

#include "backend/on_device.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kEps = 1e-6f;
// The smallest width, the tiny checkpoint's, where a norm gets another warp, and 2B's.
constexpr int64_t kWidths[] = {8, 192, 256, 512, 520, 1536};

/// Rows of different means and sizes, each the same whatever their number.
std::vector<float> some_rows(int64_t rows, int64_t cols) {
  std::vector<float> values;
  for (int64_t row = 0; row < rows; ++row) {
    const auto more = random_values(static_cast<size_t>(cols), 10 + static_cast<unsigned>(row),
                                    std::ldexp(1.f, static_cast<int>(row % 5) - 2));
    for (const float value : more) values.push_back(value + static_cast<float>(row % 3));
  }
  return values;
}

std::vector<Expected> expected_norm(const std::vector<float>& x, const std::vector<float>& weight,
                                    const std::vector<float>* bias) {
  const size_t cols = weight.size();
  std::vector<Expected> expected;
  for (size_t first = 0; first < x.size(); first += cols) {
    double mean = 0;
    for (size_t i = 0; bias != nullptr && i < cols; ++i) mean += double{x[first + i]};
    mean /= static_cast<double>(cols);
    double squares = 0;
    for (size_t i = 0; i < cols; ++i) squares += std::pow(double{x[first + i]} - mean, 2);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + double{kEps});
    for (size_t i = 0; i < cols; ++i) {
      const double normal = (double{x[first + i]} - mean) * scale * double{weight[i]};
      expected.push_back({normal + (bias != nullptr ? double{(*bias)[i]} : 0), 4e-6});
    }
  }
  return expected;
}

}  // namespace

TEST(the_device_says_what_it_is) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    CHECK_EQ(backend->device().kind, "cuda");
    CHECK(backend->device().instruction_set.starts_with("sm_"));
    CHECK(!backend->device().name.empty());
    CHECK(backend->device().memory_bytes > 0);
    CHECK(backend->available_bytes() <= backend->device().memory_bytes);
    CHECK(backend->activation_dtype() == dtype_of(type));
    CHECK(backend->weight_dtype(DType::kF32) == dtype_of(type));
  }
  CHECK_ERROR("ERR_BACKEND_UNAVAILABLE", create_cuda_backend({99, DType::kBF16}));
  CHECK_ERROR("ERR_INTERNAL", create_cuda_backend({0, DType::kF32}));
}

TEST(memory_holds_what_was_uploaded_to_it) {
  const auto backend = cuda_backend(Half::kBf16);
  std::vector<char> bytes(100'003);
  std::iota(bytes.begin(), bytes.end(), char{0});
  const auto buffer = backend->allocate(bytes.size());
  CHECK_EQ(buffer->size_bytes(), bytes.size());
  backend->upload(buffer->data(), bytes.data(), bytes.size());
  // In place of a part in the middle, while the first upload may be under way.
  auto* const middle = static_cast<char*>(buffer->data()) + 50'001;
  const std::vector<char> other(777, 'x');
  backend->upload(middle, other.data(), other.size());
  backend->upload(middle, nullptr, 0);
  std::vector<char> back(bytes.size());
  backend->download(back.data(), buffer->data(), back.size());
  std::copy(other.begin(), other.end(), bytes.begin() + 50'001);
  CHECK(back == bytes);
}

TEST(numbers_of_files_are_widened_wherever_they_lie) {
  const auto backend = cuda_backend(Half::kFp16);
  const std::vector<float> values = {1.5f, -2.f, 0.f, 65504.f, -0x1p-14f};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<char> file(1 + values.size() * dtype_size(dtype));
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits = narrow(values[i], dtype == DType::kBF16 ? Half::kBf16 : Half::kFp16);
      const void* source = dtype == DType::kF32 ? static_cast<const void*>(&values[i]) : &bits;
      std::memcpy(&file[1 + i * dtype_size(dtype)], source, dtype_size(dtype));
    }
    const OnDevice out(*backend, 1, static_cast<int64_t>(values.size()), DType::kF32);
    backend->upload_f32(out.tensor().data, &file[1], dtype, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) {
      // 65504 is no number of bf16.
      const float stored =
          dtype == DType::kBF16 ? widen(narrow(values[i], Half::kBf16), Half::kBf16) : values[i];
      CHECK_EQ(out.values()[i], stored);
    }
  }
}

TEST(weights_of_any_type_are_written_in_parts_by_several_threads_and_embedded) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{100, 8}, {70, 520}, {3, 1536}}) {
      const std::vector<float> values = random_values(static_cast<size_t>(rows * cols), 1);
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
        const Half file_type = dtype == DType::kBF16 ? Half::kBf16 : Half::kFp16;
        const std::vector<uint16_t> halves = narrow(values, file_type);
        const auto weight = backend->create_weight({rows, cols, dtype_of(type)});
        constexpr int64_t kPart = Backend::kWeightRowAlignment;
        backend->parallel((rows + kPart - 1) / kPart, [&](int64_t part) {
          const int64_t first = part * kPart;
          const void* source = dtype == DType::kF32
                                   ? static_cast<const void*>(values.data() + first * cols)
                                   : halves.data() + first * cols;
          backend->write_weight(*weight, first, std::min(kPart, rows - first), source, dtype);
        });
        const auto last = static_cast<int32_t>(rows - 1);
        const std::vector<int32_t> ids = {last, 0, last, 1, 2};
        const OnDevice out(*backend, 5, cols, DType::kF32, /*padding=*/4);
        backend->embed(out.tensor(), *weight, ids);
        const std::vector<float> stored = dtype == DType::kF32 ? values : widen(halves, file_type);
        std::vector<float> expected;
        for (const int32_t id : ids) {
          const std::vector<float> row = rows_of(stored, cols, id, 1);
          const std::vector<float> kept = widen(narrow(row, type), type);
          expected.insert(expected.end(), kept.begin(), kept.end());
        }
        CHECK(same_bits(out.values(), expected));
      }
    }
  }
}

TEST(rows_are_copied_to_where_they_are_wanted_and_no_other_is_touched) {
  const auto backend = cuda_backend(Half::kBf16);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int64_t cols : {int64_t{8}, int64_t{1536}}) {
      const std::vector<float> values =
          random_halves(static_cast<size_t>(4 * cols), 1, Half::kBf16);
      const OnDevice from(*backend, values, cols, dtype, 8);
      const OnDevice to(*backend, 5, cols, dtype, 16);
      const int32_t to_rows[] = {4, 0, 1};
      const int32_t from_rows[] = {1, 3, 1};
      backend->copy_rows(to.tensor(), to_rows, from.tensor(), from_rows);
      const std::vector<float> copied = to.values();
      CHECK(same_bits(rows_of(copied, cols, 4, 1), rows_of(values, cols, 1, 1)));
      CHECK(same_bits(rows_of(copied, cols, 0, 1), rows_of(values, cols, 3, 1)));
      CHECK(same_bits(rows_of(copied, cols, 1, 1), rows_of(values, cols, 1, 1)));
      for (const float value : rows_of(copied, cols, 2, 2)) CHECK(std::isnan(value));
    }
  }
}

TEST(norms_are_those_of_double_precision_and_of_the_row_alone) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const int64_t cols : kWidths) {
      constexpr int64_t kRows = 7;
      const std::vector<float> x = some_rows(kRows, cols);
      const std::vector<float> weight = random_values(static_cast<size_t>(cols), 1);
      const std::vector<float> bias = random_values(static_cast<size_t>(cols), 2);
      const auto device_weight = buffer_of(*backend, weight);
      const auto device_bias = buffer_of(*backend, bias);
      for (const bool is_layer_norm : {false, true}) {
        const auto norm = [&](const std::vector<float>& rows) {
          const OnDevice in(*backend, rows, cols, DType::kF32, 4);
          const OnDevice out(*backend, in.tensor().rows, cols, dtype_of(type), 8);
          if (is_layer_norm) {
            backend->layer_norm(out.tensor(), in.tensor(), *device_weight, *device_bias, kEps);
          } else {
            backend->rms_norm(out.tensor(), in.tensor(), *device_weight, kEps);
          }
          return out.values();
        };
        const std::vector<float> all = norm(x);
        check_rows(all, static_cast<size_t>(cols),
                   expected_norm(x, weight, is_layer_norm ? &bias : nullptr),
                   static_cast<size_t>(cols), type,
                   describe(name_of(type), is_layer_norm ? " layer_norm " : " rms_norm ", cols));
        for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {3, 1}, {2, 5}}) {
          CHECK(same_bits(norm(rows_of(x, cols, first, count)), rows_of(all, cols, first, count)));
        }
      }
    }
  }
}

TEST(heads_are_rotated_by_the_angles_of_their_row) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const auto& [heads, dim] :
         {std::pair<int64_t, int64_t>{1, 32}, {3, 32}, {2, 64}, {4, 80}, {2, 128}}) {
      constexpr int64_t kRows = 5;
      const int64_t cols = heads * dim;
      const int64_t half = dim / 2;
      const auto x = random_halves(static_cast<size_t>(kRows * cols), 1, type);
      const auto cos = random_values(static_cast<size_t>(kRows * half), 2);
      const auto sin = random_values(static_cast<size_t>(kRows * half), 3);
      const auto rotated = [&](int64_t first, int64_t count) {
        // The middle columns of rows that have more, as queries and keys of a projection are.
        const OnDevice rows(*backend, rows_of(x, cols, first, count), cols, dtype_of(type),
                            2 * dim);
        const OnDevice cosines(*backend, rows_of(cos, half, first, count), half, DType::kF32, 8);
        const OnDevice sines(*backend, rows_of(sin, half, first, count), half, DType::kF32, 8);
        backend->rope(rows.tensor(), dim, cosines.tensor(), sines.tensor());
        return rows.values();
      };
      std::vector<Expected> expected;
      for (int64_t i = 0; i < kRows * cols; ++i) {
        const int64_t in_head = i % dim;
        const auto angle = static_cast<size_t>(i / cols * half + in_head % half);
        const auto at = static_cast<size_t>(i);
        const double other = in_head < half ? -double{x[at + static_cast<size_t>(half)]}
                                            : double{x[at - static_cast<size_t>(half)]};
        expected.push_back({double{x[at]} * double{cos[angle]} + other * double{sin[angle]}, 1e-6});
      }
      const std::vector<float> all = rotated(0, kRows);
      check_rows(all, static_cast<size_t>(cols), expected, static_cast<size_t>(cols), type,
                 describe(name_of(type), " rope of ", heads, " heads of ", dim));
      CHECK(same_bits(rotated(3, 1), rows_of(all, cols, 3, 1)));
    }
  }
}

TEST(operations_on_no_rows_do_nothing) {
  const auto backend = cuda_backend(Half::kBf16);
  const auto weight = weight_of(*backend, std::vector<float>(64), 8, Half::kBf16);
  const auto ones = buffer_of(*backend, std::vector<float>(8, 1.f));
  const Tensor none_f32 = {nullptr, 0, 8, 8, DType::kF32};
  const Tensor none = {nullptr, 0, 8, 8, DType::kBF16};
  backend->embed(none_f32, *weight, {});
  backend->copy_rows(none, {}, none, {});
  backend->rms_norm(none, none_f32, *ones, kEps);
  backend->layer_norm(none, none_f32, *ones, *ones, kEps);
  backend->linear(none, none, *weight, {});
  backend->rope({nullptr, 0, 32, 32, DType::kBF16}, 32, {nullptr, 0, 16, 16}, {nullptr, 0, 16, 16});
  backend->segment_attention({nullptr, 0, 32, 32, DType::kBF16}, {nullptr, 0, 32, 32, DType::kBF16},
                             {nullptr, 0, 32, 32, DType::kBF16}, {nullptr, 0, 32, 32, DType::kBF16},
                             32, std::vector<int32_t>{0}, 0, 1.f);
}

TEST(parallel_runs_all_tasks_and_passes_exceptions_on) {
  const auto backend = cuda_backend(Half::kBf16);
  std::vector<int> runs(40);
  backend->parallel(40, [&](int64_t task) { ++runs[static_cast<size_t>(task)]; });
  CHECK_EQ(std::count(runs.begin(), runs.end(), 1), 40);
  backend->parallel(0, [](int64_t) { throw Error("ERR_TEST", "there is no task"); });
  CHECK_ERROR("ERR_TEST", backend->parallel(3, [](int64_t task) {
    if (task == 1) throw Error("ERR_TEST", "task 1");
  }));
}

TEST(calls_that_break_the_interface_are_refused) {
  const auto backend = cuda_backend(Half::kBf16);
  const auto weight = weight_of(*backend, std::vector<float>(32 * 8), 8, Half::kBf16);
  const OnDevice x(*backend, 2, 8, DType::kBF16);
  const OnDevice narrower(*backend, 2, 7, DType::kBF16);
  const OnDevice out(*backend, 2, 32, DType::kBF16);
  const OnDevice wide(*backend, 2, 8, DType::kF32);
  const auto short_weight = buffer_of(*backend, std::vector<float>(7));
  CHECK_ERROR("ERR_INTERNAL", backend->linear(out.tensor(), narrower.tensor(), *weight, {}));
  CHECK_ERROR("ERR_INTERNAL", backend->linear(x.tensor(), x.tensor(), *weight, {}));
  CHECK_ERROR("ERR_INTERNAL", backend->linear(out.tensor(), x.tensor().slice(0, 1), *weight, {}));
  CHECK_ERROR("ERR_INTERNAL",
              backend->linear(out.tensor(), x.tensor(), *weight, {short_weight.get()}));
  CHECK_ERROR("ERR_INTERNAL", backend->write_weight(*weight, 16, 17, nullptr, DType::kF32));
  CHECK_ERROR("ERR_INTERNAL", backend->write_weight(*weight, -1, 1, nullptr, DType::kF32));
  CHECK_ERROR("ERR_INTERNAL", backend->rms_norm(x.tensor(), wide.tensor(), *short_weight, kEps));
  CHECK_ERROR("ERR_INTERNAL", backend->rms_norm(wide.tensor(), wide.tensor(), *short_weight, kEps));
  for (const int32_t id : {-1, 32}) {
    const std::vector<int32_t> ids = {0, id};
    CHECK_ERROR("ERR_INTERNAL", backend->embed(wide.tensor(), *weight, ids));
    const std::vector<int32_t> rows = {0, 1};
    CHECK_ERROR("ERR_INTERNAL", backend->copy_rows(wide.tensor(), ids, wide.tensor(), rows));
    CHECK_ERROR("ERR_INTERNAL", backend->copy_rows(wide.tensor(), rows, wide.tensor(), ids));
  }
  CHECK_ERROR("ERR_INTERNAL", backend->create_weight({0, 8, DType::kBF16}));
  CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED", backend->create_weight({32, 9, DType::kBF16}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", backend->wrap_weight({32, 8, DType::kBF16}, {}, nullptr));
  // And all is in order afterwards.
  backend->linear(out.tensor(), x.tensor(), *weight, {});
  CHECK_EQ(out.values().size(), size_t{64});
}

TEST(memory_that_the_device_does_not_have_is_refused_and_all_goes_on) {
  const auto backend = cuda_backend(Half::kBf16);
  const int64_t before = backend->available_bytes();
  const auto much = static_cast<size_t>(backend->device().memory_bytes) + 1;
  CHECK_ERROR("ERR_OUT_OF_MEMORY", backend->allocate(much));
  CHECK_ERROR("ERR_OUT_OF_MEMORY",
              backend->create_weight({int64_t{1} << 30, int64_t{1} << 20, DType::kBF16}));
  CHECK_ERROR("ERR_OUT_OF_MEMORY", backend->create_kv_cache({80, 8, 128, 1 << 24, DType::kBF16}));
  // More than there are addresses.
  CHECK_ERROR("ERR_OUT_OF_MEMORY",
              backend->create_weight({int64_t{1} << 40, int64_t{1} << 40, DType::kBF16}));
  CHECK_EQ(backend->available_bytes(), before);
  // Half of what there is, again and again: what came back is there for the next.
  for (int i = 0; i < 5; ++i) {
    const auto half = backend->allocate(static_cast<size_t>(before / 2));
    CHECK(backend->available_bytes() < before);
  }
  backend->release_unused();
  CHECK_EQ(backend->available_bytes(), before);
}
