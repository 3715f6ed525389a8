#include <algorithm>
#include <cmath>

#include "check.h"
#include "kernels/support.h"

namespace qvl::test {

using kernels::AttentionArgs;
using kernels::Format;
using kernels::KernelTable;

// One key/value head's cache and queries. Whatever a row may not see is NaN.
struct Scenario {
  int64_t tokens, cached, group, head_dim;
  bool causal;
  Format format;
  std::vector<float> q, k, v;   // q [T, group * D], k and v [cached + T, D]
  std::vector<int32_t> blocks;  // scattered
  std::vector<char> pool;

  Scenario(int64_t tokens_, int64_t cached_, int64_t group_, int64_t head_dim_, bool causal_,
           Format format_)
      : tokens(tokens_),
        cached(cached_),
        group(group_),
        head_dim(head_dim_),
        causal(causal_),
        format(format_) {
    q = random_floats(tokens * group * head_dim, 1);
    k = as_floats(as_format(random_floats(keys() * head_dim, 2), format), format);
    v = as_floats(as_format(random_floats(keys() * head_dim, 3), format), format);
    const int64_t num_blocks = kernels::ceil_div(keys(), kernels::kBlockTokens);
    for (int64_t i = 0; i < num_blocks; ++i) {
      blocks.push_back(static_cast<int32_t>((i * 2 + 1) % (2 * num_blocks + 1)));
    }
    pool.resize(static_cast<size_t>(block_bytes() * (2 * num_blocks + 1)));
    const auto numbers = static_cast<int64_t>(pool.size() / kernels::format_size(format));
    for (int64_t i = 0; i < numbers; ++i) kernels::store(pool.data(), format, i, NAN);
    store(0, keys());
  }

  int64_t keys() const { return cached + tokens; }
  int64_t key_bytes() const {
    return kernels::key_block_elements(head_dim) *
           static_cast<int64_t>(kernels::format_size(format));
  }
  int64_t block_bytes() const {
    return key_bytes() + kernels::value_block_elements(head_dim) *
                             static_cast<int64_t>(kernels::format_size(format));
  }

  void store(int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      char* block =
          pool.data() + blocks[static_cast<size_t>(i / kernels::kBlockTokens)] * block_bytes();
      kernels::store_kv(block, block + key_bytes(), format, head_dim, i % kernels::kBlockTokens, 1,
                        &k[static_cast<size_t>(i * head_dim)], head_dim,
                        &v[static_cast<size_t>(i * head_dim)], head_dim);
    }
  }

  AttentionArgs args(std::vector<float>& out) const {
    out.assign(q.size(), -7.0f);
    AttentionArgs a{};
    a.out = out.data();
    a.q = q.data();
    a.keys = pool.data();
    a.values = pool.data() + key_bytes();
    a.blocks = blocks.data();
    a.out_stride = a.q_stride = group * head_dim;
    a.block_stride = block_bytes();
    a.group = group;
    a.head_dim = head_dim;
    a.first_position = cached;
    a.num_keys = keys();
    a.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    a.causal = causal;
    a.format = format;
    return a;
  }

  // In calls of at most `step` rows.
  std::vector<float> run(const KernelTable& table, int64_t step = 1 << 20) const {
    std::vector<float> out;
    const AttentionArgs a = args(out);
    const auto floats = static_cast<size_t>(table.attention_scratch_floats(head_dim));
    std::vector<float> scratch(floats, NAN);
    if (step > table.max_attention_rows) step = table.max_attention_rows;
    const int64_t rows = tokens * group;
    for (int64_t row = 0; row < rows; row += step) {
      table.attention(a, row, row + step < rows ? row + step : rows, scratch.data());
    }
    return out;
  }

  // Part by part, in an order of no meaning, then merged.
  std::vector<float> run_parts(const KernelTable& table) const {
    std::vector<float> out;
    const AttentionArgs a = args(out);
    std::vector<float> scratch(static_cast<size_t>(table.attention_scratch_floats(head_dim)), NAN);
    const int64_t num_parts = kernels::ceil_div(keys(), kernels::kPartTokens);
    const int64_t rows = tokens * group;
    for (int64_t row = 0; row < rows; row += table.max_attention_rows) {
      const int64_t last = std::min(row + table.max_attention_rows, rows);
      const int64_t part_floats = (last - row) * kernels::partial_floats(head_dim);
      std::vector<float> partials(static_cast<size_t>(num_parts * part_floats), NAN);
      for (int64_t part = num_parts - 1; part >= 0; --part) {
        table.attention_parts(a, row, last, part, part + 1, partials.data(), part_floats,
                              scratch.data());
      }
      table.merge_attention(a, row, last, partials.data(), part_floats);
    }
    return out;
  }

  std::vector<float> exact() const {
    std::vector<float> out(q.size());
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
    for (int64_t row = 0; row < tokens * group; ++row) {
      const float* query = &q[static_cast<size_t>(row * head_dim)];
      const int64_t visible = causal ? cached + row / group + 1 : keys();
      std::vector<double> p(static_cast<size_t>(visible));
      double max = -1e300;
      double sum = 0;
      for (int64_t i = 0; i < visible; ++i) {
        double score = 0;
        for (int64_t d = 0; d < head_dim; ++d) {
          score += static_cast<double>(query[d]) * k[static_cast<size_t>(i * head_dim + d)];
        }
        p[static_cast<size_t>(i)] = score * scale;
        max = std::fmax(max, score * scale);
      }
      for (double& weight : p) sum += weight = std::exp(weight - max);
      for (int64_t d = 0; d < head_dim; ++d) {
        double value = 0;
        for (int64_t i = 0; i < visible; ++i) {
          value += p[static_cast<size_t>(i)] * v[static_cast<size_t>(i * head_dim + d)];
        }
        out[static_cast<size_t>(row * head_dim + d)] = static_cast<float>(value / sum);
      }
    }
    return out;
  }
};

struct Shape {
  int64_t tokens, cached, group, head_dim;
};
constexpr Shape kShapes[] = {{1, 0, 1, 16},   {1, 31, 6, 128}, {1, 32, 7, 20},  {1, 200, 6, 80},
                             {5, 0, 2, 24},   {33, 0, 3, 16},  {40, 30, 7, 8},  {70, 1, 1, 80},
                             {64, 64, 6, 16}, {17, 15, 1, 36}, {1, 255, 6, 16}, {1, 256, 7, 16},
                             {9, 250, 3, 20}, {29, 500, 1, 8}, {4, 30, 2, 128}, {3, 20, 6, 300}};

TEST(scalar_attention_is_right) {
  for (const Shape& s : kShapes) {
    for (const bool causal : {true, false}) {
      const Scenario c(s.tokens, s.cached, s.group, s.head_dim, causal, Format::kF32);
      const std::vector<float> expected = c.exact();
      CHECK_CLOSE(c.run(kernels::scalar_kernels()).data(), expected.data(), expected.size(), 3e-6);
    }
  }
}

TEST(every_version_has_the_bits_of_the_scalar_one) {
  for (const KernelTable* table : vector_kernels()) {
    for (const Shape& s : kShapes) {
      for (const Format format : kFormats) {
        for (const bool causal : {true, false}) {
          const Scenario c(s.tokens, s.cached, s.group, s.head_dim, causal, format);
          CHECK(agrees(*table, c.run(*table), c.run(kernels::scalar_kernels())));
        }
      }
    }
  }
}

TEST(a_row_does_not_depend_on_how_the_rows_are_cut) {
  for (const Format format : kFormats) {
    const Scenario c(45, 230, 3, 24, true, format);
    for (const KernelTable* table : all_kernels()) {
      const std::vector<float> whole = c.run(*table);
      for (const int64_t step : {1, 2, 5, 7, 11, 13, 48, 96}) {
        CHECK(same_bits(c.run(*table, step), whole));
      }
    }
  }
}

TEST(parts_of_the_keys_may_be_worked_on_apart) {
  for (const Format format : kFormats) {
    for (const Shape& s : {Shape{1, 700, 6, 80}, Shape{40, 500, 3, 24}, Shape{3, 254, 1, 16}}) {
      for (const bool causal : {true, false}) {
        const Scenario c(s.tokens, s.cached, s.group, s.head_dim, causal, format);
        for (const KernelTable* table : all_kernels()) {
          CHECK(same_bits(c.run_parts(*table), c.run(*table)));
        }
      }
    }
  }
}

TEST(keys_behind_a_row_have_no_influence_whatever_they_hold) {
  // The first half of the tokens with the second half in the cache as numbers, and as NaN.
  for (const KernelTable* table : all_kernels()) {
    Scenario c(40, 10, 2, 20, true, Format::kF32);
    const std::vector<float> whole = c.run(*table);
    std::fill(c.k.begin() + 30 * c.head_dim, c.k.end(), NAN);
    std::fill(c.v.begin() + 30 * c.head_dim, c.v.end(), INFINITY);
    c.store(30, c.keys());
    const std::vector<float> poisoned = c.run(*table);
    const size_t first_half = static_cast<size_t>(20 * c.group * c.head_dim);
    CHECK(std::memcmp(whole.data(), poisoned.data(), first_half * sizeof(float)) == 0);
    CHECK(std::isnan(poisoned.back()));
  }
}

TEST(scores_of_any_size_are_summed_without_overflow) {
  for (const KernelTable* table : all_kernels()) {
    Scenario c(50, 0, 1, 16, true, Format::kF32);
    for (float& value : c.q) value *= 60.0f;
    const std::vector<float> expected = c.exact();
    // Weights are exp of differences of scores of some 300: their rounding, 300 * 2^-24, counts.
    CHECK_CLOSE(c.run(*table).data(), expected.data(), expected.size(), 3e-4);
  }
}

}  // namespace qvl::test
