// The backend as the model uses it: what does not change an answer, and what is refused. That the
// numbers themselves are right is tested in test/native/kernels.

#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/batch_of.h"
#include "check.h"
#include "kernels/cpu/math.h"
#include "kernels/support.h"

namespace qvl::test {

// Those whose bits are one another's, the scalar one first.
std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const kernels::KernelTable* table : kernels::available_kernels()) {
    if (table->has_scalar_bits) names.emplace_back(table->name);
  }
  std::reverse(names.begin(), names.end());
  return names;
}

// Every instruction set with 1, 2 and 3 threads; the first is the reference of the others.
std::vector<std::unique_ptr<Backend>> all_backends() {
  std::vector<std::unique_ptr<Backend>> backends;
  for (const std::string& name : instruction_sets()) {
    for (const int threads : {1, 2, 3}) backends.push_back(create_cpu_backend({threads, name}));
  }
  return backends;
}

Tensor view(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}

std::unique_ptr<Buffer> buffer_of(Backend& backend, const std::vector<float>& values) {
  auto buffer = backend.allocate(values.size() * sizeof(float));
  backend.upload(buffer->data(), values.data(), values.size() * sizeof(float));
  return buffer;
}

TEST(the_device_says_what_it_is) {
  const auto backend = create_cpu_backend({2, "scalar"});
  CHECK_EQ(backend->device().kind, "cpu");
  CHECK_EQ(backend->device().instruction_set, "scalar");
  CHECK_EQ(backend->device().threads, 2);
  CHECK(!backend->device().name.empty());
  CHECK(create_cpu_backend({})->device().threads >= 1);
  CHECK_EQ(create_cpu_backend({})->device().instruction_set,
           std::string(kernels::available_kernels().front()->name));
}

TEST(an_unknown_instruction_set_is_refused_with_those_that_exist) {
  const std::string message =
      CHECK_ERROR("ERR_BACKEND_UNAVAILABLE", create_cpu_backend({1, "mmx"}));
  CHECK(message.find("\"mmx\"") != std::string::npos);
  CHECK(message.find("\"scalar\"") != std::string::npos);
}

TEST(linear_layers_are_the_same_on_every_backend_and_for_any_number_of_rows) {
  constexpr int64_t kMost = 150;
  constexpr int64_t kIn = 64;
  constexpr int64_t kOut = 200;
  std::vector<float> x = random_floats(kMost * kIn, 1);
  const std::vector<float> w = random_floats(kOut * kIn, 2);
  const std::vector<float> bias_values = random_floats(kOut, 3);
  std::vector<float> residual = random_floats(kMost * kOut, 4);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int segments : {1, 8}) {
      std::vector<float> reference;
      for (const auto& backend : all_backends()) {
        auto weight = backend->create_weight({kOut, kIn, dtype, segments});
        backend->write_weight(*weight, 0, kOut, w.data(), DType::kF32);
        const auto bias = buffer_of(*backend, bias_values);
        for (const int64_t rows :
             {kMost, int64_t{1}, int64_t{2}, int64_t{5}, int64_t{16}, int64_t{33}, int64_t{37}}) {
          const Tensor rest = view(residual, rows, kOut);
          std::vector<float> out(static_cast<size_t>(rows * kOut));
          backend->linear(view(out, rows, kOut), view(x, rows, kIn), *weight,
                          {bias.get(), &rest, Activation::kQuickGelu});
          if (reference.empty()) reference = out;
          CHECK(std::memcmp(out.data(), reference.data(), out.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST(weights_can_be_written_in_parts_by_several_threads) {
  constexpr int64_t kRows = 100;
  constexpr int64_t kCols = 33;
  const std::vector<float> values = random_floats(kRows * kCols, 1);
  const auto backend = create_cpu_backend({3, ""});
  auto weight = backend->create_weight({kRows, kCols, DType::kBF16, 1});
  const std::vector<char> rows = as_format(values, kernels::Format::kBF16);
  const int64_t parts = (kRows + Backend::kWeightRowAlignment - 1) / Backend::kWeightRowAlignment;
  backend->parallel(parts, [&](int64_t part) {
    const int64_t first = part * Backend::kWeightRowAlignment;
    const int64_t count = std::min(Backend::kWeightRowAlignment, kRows - first);
    backend->write_weight(*weight, first, count, rows.data() + first * kCols * 2, DType::kBF16);
  });
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < kRows; ++i) ids.push_back(static_cast<int32_t>(kRows) - 1 - i);
  std::vector<float> out(static_cast<size_t>(kRows * kCols));
  backend->embed(view(out, kRows, kCols), *weight, ids);
  const std::vector<float> stored = as_floats(rows, kernels::Format::kBF16);
  for (size_t i = 0; i < ids.size(); ++i) {
    CHECK(std::memcmp(&out[i * kCols], &stored[static_cast<size_t>(ids[i]) * kCols],
                      kCols * sizeof(float)) == 0);
  }
}

TEST(rows_can_be_scattered) {
  const auto backend = create_cpu_backend({2, ""});
  std::vector<float> from = random_floats(4 * 6, 1);
  std::vector<float> to(5 * 6);
  const int32_t to_rows[] = {4, 0};
  const int32_t from_rows[] = {1, 3};
  backend->copy_rows(view(to, 5, 6), to_rows, view(from, 4, 6), from_rows);
  for (size_t i = 0; i < 6; ++i) {
    CHECK_EQ(to[4 * 6 + i], from[1 * 6 + i]);
    CHECK_EQ(to[i], from[3 * 6 + i]);
    CHECK_EQ(to[6 + i], 0.0f);
  }
}

TEST(sets_with_bits_of_their_own_have_them_for_any_number_of_threads_and_rows) {
  constexpr int64_t kMost = 150;
  constexpr int64_t kIn = 64;
  constexpr int64_t kOut = 200;
  std::vector<float> x = random_floats(kMost * kIn, 1);
  const std::vector<float> w = random_floats(kOut * kIn, 2);
  for (const kernels::KernelTable* table : kernels::available_kernels()) {
    if (table->has_scalar_bits) continue;
    std::vector<float> reference;
    for (const int threads : {1, 2, 3}) {
      const auto backend = create_cpu_backend({threads, table->name});
      const auto weight = backend->create_weight({kOut, kIn, DType::kBF16, 8});
      backend->write_weight(*weight, 0, kOut, w.data(), DType::kF32);
      for (const int64_t rows : {kMost, int64_t{40}, int64_t{7}, int64_t{1}}) {
        std::vector<float> out(static_cast<size_t>(rows * kOut));
        backend->linear(view(out, rows, kOut), view(x, rows, kIn), *weight, {});
        if (reference.empty()) reference = out;
        CHECK(std::memcmp(out.data(), reference.data(), out.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST(swiglu_is_the_gate_times_what_it_lets_through_whatever_the_width) {
  constexpr int64_t kIn = 48;
  for (const int64_t width : {32, 96, 37}) {  // in panels, and not
    const std::vector<float> w = random_floats(2 * width * kIn, 1);
    for (const int64_t rows : {1, 5, 40, 150}) {
      std::vector<float> x = random_floats(rows * kIn, 2);
      for (const auto& backend : all_backends()) {
        const auto weight = backend->create_weight({2 * width, kIn, DType::kF32, 1});
        backend->write_weight(*weight, 0, 2 * width, w.data(), DType::kF32);
        std::vector<float> apart(static_cast<size_t>(rows * 2 * width));
        backend->linear(view(apart, rows, 2 * width), view(x, rows, kIn), *weight, {});
        std::vector<float> expected(static_cast<size_t>(rows * width));
        for (int64_t row = 0; row < rows; ++row) {
          const float* gate = &apart[static_cast<size_t>(row * 2 * width)];
          for (int64_t i = 0; i < width; ++i) {
            expected[static_cast<size_t>(row * width + i)] =
                kernels::silu(gate[i]) * gate[width + i];
          }
        }
        std::vector<float> out(expected.size());
        backend->linear(view(out, rows, width), view(x, rows, kIn), *weight,
                        {nullptr, nullptr, Activation::kSwiGlu});
        CHECK(same_bits(out, expected));
      }
    }
  }
}

TEST(row_operations_are_the_same_on_every_backend) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kCols = 72;
  const std::vector<float> weight_values = random_floats(kCols, 1);
  const std::vector<float> bias_values = random_floats(kCols, 2);
  std::vector<float> x = random_floats(kRows * 2 * kCols, 3);
  std::vector<float> angles = random_floats(kRows * kCols / 6, 4);
  std::vector<float> reference;
  for (const auto& backend : all_backends()) {
    const auto weight = buffer_of(*backend, weight_values);
    const auto bias = buffer_of(*backend, bias_values);
    std::vector<float> out(static_cast<size_t>(3 * kRows * kCols));
    const Tensor all = view(out, 3 * kRows, kCols);
    const Tensor in = {x.data(), kRows, kCols, 2 * kCols};
    backend->rms_norm(all.slice(0, kRows), in, *weight, 1e-6f);
    backend->layer_norm(all.slice(kRows, kRows), in, *weight, *bias, 1e-6f);
    std::copy_n(x.begin(), kRows * kCols, out.begin() + 2 * kRows * kCols);
    backend->rope(all.slice(2 * kRows, kRows), kCols / 3, view(angles, kRows, kCols / 6),
                  view(angles, kRows, kCols / 6));
    if (reference.empty()) reference = out;
    CHECK(same_bits(out, reference));
  }
}

// A step's q, k, v and the caches of several sequences.
constexpr int64_t kKvHeads = 2;
constexpr int64_t kGroup = 3;
constexpr int64_t kDim = 20;
constexpr int64_t kTokens = 75;
constexpr int64_t kQCols = kKvHeads * kGroup * kDim;
constexpr int64_t kKvCols = kKvHeads * kDim;

struct Sequence {
  std::vector<float> q, k, v;
  std::vector<int32_t> blocks;
  std::vector<float> out;

  Sequence(uint32_t seed, std::vector<int32_t> block_table)
      : q(random_floats(kTokens * kQCols, seed)),
        k(random_floats(kTokens * kKvCols, seed + 1)),
        v(random_floats(kTokens * kKvCols, seed + 2)),
        blocks(std::move(block_table)),
        out(q.size()) {}
};

// Appends and attends tokens [from[i], to[i]) of each sequence in one ragged step.
void step(Backend& backend, KvCache& cache, const std::vector<Sequence*>& sequences,
          const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
  std::vector<SequenceSpan> spans;
  int64_t rows = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto [from, to] = ranges[i];
    const Sequence& s = *sequences[i];
    q.insert(q.end(), s.q.begin() + from * kQCols, s.q.begin() + to * kQCols);
    k.insert(k.end(), s.k.begin() + from * kKvCols, s.k.begin() + to * kKvCols);
    v.insert(v.end(), s.v.begin() + from * kKvCols, s.v.begin() + to * kKvCols);
    spans.push_back({rows, to - from, from, s.blocks});
    rows += to - from;
  }
  std::vector<float> out(q.size());
  const auto batch = batch_of(backend, cache, spans);
  backend.append_kv(cache, 1, view(k, rows, kKvCols), view(v, rows, kKvCols), *batch);
  backend.attention(view(out, rows, kQCols), view(q, rows, kQCols), cache, 1, *batch, 0.25f);
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::copy_n(out.begin() + spans[i].first_row * kQCols, spans[i].num_tokens * kQCols,
                sequences[i]->out.begin() + ranges[i].first * kQCols);
  }
}

TEST(attention_does_not_depend_on_chunks_neighbours_threads_or_recycled_blocks) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::vector<float> reference;
    for (const auto& backend : all_backends()) {
      const auto cache = backend->create_kv_cache({3, kKvHeads, kDim, 16, dtype});
      Sequence alone(1, {7, 2, 9});
      step(*backend, *cache, {&alone}, {{0, kTokens}});
      if (reference.empty()) reference = alone.out;
      CHECK(same_bits(alone.out, reference));

      // In chunks of several sizes, then token by token, in blocks full of another's NaN.
      Sequence poison(4, {0, 5, 3});
      std::fill(poison.k.begin(), poison.k.end(), NAN);
      std::fill(poison.v.begin(), poison.v.end(), NAN);
      for (const int64_t chunk : {int64_t{40}, int64_t{32}, int64_t{7}, int64_t{1}}) {
        step(*backend, *cache, {&poison}, {{0, kTokens}});
        Sequence chunked(1, poison.blocks);
        for (int64_t from = 0; from < kTokens; from += chunk) {
          step(*backend, *cache, {&chunked}, {{from, std::min(from + chunk, kTokens)}});
        }
        CHECK(same_bits(chunked.out, reference));
      }

      // Beside others: one that prefills, one that decodes.
      Sequence a(1, {4, 6, 8});
      Sequence b(20, {10, 11, 12});
      Sequence c(30, {13, 14, 15});
      step(*backend, *cache, {&c}, {{0, 50}});
      step(*backend, *cache, {&b, &a, &c}, {{0, 13}, {0, 60}, {50, 51}});
      step(*backend, *cache, {&a, &b, &c}, {{60, 61}, {13, 75}, {51, 52}});
      step(*backend, *cache, {&c, &a}, {{52, 60}, {61, kTokens}});
      CHECK(same_bits(a.out, reference));
      Sequence b_alone(20, {10, 11, 12});
      step(*backend, *cache, {&b_alone}, {{0, kTokens}});
      CHECK(same_bits(b.out, b_alone.out));
    }
  }
}

TEST(what_comes_before_attention_is_its_operations_one_by_one) {
  constexpr int64_t kWidth = 24;
  constexpr int64_t kCols = kQCols + 2 * kKvCols;
  const std::vector<float> w = random_floats(kCols * kWidth, 1);
  std::vector<float> angles = random_floats(2 * kTokens * kDim / 2, 2);
  const std::vector<int32_t> first_blocks = {4, 1, 3};
  const std::vector<int32_t> other_blocks = {0, 5, 2};
  // A decode step, and a step of a whole prompt beside a sequence that has some already.
  for (const auto& [count, cached] : {std::pair<int64_t, int64_t>{1, 33}, {kTokens, 10}}) {
    const std::vector<SequenceSpan> spans = {{0, count, 0, first_blocks},
                                             {count, count, cached, other_blocks}};
    const int64_t rows = 2 * count;
    std::vector<float> x = random_floats(rows * kWidth, 3);
    for (const auto& backend : all_backends()) {
      const auto norm = buffer_of(*backend, random_floats(kWidth, 4));
      const auto bias = buffer_of(*backend, random_floats(kCols, 5));
      const auto weight = backend->create_weight({kCols, kWidth, DType::kF32, 1});
      backend->write_weight(*weight, 0, kCols, w.data(), DType::kF32);
      const auto cache = backend->create_kv_cache({2, kKvHeads, kDim, 6, DType::kF32});
      const auto batch = batch_of(*backend, *cache, spans);
      const Tensor cos = view(angles, 2 * kTokens, kDim / 2);
      const auto attended = [&](std::vector<float>& qkv, int64_t layer) {
        std::vector<float> out(static_cast<size_t>(rows * kQCols));
        backend->attention(view(out, rows, kQCols), view(qkv, rows, kCols).columns(0, kQCols),
                           *cache, layer, *batch, 0.25f);
        return out;
      };

      std::vector<float> normed(x.size());
      std::vector<float> apart(static_cast<size_t>(rows * kCols));
      backend->rms_norm(view(normed, rows, kWidth), view(x, rows, kWidth), *norm, 1e-6f);
      backend->linear(view(apart, rows, kCols), view(normed, rows, kWidth), *weight, {bias.get()});
      const Tensor all = view(apart, rows, kCols);
      backend->rope(all.columns(0, kQCols + kKvCols), kDim, cos, cos);
      backend->append_kv(*cache, 0, all.columns(kQCols, kKvCols),
                         all.columns(kQCols + kKvCols, kKvCols), *batch);
      const std::vector<float> expected = attended(apart, 0);

      std::vector<float> qkv(apart.size());
      const AttentionInput input{
          view(x, rows, kWidth), {norm.get(), 1e-6f}, weight.get(), bias.get(), cos, cos};
      backend->attention_input(view(qkv, rows, kCols), input, *cache, 1, *batch);
      CHECK(same_bits(attended(qkv, 1), expected));
    }
  }
}

TEST(a_trimmed_cache_can_be_used_again) {
  const auto backend = create_cpu_backend({2, ""});
  const auto cache = backend->create_kv_cache({3, kKvHeads, kDim, 16, DType::kF32});
  Sequence before(1, {7, 2, 9});
  step(*backend, *cache, {&before}, {{0, kTokens}});
  cache->trim();
  Sequence after(1, {1, 0, 3});
  step(*backend, *cache, {&after}, {{0, kTokens}});
  CHECK(same_bits(before.out, after.out));
}

TEST(segments_attend_to_themselves_alone_on_every_backend) {
  constexpr int64_t kHeads = 3;
  constexpr int64_t kCols = kHeads * kDim;
  constexpr int64_t kRows = 600;
  constexpr int64_t kUsed = 595;
  // An empty segment, one of a single row, many tiny ones, one of several parts of keys; borders
  // off the block borders; rows behind the last stay as they are.
  const std::vector<int32_t> segments = {0, 33, 33, 34, 36, 39, 43, 48, 54, 61, 590, kUsed};
  std::vector<float> qkv = random_floats(kRows * 3 * kCols, 1);
  const Tensor all = view(qkv, kRows, 3 * kCols);
  std::vector<float> reference;
  for (const auto& backend : all_backends()) {
    std::vector<float> out(static_cast<size_t>(kRows * kCols), -7.0f);
    const auto attend = [&](std::vector<float>& to, std::span<const int32_t> cu_seqlens) {
      backend->segment_attention(view(to, kRows, kCols), all.columns(0, kCols),
                                 all.columns(kCols, kCols), all.columns(2 * kCols, kCols), kDim,
                                 cu_seqlens, 0, 0.25f);
    };
    attend(out, segments);
    if (reference.empty()) reference = out;
    CHECK(same_bits(out, reference));
    for (size_t i = kUsed * kCols; i < out.size(); ++i) CHECK_EQ(out[i], -7.0f);
    for (size_t i = 0; i + 1 < segments.size(); ++i) {
      std::vector<float> alone(out.size());
      attend(alone, std::span(segments).subspan(i, 2));
      const auto first = static_cast<size_t>(segments[i] * kCols);
      const auto count = static_cast<size_t>((segments[i + 1] - segments[i]) * kCols);
      CHECK(std::memcmp(&alone[first], &out[first], count * sizeof(float)) == 0);
    }
    // Some of the queries at a time, across segments and within them.
    std::vector<float> pieces(out.size(), -7.0f);
    int64_t begin = 0;
    for (const int64_t end : {int64_t{1}, int64_t{35}, int64_t{200}, int64_t{201}, kRows}) {
      const Tensor part = view(pieces, kRows, kCols).slice(begin, end - begin);
      backend->segment_attention(part, all.columns(0, kCols).slice(begin, end - begin),
                                 all.columns(kCols, kCols), all.columns(2 * kCols, kCols), kDim,
                                 segments, begin, 0.25f);
      begin = end;
    }
    CHECK(same_bits(pieces, out));
  }
}

TEST(parallel_runs_all_tasks_and_passes_exceptions_on) {
  const auto backend = create_cpu_backend({2, ""});
  std::vector<int> runs(40);
  backend->parallel(40, [&](int64_t task) { ++runs[static_cast<size_t>(task)]; });
  CHECK_EQ(std::count(runs.begin(), runs.end(), 1), 40);
  CHECK_ERROR("ERR_TEST", backend->parallel(3, [](int64_t task) {
    if (task == 1) throw Error("ERR_TEST", "task 1");
  }));
}

TEST(sizes_that_no_machine_has_are_refused) {
  const auto backend = create_cpu_backend({1, ""});
  CHECK_ERROR("ERR_OUT_OF_MEMORY", backend->allocate(size_t{1} << 50));
  CHECK_ERROR("ERR_OUT_OF_MEMORY",
              backend->create_weight({int64_t{1} << 40, int64_t{1} << 40, DType::kBF16, 1}));
  CHECK_ERROR("ERR_OUT_OF_MEMORY", backend->create_kv_cache({int64_t{1} << 30, int64_t{1} << 30,
                                                             128, int64_t{1} << 30, DType::kF32}));
}

TEST(calls_that_break_the_interface_are_refused) {
  const auto backend = create_cpu_backend({1, ""});
  std::vector<float> data(1000);
  auto weight = backend->create_weight({32, 8, DType::kF32, 1});
  CHECK_ERROR("ERR_INTERNAL", backend->linear(view(data, 2, 32), view(data, 2, 7), *weight, {}));
  CHECK_ERROR("ERR_INTERNAL", backend->write_weight(*weight, 16, 17, data.data(), DType::kF32));
  const int32_t bad_id = 32;
  CHECK_ERROR("ERR_INTERNAL", backend->embed(view(data, 1, 8), *weight, {&bad_id, 1}));
  CHECK_ERROR("ERR_INTERNAL", backend->create_weight({32, 9, DType::kF32, 2}));
  const auto cache = backend->create_kv_cache({1, 1, 8, 2, DType::kF32});
  const int32_t bad_block = 2;
  const SequenceSpan span = {0, 1, 0, {&bad_block, 1}};
  const auto batch = batch_of(*backend, *cache, {span});
  CHECK_ERROR("ERR_INTERNAL",
              backend->append_kv(*cache, 0, view(data, 1, 8), view(data, 1, 8), *batch));
}

}  // namespace qvl::test
