#include "kernels/cuda/rows.h"

#include "check.h"
#include "kernels/compare.h"
#include "kernels/gpu.h"

using namespace qvl;
using namespace qvl::test;

TEST(embed_widens_the_rows_asked_for) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const int cols : {8, 256, 1024, 1032, 1536}) {
      const size_t width = static_cast<size_t>(cols), stride = width + 4;
      const std::vector<int32_t> ids = {4, 0, 4, 2};
      const auto table = random_halves(5 * width, 1, type);
      const auto weight = gpu.upload(narrow(table, type));
      const auto on_ids = gpu.upload(ids);
      const auto chosen = gpu.filled<int32_t>(ids.size(), 0xff);
      auto out = gpu.filled<float>(ids.size() * stride, 0);
      gpu.produce(chosen, on_ids.get());
      gpu.launch(
          kernel_name("embed", type), {4}, {kRowsThreads}, 0,
          EmbedParams{weight.get(), chosen.get(), out.get(), static_cast<int64_t>(stride), cols});
      const std::vector<float> actual = gpu.download(out);
      for (size_t i = 0; i < actual.size(); ++i) {
        const size_t id = static_cast<size_t>(ids[i / stride]), column = i % stride;
        CHECK_EQ(actual[i], column < width ? table[id * width + column] : 0.f);
      }
    }
  }
}

TEST(copy_rows_moves_rows_by_number_and_nothing_beside_them) {
  Gpu gpu;
  const std::vector<int32_t> from = {3, 0, 3}, to = {1, 4, 0};
  for (const size_t cols : {size_t{8}, size_t{24}, size_t{2056}}) {
    const size_t src_stride = cols + 8, dst_stride = cols + 16;
    const auto values = narrow(random_values(4 * src_stride, 1), Half::kBf16);
    const auto src = gpu.upload(values);
    const auto src_rows = gpu.upload(from), dst_rows = gpu.upload(to);
    for (const bool has_lists : {true, false}) {
      const auto produced = gpu.filled<uint16_t>(values.size(), 0xff);
      auto dst = gpu.filled<uint16_t>(5 * dst_stride, 0x22);
      gpu.produce(produced, src.get());
      gpu.launch(
          "copy_rows", {3}, {kRowsThreads}, 0,
          CopyRowsParams{dst.get(), produced.get(), has_lists ? dst_rows.get() : nullptr,
                         has_lists ? src_rows.get() : nullptr, static_cast<int64_t>(2 * dst_stride),
                         static_cast<int64_t>(2 * src_stride), static_cast<int64_t>(2 * cols)});
      std::vector<uint16_t> expected(5 * dst_stride, 0x2222);
      for (size_t i = 0; i < 3; ++i) {
        const size_t row = has_lists ? static_cast<size_t>(from[i]) : i;
        const size_t target = has_lists ? static_cast<size_t>(to[i]) : i;
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * src_stride), cols,
                    expected.begin() + static_cast<std::ptrdiff_t>(target * dst_stride));
      }
      CHECK(gpu.download(dst) == expected);
    }
  }
}
