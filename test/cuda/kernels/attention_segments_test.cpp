#include "kernels/cuda/attention_segments.h"

#include "backend/cuda/attention_tiles.h"
#include "kernels/attention_reference.h"

using namespace qvl;
using namespace qvl::test;

namespace {

struct Shape {
  int heads, head_dim;
  bool wide = false;  // the kernel that takes twice as many queries a block
  int cols() const { return heads * head_dim; }
};

/// Rows of a projection: queries, keys and values next to each other. With gaps, every other
/// segment is none: its rows are NaN and there are no tiles of it.
class Rows {
 public:
  Rows(const Shape& shape, std::vector<int32_t> cu_seqlens, Half type, bool gaps = false)
      : shape_(shape),
        type_(type),
        cu_seqlens_(std::move(cu_seqlens)),
        gaps_(gaps),
        qkv_(random_halves(static_cast<size_t>(num_rows() * stride()), 1, type, 1.5f)) {
    for (size_t i = 0; i + 1 < cu_seqlens_.size(); ++i) {
      if (!is_gap(i)) continue;
      std::fill(qkv_.begin() + cu_seqlens_[i] * stride(),
                qkv_.begin() + cu_seqlens_[i + 1] * stride(), NAN);
    }
  }

  /// Makes keys longer from row to row, the last ones `factor` times as long.
  void grow_keys(float factor) {
    for (int row = 0; row < num_rows(); ++row) {
      for (int i = 0; i < shape_.cols(); ++i) {
        float& k = qkv_[static_cast<size_t>(row * stride() + shape_.cols() + i)];
        const float growth = factor * static_cast<float>(row + 1) / static_cast<float>(num_rows());
        k = widen(narrow(k * growth, type_), type_);
      }
    }
  }

  /// The rows of a segment, with no others.
  Rows segment(size_t i) const {
    Rows one = *this;
    one.cu_seqlens_ = {0, cu_seqlens_[i + 1] - cu_seqlens_[i]};
    one.qkv_.assign(qkv_.begin() + cu_seqlens_[i] * stride(),
                    qkv_.begin() + cu_seqlens_[i + 1] * stride());
    return one;
  }

  int num_rows() const { return cu_seqlens_.back(); }
  int stride() const { return 3 * shape_.cols(); }

  /// Output of rows [first, first + count); NaN where a row is in no segment. `tiles_backwards`
  /// changes the order of blocks.
  std::vector<uint16_t> run(Gpu& gpu, int first, int count, bool tiles_backwards = false) const {
    const auto qkv = gpu.upload(narrow(qkv_, type_));
    const int tile_queries = shape_.wide ? kAttentionWideQueries : kAttentionQueries;
    std::vector<SegmentTile> tiles = cuda::segment_tiles(cu_seqlens_, first, count, tile_queries);
    std::erase_if(tiles, [&](const SegmentTile& tile) {
      const auto segment = std::find(cu_seqlens_.begin(), cu_seqlens_.end(), tile.first_key);
      return is_gap(static_cast<size_t>(segment - cu_seqlens_.begin()));
    });
    if (tiles_backwards) std::reverse(tiles.begin(), tiles.end());
    const auto device_tiles = gpu.upload(tiles);
    const auto out = gpu.filled<uint16_t>(static_cast<size_t>(count * shape_.cols()), 0xff);
    const uint16_t* x = qkv.get();
    const std::string name =
        describe("attention_segments_", shape_.head_dim, shape_.wide ? "_wide" : "");
    gpu.launch(
        kernel_name(name, type_),
        {static_cast<unsigned>(tiles.size()), static_cast<unsigned>(shape_.heads)},
        {kAttentionThreads},
        static_cast<size_t>(attention_tile_bytes(shape_.head_dim, tile_queries)),
        AttentionSegmentsParams{x + first * stride(), x + shape_.cols(), x + 2 * shape_.cols(),
                                out.get(), device_tiles.get(), stride(), stride(), shape_.cols(),
                                static_cast<float>(scale() / std::log(2.0))});
    return gpu.download(out);
  }

  std::vector<Expected> expected(int first, int count) const {
    std::vector<Expected> all;
    for (size_t i = 0; i + 1 < cu_seqlens_.size(); ++i) {
      const int begin = cu_seqlens_[i], end = cu_seqlens_[i + 1];
      for (int row = std::max(begin, first); row < std::min(end, first + count); ++row) {
        for (int head = 0; head < shape_.heads; ++head) {
          const auto at = [&](int r, int part) {
            return qkv_.data() + r * stride() + part * shape_.cols() + head * shape_.head_dim;
          };
          append_attention(
              all, at(row, 0), shape_.head_dim, end - begin, scale(), type_,
              [&](int j) { return at(begin + j, 1); }, [&](int j) { return at(begin + j, 2); });
        }
      }
    }
    return all;
  }

 private:
  bool is_gap(size_t segment) const { return gaps_ && segment % 2 == 1; }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(shape_.head_dim)); }

  Shape shape_;
  Half type_;
  std::vector<int32_t> cu_seqlens_;
  bool gaps_;
  std::vector<float> qkv_;
};

void check_part(Gpu& gpu, const Shape& shape, const Rows& rows, int first, int count, Half type) {
  const auto cols = static_cast<size_t>(shape.cols());
  check_rows(widen(rows.run(gpu, first, count), type), cols, rows.expected(first, count), cols,
             type, describe("head_dim ", shape.head_dim, ", rows from ", first));
}

// Segments of 1, 4, 63, 64, 65 and 100 rows.
const std::vector<int32_t> kSegments = {0, 1, 5, 68, 132, 197, 297};

}  // namespace

TEST(segment_attention_is_that_of_double_precision_at_the_edges_of_tiles) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Shape& shape : {Shape{2, 80}, Shape{2, 80, true}, Shape{1, 64}, Shape{2, 32}}) {
      const Rows rows(shape, kSegments, type);
      check_part(gpu, shape, rows, 0, rows.num_rows(), type);
    }
  }
}

TEST(segment_attention_sees_all_keys_of_a_segment_of_any_length_and_no_other) {
  Gpu gpu;
  std::vector<int32_t> lengths = {0};
  for (int length = 1; length <= 66; ++length) {
    lengths.push_back(lengths.back() + length);
    lengths.push_back(lengths.back() + 1);
  }
  for (const bool wide : {false, true}) {
    const Shape shape{1, 80, wide};
    const Rows rows(shape, lengths, Half::kBf16, /*gaps=*/true);
    check_part(gpu, shape, rows, 0, rows.num_rows(), Half::kBf16);
  }
}

TEST(segment_attention_follows_maxima_that_grow_from_step_to_step) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const float factor : {1.f, 10.f}) {
      const Shape shape{1, 80};
      Rows rows(shape, {0, 500}, type);
      rows.grow_keys(factor);
      check_part(gpu, shape, rows, 0, 20, type);
      check_part(gpu, shape, rows, 490, 10, type);
    }
  }
}

TEST(segment_attention_gives_the_same_bits_for_some_of_the_queries) {
  Gpu gpu;
  const Shape shape{1, 80};
  const Rows rows(shape, kSegments, Half::kBf16);
  const std::vector<uint16_t> whole = rows.run(gpu, 0, rows.num_rows());
  std::vector<uint16_t> pieces;
  int first = 0;
  for (const int count : {3, 60, 64, 70, 100}) {
    check_part(gpu, shape, rows, first, count, Half::kBf16);
    const std::vector<uint16_t> piece = rows.run(gpu, first, count);
    pieces.insert(pieces.end(), piece.begin(), piece.end());
    first += count;
  }
  CHECK_EQ(first, rows.num_rows());
  CHECK(pieces == whole);
}

TEST(segment_attention_of_a_segment_does_not_depend_on_the_other_segments) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const Shape& shape : {Shape{2, 80}, Shape{2, 80, true}, Shape{1, 64}, Shape{2, 32}}) {
      const Rows rows(shape, kSegments, type);
      const std::vector<uint16_t> all = rows.run(gpu, 0, rows.num_rows());
      for (size_t i = 0; i + 1 < kSegments.size(); ++i) {
        const std::vector<uint16_t> alone =
            rows.segment(i).run(gpu, 0, kSegments[i + 1] - kSegments[i]);
        CHECK(std::equal(alone.begin(), alone.end(), all.begin() + kSegments[i] * shape.cols()));
      }
      CHECK(rows.run(gpu, 0, rows.num_rows(), /*tiles_backwards=*/true) == all);
    }
  }
}

TEST(wide_segment_attention_gives_the_bits_of_the_other) {
  Gpu gpu;
  const Rows rows({2, 80}, kSegments, Half::kBf16);
  const Rows wide({2, 80, true}, kSegments, Half::kBf16);
  CHECK(wide.run(gpu, 0, wide.num_rows()) == rows.run(gpu, 0, rows.num_rows()));
}

TEST(segment_attention_serves_windows_and_empty_segments) {
  Gpu gpu;
  const Shape shape{2, 80};
  std::vector<int32_t> windows = {0};
  for (const int size : {16, 16, 0, 8, 16, 4, 0, 64, 1}) windows.push_back(windows.back() + size);
  const Rows rows(shape, windows, Half::kFp16);
  check_part(gpu, shape, rows, 0, rows.num_rows(), Half::kFp16);
}
