#include "kernels/cuda/attention_decode.h"

#include <array>
#include <cstring>
#include <utility>

#include "check.h"
#include "kernels/attention_reference.h"
#include "kernels/compare.h"
#include "kernels/gpu.h"
#include "kernels/paged_cache.h"

using namespace qvl;
using namespace qvl::test;

namespace {

struct Heads {
  int heads, kv_heads, head_dim;
};

/// A step with random queries, keys and values, every token's depending on its place alone.
class Problem {
 public:
  /// Keys become longer with their position, the last 1 + `growth` times: with them the scores.
  Problem(const Heads& heads, std::vector<Sequence> sequences, Half type, float growth = 0.f)
      : heads_(heads), layout_{heads.kv_heads, heads.head_dim}, type_(type), step_(sequences) {
    // What no token has been written to must not be used: it is NaN.
    cache_.assign(layout_.size(step_), 0xffff);
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (int position = 0; position < sequences[s].length(); ++position) {
        for (int part = 0; part < 2 * heads.kv_heads; ++part) {
          const unsigned seed = static_cast<unsigned>(position * 64 + part * 4 + 1);
          auto values = random_values(head_dim(), seed);
          const bool is_key = part % 2 == 0;
          const float longer =
              growth * static_cast<float>(position) / static_cast<float>(sequences[s].length());
          for (float& value : values) value *= is_key ? 1.f + longer : 1.f;
          const auto row = narrow(values, type);
          std::copy(row.begin(), row.end(),
                    cache_.begin() + static_cast<std::ptrdiff_t>(
                                         layout_.at(step_, s, position, part / 2, part % 2)));
        }
      }
      for (int token = 0; token < sequences[s].num_tokens; ++token) {
        const unsigned seed = static_cast<unsigned>((sequences[s].num_cached + token) * 64 + 3);
        const auto row = random_halves(width(), seed, type, 2.f);
        q_.insert(q_.end(), row.begin(), row.end());
      }
    }
  }

  const Step& step() const { return step_; }
  size_t width() const { return static_cast<size_t>(heads_.heads * heads_.head_dim); }

  /// [rows, H D]. `spare` blocks more than the splits of the longest row.
  std::vector<uint16_t> run(Gpu& gpu, int spare = 0) const {
    const DeviceStep on_step(gpu, step_);
    const int rows = step_.num_rows;
    int splits = 1;
    for (const Sequence& sequence : step_.sequences) {
      splits = std::max(splits, attention_decode_splits(sequence.length()));
    }
    // The kernel before writes the queries, and the keys and values of the step's own tokens.
    const std::vector<int32_t> rows_of_step = cache_rows_of_step();
    std::vector<uint16_t> old_cache = cache_;
    for (const int32_t cache_row : rows_of_step) {
      std::fill_n(old_cache.begin() + cache_row * heads_.head_dim, heads_.head_dim,
                  uint16_t{0xffff});
    }
    const auto all_q = gpu.upload(narrow(q_, type_)), whole_cache = gpu.upload(cache_);
    const auto q = gpu.filled<uint16_t>(q_.size(), 0xff), cache = gpu.upload(old_cache);
    const auto new_rows = gpu.upload(rows_of_step);
    auto out = gpu.filled<uint16_t>(q_.size(), 0xff);
    auto partials = gpu.filled<float>(
        static_cast<size_t>(attention_decode_partials(rows, heads_.heads, heads_.head_dim)), 0xff);
    auto statistics = gpu.filled<float>(
        static_cast<size_t>(attention_decode_statistics(rows, heads_.heads)), 0xff);
    auto arrivals = gpu.filled<uint32_t>(static_cast<size_t>(rows * heads_.kv_heads), 0);
    AttentionDecodeParams p{};
    p.q = q.get();
    p.cache = cache.get();
    p.out = out.get();
    p.partials = partials.get();
    p.statistics = statistics.get();
    p.arrivals = arrivals.get();
    p.sequences = on_step.table();
    p.q_stride = p.out_stride = static_cast<int64_t>(width());
    p.scale = static_cast<float>(scale() * std::log2(std::exp(1.0)));
    p.heads = heads_.heads;
    p.kv_heads = heads_.kv_heads;
    gpu.produce(q, all_q.get());
    gpu.produce_rows(cache, whole_cache, head_dim(), new_rows);
    gpu.launch(kernel_name(describe("attention_decode_", heads_.head_dim), type_),
               {static_cast<unsigned>(splits + spare), static_cast<unsigned>(heads_.kv_heads),
                static_cast<unsigned>(rows)},
               {kAttentionDecodeThreads}, attention_decode_shared_bytes(heads_.head_dim), p);
    for (const uint32_t count : gpu.download(arrivals)) CHECK_EQ(count, 0u);
    return gpu.download(out);
  }

  void check(Gpu& gpu) const {
    const std::vector<float> cache = widen(cache_, type_);
    std::vector<Expected> expected;
    for (int row = 0; row < step_.num_rows; ++row) {
      const size_t s = static_cast<size_t>(step_.row_sequence[static_cast<size_t>(row)]);
      const int num_keys = step_.num_cached[s] + row - step_.first_row[s] + 1;
      for (int head = 0; head < heads_.heads; ++head) {
        const auto cached = [&](int kind) {
          return [&, kind](int position) {
            const int kv_head = head / (heads_.heads / heads_.kv_heads);
            return cache.data() + layout_.at(step_, s, position, kv_head, kind);
          };
        };
        append_attention(
            expected,
            q_.data() + static_cast<size_t>(row) * width() + static_cast<size_t>(head) * head_dim(),
            heads_.head_dim, num_keys, scale(), type_, cached(0), cached(1));
      }
    }
    check_rows(widen(run(gpu), type_), width(), expected, width(), type_, name());
  }

 private:
  size_t head_dim() const { return static_cast<size_t>(heads_.head_dim); }
  double scale() const { return 1 / std::sqrt(heads_.head_dim); }
  /// Rows of [.., head_dim] that the step's tokens have in the cache.
  std::vector<int32_t> cache_rows_of_step() const {
    std::vector<int32_t> rows;
    for (size_t s = 0; s < step_.sequences.size(); ++s) {
      const Sequence& sequence = step_.sequences[s];
      for (int position = sequence.num_cached; position < sequence.length(); ++position) {
        for (int part = 0; part < 2 * heads_.kv_heads; ++part) {
          const size_t at = layout_.at(step_, s, position, part / 2, part % 2);
          rows.push_back(static_cast<int32_t>(at / head_dim()));
        }
      }
    }
    return rows;
  }
  std::string name() const {
    std::string text = describe(heads_.heads, "/", heads_.kv_heads, " heads of ", heads_.head_dim);
    for (const Sequence& s : step_.sequences) {
      text += describe(", ", s.num_cached, " + ", s.num_tokens, " tokens");
    }
    return text;
  }

  Heads heads_;
  CacheLayout layout_;
  Half type_;
  Step step_;
  std::vector<uint16_t> cache_;
  std::vector<float> q_;
};

}  // namespace

TEST(attention_decode_matches_double_precision_at_every_edge_of_tile_and_split) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const int length :
         {1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129, 255, 256, 257, 511, 513}) {
      Problem({2, 1, 32}, {{1, length - 1}}, type).check(gpu);
    }
  }
}

TEST(attention_decode_serves_every_group_of_query_heads) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const auto& [heads, kv_heads, length] :
         {std::array{1, 1, 40}, {4, 2, 129}, {6, 1, 150}, {14, 2, 20}, {8, 1, 300}, {9, 3, 33}}) {
      for (const int head_dim : {32, 64, 128}) {
        Problem({heads, kv_heads, head_dim}, {{1, length - 1}}, type).check(gpu);
      }
    }
  }
}

TEST(attention_decode_splits_long_sequences_into_no_more_than_it_merges) {
  CHECK_EQ(attention_decode_splits(1), 1);
  CHECK_EQ(attention_decode_splits(128), 1);
  CHECK_EQ(attention_decode_splits(129), 2);
  CHECK_EQ(attention_decode_splits(4096), 32);
  CHECK_EQ(attention_decode_splits(4097), 17);
  CHECK_EQ(attention_decode_splits(32768), 32);
  Gpu gpu;
  for (const int length : {4096, 4097, 4400}) {
    Problem({1, 1, 32}, {{1, length - 1}}, Half::kBf16).check(gpu);
  }
}

TEST(attention_decode_brings_the_sums_of_every_query_to_a_new_maximum) {
  Gpu gpu;
  // Splits of 256 keys: a warp has two tiles, the second with the larger scores.
  for (const Half type : kHalves) {
    for (const int head_dim : {32, 64, 128}) {
      Problem({4, 1, head_dim}, {{1, 4200}}, type, 8.f).check(gpu);
      // The same in the shorter splits of several rows, which grow at different paces.
      Problem({6, 2, head_dim}, {{2, 500}, {1, 190}, {4, 333}}, type, 8.f).check(gpu);
    }
  }
}

TEST(attention_decode_serves_sequences_of_any_length_and_drafts_together) {
  Gpu gpu;
  for (const Half type : kHalves) {
    Problem({4, 2, 64}, {{1, 0}, {5, 126}, {1, 299}, {3, 30}}, type).check(gpu);
  }
}

TEST(attention_decode_of_a_row_depends_on_its_own_keys_alone) {
  Gpu gpu;
  for (const auto& [type, head_dim] :
       {std::pair{Half::kBf16, 32}, {Half::kBf16, 64}, {Half::kFp16, 64}, {Half::kFp16, 128}}) {
    const Heads heads{6, 2, head_dim};
    const Problem together(heads, {{1, 10}, {4, 254}, {1, 400}}, type);
    const std::vector<uint16_t> all = together.run(gpu), wide = together.run(gpu, 5);
    CHECK(all == wide);
    size_t row = 0;
    for (const Sequence& sequence : together.step().sequences) {
      for (int token = 0; token < sequence.num_tokens; ++token, ++row) {
        // The row by itself: the draft's tokens before it are in the cache already.
        const Problem alone(heads, {{1, sequence.num_cached + token}}, type);
        const std::vector<uint16_t> result = alone.run(gpu);
        CHECK(std::memcmp(result.data(), all.data() + row * alone.width(), result.size() * 2) == 0);
      }
    }
  }
}
