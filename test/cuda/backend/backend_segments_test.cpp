// Attention within segments on device 'cuda' as the vision tower calls it.

#include <span>

#include "backend/on_device.h"
#include "kernels/attention_reference.h"

using namespace qvl;
using namespace qvl::test;

TEST(segments_attend_to_themselves_alone_and_all_their_queries_alike) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kUsed = 295;
  // An empty segment, one of a single row, many tiny ones, borders off those of tiles; rows behind
  // the last stay as they are.
  const std::vector<int32_t> segments = {0, 33, 33, 34, 36, 39, 43, 48, 54, 61, 190, kUsed};
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const auto& [heads, dim] : {std::pair<int64_t, int64_t>{2, 80}, {6, 32}, {1, 64}}) {
      const int64_t cols = heads * dim;
      const auto values = random_halves(static_cast<size_t>(kRows * 3 * cols), 1, type, 1.5f);
      const OnDevice qkv(*backend, values, 3 * cols, dtype_of(type));
      const float scale = 1 / std::sqrt(static_cast<float>(dim));
      const auto attend = [&](const OnDevice& to, std::span<const int32_t> cu_seqlens,
                              int64_t first, int64_t end) {
        backend->segment_attention(to.tensor().slice(first, end - first),
                                   qkv.tensor().columns(0, cols).slice(first, end - first),
                                   qkv.tensor().columns(cols, cols),
                                   qkv.tensor().columns(2 * cols, cols), dim, cu_seqlens, first,
                                   scale);
      };
      const OnDevice out(*backend, kRows, cols, dtype_of(type), 8);
      attend(out, segments, 0, kRows);
      const std::vector<float> all = out.values();
      std::vector<Expected> expected;
      for (size_t i = 0; i + 1 < segments.size(); ++i) {
        const auto at = [&](int row, int64_t column) {
          return values.data() + row * 3 * cols + column;
        };
        for (int row = segments[i]; row < segments[i + 1]; ++row) {
          for (int64_t head = 0; head < heads; ++head) {
            append_attention(
                expected, at(row, head * dim), static_cast<int>(dim), segments[i + 1] - segments[i],
                double{scale}, type, [&](int j) { return at(segments[i] + j, cols + head * dim); },
                [&](int j) { return at(segments[i] + j, 2 * cols + head * dim); });
          }
        }
      }
      const auto row_cols = static_cast<size_t>(cols);
      check_rows(rows_of(all, cols, 0, kUsed), row_cols, expected, row_cols, type,
                 describe(name_of(type), " segments, heads of ", dim));
      for (const float value : rows_of(all, cols, kUsed, kRows - kUsed)) CHECK(std::isnan(value));

      for (size_t i = 0; i + 1 < segments.size(); ++i) {
        const OnDevice alone(*backend, kRows, cols, dtype_of(type));
        attend(alone, std::span(segments).subspan(i, 2), 0, kRows);
        const int64_t count = segments[i + 1] - segments[i];
        CHECK(same_bits(rows_of(alone.values(), cols, segments[i], count),
                        rows_of(all, cols, segments[i], count)));
      }
      // Some of the queries at a time, across segments and within them.
      const OnDevice pieces(*backend, kRows, cols, dtype_of(type));
      int64_t begin = 0;
      for (const int64_t end : {int64_t{1}, int64_t{35}, int64_t{200}, int64_t{201}, kRows}) {
        attend(pieces, segments, begin, end);
        begin = end;
      }
      CHECK(same_bits(pieces.values(), all));
    }
  }
}

TEST(segments_that_are_none_and_heads_without_a_kernel_are_refused) {
  const auto backend = cuda_backend(Half::kBf16);
  const OnDevice rows(*backend, 3, 64, DType::kBF16);
  const Tensor x = rows.tensor();
  for (const std::vector<int32_t>& segments :
       {std::vector<int32_t>{0, 4}, std::vector<int32_t>{2, 1}, std::vector<int32_t>{-1, 1}}) {
    CHECK_ERROR("ERR_INTERNAL", backend->segment_attention(x, x, x, x, 32, segments, 0, 1.f));
  }
  CHECK_ERROR("ERR_INTERNAL",
              backend->segment_attention(x, x, x, x, 32, std::vector<int32_t>{0, 3}, 1, 1.f));
  const OnDevice odd(*backend, 3, 48, DType::kBF16);
  const Tensor y = odd.tensor();
  CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED",
              backend->segment_attention(y, y, y, y, 48, std::vector<int32_t>{0, 3}, 0, 1.f));
}
