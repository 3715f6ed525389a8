#include "kernels/cuda/attention_prefill.h"

#include "backend/cuda/attention_tiles.h"
#include "kernels/attention_reference.h"
#include "kernels/paged_cache.h"

using namespace qvl;
using namespace qvl::test;

namespace {

struct Shape {
  int heads, kv_heads, head_dim;
  int cols() const { return heads * head_dim; }
};

/// Queries, keys and values of whole sequences, by position: what a step has of them is decided
/// later. Sharp scores, so that maxima change from step to step.
class Sequences {
 public:
  Sequences(const Shape& shape, std::vector<int> lengths, Half type)
      : shape_(shape), type_(type), lengths_(std::move(lengths)) {
    for (size_t i = 0; i < lengths_.size(); ++i) {
      const auto length = static_cast<size_t>(lengths_[i]);
      const auto seed = static_cast<unsigned>(10 * i);
      const auto kv_cols = static_cast<size_t>(shape.kv_heads * shape.head_dim);
      queries_.push_back(
          random_halves(length * static_cast<size_t>(shape.cols()), seed + 1, type, 2.f));
      keys_.push_back(random_halves(length * kv_cols, seed + 2, type));
      values_.push_back(random_halves(length * kv_cols, seed + 3, type));
    }
  }

  const Shape& shape() const { return shape_; }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(shape_.head_dim)); }

  /// Runs a step and returns [rows, heads * head_dim]. What no token has written in the cache, and
  /// what lies between the rows, is NaN. `tiles_backwards` changes the order of blocks.
  std::vector<uint16_t> run(Gpu& gpu, const Step& step, bool tiles_backwards = false) const {
    const CacheLayout layout{shape_.kv_heads, shape_.head_dim};
    const auto cols = static_cast<size_t>(shape_.cols());
    const size_t stride = cols + 2 * static_cast<size_t>(shape_.kv_heads * shape_.head_dim);
    std::vector<uint16_t> cache(layout.size(step), 0xffff);
    std::vector<uint16_t> qkv(static_cast<size_t>(step.num_rows) * stride, 0xffff);
    for (size_t s = 0; s < step.sequences.size(); ++s) {
      const Sequence& sequence = step.sequences[s];
      for (int position = 0; position < sequence.length(); ++position) {
        for (int head = 0; head < shape_.kv_heads; ++head) {
          put(cache, layout.at(step, s, position, head, 0), kv(keys_, s, position, head));
          put(cache, layout.at(step, s, position, head, 1), kv(values_, s, position, head));
        }
      }
      for (int token = 0; token < sequence.num_tokens; ++token) {
        const auto row = static_cast<size_t>(step.first_row[s] + token);
        const auto first = static_cast<size_t>(sequence.num_cached + token) * cols;
        for (size_t i = 0; i < cols; ++i) {
          qkv[row * stride + i] = narrow(queries_[s][first + i], type_);
        }
      }
    }

    std::vector<PrefillTile> tiles = cuda::prefill_tiles(step.spans());
    if (tiles_backwards) std::reverse(tiles.begin(), tiles.end());
    const DeviceStep device(gpu, step);
    const auto device_qkv = gpu.upload(qkv);
    const auto device_cache = gpu.upload(cache);
    const auto device_tiles = gpu.upload(tiles);
    const auto out = gpu.filled<uint16_t>(static_cast<size_t>(step.num_rows) * cols, 0xff);
    const std::string name = describe("attention_prefill_", shape_.head_dim);
    gpu.launch(kernel_name(name, type_),
               {static_cast<unsigned>(tiles.size()), static_cast<unsigned>(shape_.heads)},
               {kAttentionThreads}, static_cast<size_t>(attention_tile_bytes(shape_.head_dim)),
               AttentionPrefillParams{device_qkv.get(), out.get(), device_cache.get(),
                                      device_tiles.get(), device.table(),
                                      static_cast<int32_t>(stride), static_cast<int32_t>(cols),
                                      shape_.kv_heads, shape_.heads / shape_.kv_heads,
                                      static_cast<float>(scale() / std::log(2.0))});
    return gpu.download(out);
  }

  std::vector<Expected> expected(const Step& step) const {
    std::vector<Expected> all;
    for (size_t s = 0; s < step.sequences.size(); ++s) {
      const Sequence& sequence = step.sequences[s];
      for (int position = sequence.num_cached; position < sequence.length(); ++position) {
        for (int head = 0; head < shape_.heads; ++head) {
          const int kv_head = head / (shape_.heads / shape_.kv_heads);
          const float* q =
              queries_[s].data() +
              static_cast<std::ptrdiff_t>(position * shape_.cols() + head * shape_.head_dim);
          append_attention(
              all, q, shape_.head_dim, position + 1, scale(), type_,
              [&](int j) { return kv(keys_, s, j, kv_head); },
              [&](int j) { return kv(values_, s, j, kv_head); });
        }
      }
    }
    return all;
  }

  /// One of the sequences, by itself.
  Sequences only(size_t i) const {
    Sequences one = *this;
    one.lengths_ = {lengths_[i]};
    one.queries_ = {queries_[i]};
    one.keys_ = {keys_[i]};
    one.values_ = {values_[i]};
    return one;
  }
  /// Every query of the sequences in one step.
  Step whole() const {
    std::vector<Sequence> all;
    for (const int length : lengths_) all.push_back({length, 0});
    return Step(all);
  }

 private:
  const float* kv(const std::vector<std::vector<float>>& rows, size_t sequence, int position,
                  int head) const {
    return rows[sequence].data() + (position * shape_.kv_heads + head) * shape_.head_dim;
  }
  void put(std::vector<uint16_t>& cache, size_t at, const float* row) const {
    for (int i = 0; i < shape_.head_dim; ++i) {
      cache[at + static_cast<size_t>(i)] = narrow(row[i], type_);
    }
  }

  Shape shape_;
  Half type_;
  std::vector<int> lengths_;
  std::vector<std::vector<float>> queries_, keys_, values_;  // of every sequence
};

void check_step(Gpu& gpu, const Shape& shape, const Step& step, Half type) {
  std::vector<int> lengths;
  std::string where = describe("heads ", shape.heads, "/", shape.kv_heads, " of ", shape.head_dim);
  for (const Sequence& sequence : step.sequences) {
    lengths.push_back(sequence.length());
    where += describe(", ", sequence.num_tokens, " after ", sequence.num_cached);
  }
  const Sequences sequences(shape, lengths, type);
  const auto cols = static_cast<size_t>(shape.cols());
  check_rows(widen(sequences.run(gpu, step), type), cols, sequences.expected(step), cols, type,
             where);
}

}  // namespace

TEST(prefill_attention_is_that_of_double_precision_at_the_edges_of_tiles) {
  Gpu gpu;
  for (const int tokens : {1, 63, 64, 65, 127, 129}) {
    check_step(gpu, {1, 1, 128}, Step({{tokens, 0}}), Half::kBf16);
    for (const int cached : {1, 31, 32, 63, 100}) {
      check_step(gpu, {2, 1, 32}, Step({{tokens, cached}}), Half::kBf16);
      check_step(gpu, {1, 1, 64}, Step({{tokens, cached}}), Half::kFp16);
    }
  }
}

TEST(prefill_attention_serves_ragged_sequences_of_every_head_size_and_group) {
  Gpu gpu;
  const Step step({{9, 0}, {1, 70}, {66, 0}, {2, 63}});
  for (const Half type : kHalves) {
    check_step(gpu, {6, 1, 128}, step, type);
    check_step(gpu, {14, 2, 64}, step, type);
    check_step(gpu, {8, 2, 32}, step, type);
    check_step(gpu, {8, 1, 32}, step, type);
  }
}

TEST(prefill_attention_gives_the_same_bits_however_a_sequence_is_cut) {
  Gpu gpu;
  for (const Shape& shape : {Shape{1, 1, 128}, Shape{2, 1, 64}, Shape{2, 2, 32}}) {
    const Sequences sequences(shape, {150}, Half::kBf16);
    const std::vector<uint16_t> whole = sequences.run(gpu, sequences.whole());
    for (const std::vector<int>& chunks :
         {std::vector<int>{64, 64, 22}, {1, 63, 86}, {37, 100, 13}, {149, 1}}) {
      std::vector<uint16_t> pieces;
      int cached = 0;
      for (const int chunk : chunks) {
        const std::vector<uint16_t> piece = sequences.run(gpu, Step({{chunk, cached}}));
        pieces.insert(pieces.end(), piece.begin(), piece.end());
        cached += chunk;
      }
      CHECK(pieces == whole);
    }
  }
}

TEST(prefill_attention_gives_the_same_bits_whatever_else_is_in_the_step) {
  Gpu gpu;
  for (const auto& [shape, type] : {std::pair{Shape{1, 1, 128}, Half::kBf16},
                                    {Shape{2, 1, 64}, Half::kFp16},
                                    {Shape{2, 2, 32}, Half::kBf16}}) {
    const Sequences together(shape, {70, 130, 5}, type);
    const std::vector<uint16_t> step = together.run(gpu, together.whole());
    CHECK(together.run(gpu, together.whole(), /*tiles_backwards=*/true) == step);
    auto begin = step.begin();
    for (size_t i = 0; i < 3; ++i) {
      const Sequences alone = together.only(i);
      const std::vector<uint16_t> one = alone.run(gpu, alone.whole());
      CHECK(std::equal(one.begin(), one.end(), begin));
      begin += static_cast<std::ptrdiff_t>(one.size());
    }
  }
}
