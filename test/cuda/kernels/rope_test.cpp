#include "kernels/cuda/rope.h"

#include "kernels/paged_cache.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// Cosines and sines [rows, head_dim / 2] of any angles.
struct Angles {
  std::vector<float> cos, sin;
  Angles(int rows, int head_dim) {
    for (const float angle : random_values(static_cast<size_t>(rows * head_dim / 2), 7, 100.f)) {
      cos.push_back(std::cos(angle));
      sin.push_back(std::sin(angle));
    }
  }
};

/// x [rows, stride] with its first `heads` heads turned.
std::vector<Expected> expected_rope(const std::vector<float>& x, size_t stride, int heads,
                                    int head_dim, const Angles& angles) {
  const auto dim = static_cast<size_t>(head_dim);
  const size_t half = dim / 2;
  const size_t cols = static_cast<size_t>(heads) * dim;
  std::vector<Expected> expected;
  for (size_t row = 0; row < x.size() / stride; ++row) {
    for (size_t column = 0; column < cols; ++column) {
      const size_t i = column % half;
      const size_t lower = row * stride + column / dim * dim + i;
      const double a = x[lower], b = x[lower + half];
      const double c = angles.cos[row * half + i], s = angles.sin[row * half + i];
      // The two products are rounded to F32 on their own.
      expected.push_back({column % dim < half ? a * c - b * s : b * c + a * s,
                          (std::fabs(a) + std::fabs(b)) * 0x1p-23});
    }
  }
  return expected;
}

}  // namespace

TEST(rope_turns_pairs_in_place_and_nothing_else) {
  Gpu gpu;
  constexpr int kRows = 3;
  for (const Half type : kHalves) {
    for (const int head_dim : {16, 32, 64, 80, 128}) {
      for (const int heads : {1, 5, 32}) {
        const auto cols = static_cast<size_t>(heads * head_dim);
        const size_t stride = cols + 24;  // the values, which are not turned
        const Angles angles(kRows, head_dim);
        const std::vector<float> before = random_halves(kRows * stride, 1, type);
        const auto x = gpu.upload(narrow(before, type));
        const auto cos = gpu.upload(angles.cos);
        const auto sin = gpu.upload(angles.sin);
        gpu.launch(kernel_name("rope", type), {kRows}, {kRopeThreads}, 0,
                   RopeParams{x.get(), cos.get(), sin.get(), static_cast<int64_t>(stride),
                              head_dim / 2, heads, head_dim});
        const std::vector<float> after = widen(gpu.download(x), type);
        const std::string where = describe("rope of ", heads, " heads of ", head_dim);
        check_rows(after, stride, expected_rope(before, stride, heads, head_dim, angles), cols,
                   type, where);
        for (size_t i = 0; i < after.size(); ++i) {
          if (i % stride >= cols) CHECK_EQ(after[i], before[i]);
        }
      }
    }
  }
}

TEST(rope_append_turns_queries_and_keys_and_stores_keys_and_values_of_every_sequence) {
  Gpu gpu;
  const Step step({{3, 0}, {1, 31}, {1, 32}, {5, 60}, {34, 17}});
  struct Shape {
    int heads, kv_heads, head_dim;
  };
  for (const Half type : kHalves) {
    for (const auto& [heads, kv_heads, head_dim] :
         {Shape{12, 2, 128}, Shape{28, 4, 128}, Shape{8, 2, 32}, Shape{3, 3, 64}}) {
      const int rotated = heads + kv_heads;
      const size_t stride = static_cast<size_t>((rotated + kv_heads) * head_dim);
      const CacheLayout layout{kv_heads, head_dim};
      const Angles angles(step.num_rows, head_dim);
      const auto rows = static_cast<size_t>(step.num_rows);
      const std::vector<float> before = random_halves(rows * stride, 1, type);
      const DeviceStep device(gpu, step);
      const auto qkv = gpu.upload(narrow(before, type));
      const auto cos = gpu.upload(angles.cos);
      const auto sin = gpu.upload(angles.sin);
      const auto cache = gpu.filled<uint16_t>(layout.size(step), 0xab);
      gpu.launch(
          kernel_name("rope_append", type), {static_cast<unsigned>(rows)}, {kRopeThreads}, 0,
          RopeAppendParams{qkv.get(), cos.get(), sin.get(), cache.get(), device.table(),
                           static_cast<int64_t>(stride), head_dim / 2, heads, kv_heads, head_dim});
      const std::vector<uint16_t> after = gpu.download(qkv);
      const auto cols = static_cast<size_t>(rotated * head_dim);
      check_rows(widen(after, type), stride,
                 expected_rope(before, stride, rotated, head_dim, angles), cols, type,
                 describe("rope_append of ", heads, " and ", kv_heads, " heads of ", head_dim));

      // A row alone is turned to the same bits.
      for (const size_t row : {size_t{1}, rows - 1}) {
        const auto begin = before.begin() + static_cast<std::ptrdiff_t>(row * stride);
        const auto one = gpu.upload(
            narrow(std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(stride)), type));
        const size_t angle = row * static_cast<size_t>(head_dim / 2);
        gpu.launch(kernel_name("rope", type), {1}, {kRopeThreads}, 0,
                   RopeParams{one.get(), cos.get() + angle, sin.get() + angle,
                              static_cast<int64_t>(stride), head_dim / 2, rotated, head_dim});
        const std::vector<uint16_t> alone = gpu.download(one);
        CHECK(std::equal(alone.begin(), alone.end(),
                         after.begin() + static_cast<std::ptrdiff_t>(row * stride)));
      }

      // The cache holds the turned keys and the values as they were, and nothing else is written.
      std::vector<uint16_t> expected(layout.size(step), 0xabab);
      for (size_t row = 0; row < rows; ++row) {
        const auto sequence = static_cast<size_t>(step.row_sequence[row]);
        const int position =
            step.num_cached[sequence] + static_cast<int>(row) - step.first_row[sequence];
        for (int head = 0; head < 2 * kv_heads; ++head) {
          const int kind = head / kv_heads;
          const auto* src = &after[row * stride + static_cast<size_t>((heads + head) * head_dim)];
          if (kind == 1) {
            for (int i = 0; i < head_dim; ++i) {
              CHECK_EQ(widen(src[i], type), before[static_cast<size_t>(src + i - after.data())]);
            }
          }
          std::copy_n(src, head_dim,
                      expected.begin() + static_cast<std::ptrdiff_t>(layout.at(
                                             step, sequence, position, head % kv_heads, kind)));
        }
      }
      CHECK(gpu.download(cache) == expected);
    }
  }
}
