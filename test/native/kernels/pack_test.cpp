// Weights into panels, whole or by ranges of k, and back.

#include <algorithm>

#include "check.h"
#include "kernels/support.h"

namespace qvl::test {

using kernels::Format;
using kernels::kPanelWidth;

TEST(packing_keeps_every_number_and_converts_between_formats) {
  const int64_t n = 35;
  const int64_t k = 19;
  for (const Format from : kFormats) {
    const std::vector<char> rows = as_format(random_floats(n * k, 9), from);
    const std::vector<float> values = as_floats(rows, from);
    for (const Format to : kFormats) {
      std::vector<char> panels(static_cast<size_t>(64 * k) * kernels::format_size(to));
      // In two parts, the second beginning at a panel, then a single row again.
      const size_t row_bytes = static_cast<size_t>(k) * kernels::format_size(from);
      kernels::pack_weight(panels.data(), to, k, 0, 16, rows.data(), from);
      kernels::pack_weight(panels.data(), to, k, 16, n - 16, rows.data() + 16 * row_bytes, from);
      kernels::pack_weight(panels.data(), to, k, 5, 1, rows.data() + 5 * row_bytes, from);
      const std::vector<float> expected = as_floats(as_format(values, to), to);
      std::vector<float> row(static_cast<size_t>(k));
      for (int64_t i = 0; i < n; ++i) {
        kernels::unpack_weight_row(row.data(), panels.data(), to, k, i);
        CHECK(std::memcmp(row.data(), &expected[static_cast<size_t>(i * k)],
                          row.size() * sizeof(float)) == 0);
      }
      for (int64_t i = n; i < 64; ++i) {
        kernels::unpack_weight_row(row.data(), panels.data(), to, k, i);
        for (const float value : row) CHECK_EQ(value, 0.0f);
      }
    }
  }
}

// Every length around the squares that are transposed in registers, from every alignment.
TEST(a_panel_is_its_rows_transposed) {
  constexpr int64_t kFirst = 3;
  for (const Format format : kFormats) {
    const size_t size = kernels::format_size(format);
    for (const int64_t count : {1, 3, 4, 7, 8, 9, 16, 31, 64, 65, 130}) {
      for (const size_t misalignment : {size_t{0}, size_t{1}, size_t{2}}) {
        const size_t row_bytes = static_cast<size_t>(kFirst + count) * size;
        const std::vector<char> rows =
            as_format(random_floats(kPanelWidth * (kFirst + count), 5), format);
        std::vector<char> shifted(rows.size() + misalignment);
        std::copy(rows.begin(), rows.end(), shifted.begin() + static_cast<long>(misalignment));
        const void* starts[kPanelWidth];
        for (size_t i = 0; i < kPanelWidth; ++i) {
          starts[i] = shifted.data() + misalignment + i * row_bytes;
        }
        std::vector<char> panel(static_cast<size_t>(count) * kPanelWidth * size, 'x');
        kernels::pack_panel(panel.data(), format, starts, format, kFirst, count);
        for (size_t k = 0; k < static_cast<size_t>(count); ++k) {
          for (size_t i = 0; i < kPanelWidth; ++i) {
            CHECK(std::memcmp(&panel[(k * kPanelWidth + i) * size],
                              &rows[i * row_bytes + (kFirst + k) * size], size) == 0);
          }
        }
      }
    }
  }
}

TEST(parts_of_a_panel_are_what_the_whole_holds) {
  constexpr int64_t kInputs = 150;
  for (const Format from : kFormats) {
    const std::vector<char> rows = as_format(random_floats(kPanelWidth * kInputs, 6), from);
    const void* starts[kPanelWidth];
    for (size_t i = 0; i < kPanelWidth; ++i) {
      starts[i] = &rows[i * kInputs * kernels::format_size(from)];
    }
    for (const Format to : kFormats) {
      const size_t step = kPanelWidth * kernels::format_size(to);
      std::vector<char> whole(kInputs * step);
      std::vector<char> parts(kInputs * step);
      kernels::pack_panel(whole.data(), to, starts, from, 0, kInputs);
      for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 70}, {70, 1}, {71, 79}}) {
        kernels::pack_panel(&parts[static_cast<size_t>(first) * step], to, starts, from, first,
                            count);
      }
      CHECK(whole == parts);
    }
  }
}

TEST(rows_that_are_not_there_are_zero) {
  constexpr int64_t kInputs = 70;
  for (const Format format : kFormats) {
    const size_t size = kernels::format_size(format);
    const std::vector<char> row = as_format(random_floats(kInputs, 7), format);
    const void* starts[kPanelWidth] = {};
    starts[2] = row.data();
    std::vector<char> panel(kInputs * kPanelWidth * size, 'x');
    kernels::pack_panel(panel.data(), format, starts, format, 0, kInputs);
    for (size_t i = 0; i < kInputs * kPanelWidth; ++i) {
      const bool is_there = i % kPanelWidth == 2;
      const std::vector<char> expected =
          is_there
              ? std::vector<char>(&row[i / kPanelWidth * size], &row[i / kPanelWidth * size] + size)
              : std::vector<char>(size, 0);
      CHECK(std::memcmp(&panel[i * size], expected.data(), size) == 0);
    }
  }
}

}  // namespace qvl::test
