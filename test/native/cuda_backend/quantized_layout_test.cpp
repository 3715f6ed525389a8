#include "backend/cuda/quantized_layout.h"

#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "kernels/cpu/convert.h"

using namespace qvl;
using namespace qvl::test;
using namespace qvl::cuda;

namespace {

struct Host {
  explicit Host(const QuantizedMatrixSpec& spec) : layout(spec) {
    codes.resize(static_cast<size_t>(layout.code_bytes() / 4));
    scales.resize(static_cast<size_t>(layout.scale_bytes() / 2));
    zeros.resize(static_cast<size_t>(layout.zero_bytes()));
  }
  QuantizedArrays arrays() { return {codes.data(), scales.data(), zeros.data()}; }

  QuantizedMatrixLayout layout;
  std::vector<uint32_t> codes;  // words
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;
};

/// Codes [inputs][rows] of a group: f(row, input).
template <class F>
std::vector<uint8_t> codes_of(int64_t rows, int64_t inputs, F f) {
  std::vector<uint8_t> codes;
  for (int64_t k = 0; k < inputs; ++k) {
    for (int64_t n = 0; n < rows; ++n) codes.push_back(static_cast<uint8_t>(f(n, k)));
  }
  return codes;
}

}  // namespace

TEST(nibbles_of_a_word_are_the_halves_of_the_tensor_cores_registers) {
  Host host({16, 128, 4, 128, true, 1});
  CHECK_EQ(host.layout.code_bytes(), 1024);
  CHECK_EQ(host.layout.scale_bytes(), 32);
  CHECK_EQ(host.layout.zero_bytes(), 16);
  // Row 0 has 1 2 3 4 and row 8 has 5 6 7 8 in their first columns; row 3 ends in 9 a b c.
  const auto codes = codes_of(16, 128, [](int64_t n, int64_t k) -> int64_t {
    if (n == 0 && k < 4) return 1 + k;
    if (n == 8 && k < 4) return 5 + k;
    if (n == 3 && k >= 124) return 9 + (k - 124);
    return 0;
  });
  std::vector<uint16_t> scales(16);
  std::vector<uint8_t> zeros(16);
  for (uint16_t n = 0; n < 16; ++n)
    scales[n] = static_cast<uint16_t>(100 + n), zeros[n] = static_cast<uint8_t>(n);
  host.layout.write_group(host.arrays(), 0, 0, 16, codes.data(), scales.data(), zeros.data());

  // Registers 0 and 2 are rows 0 ... 7, 1 and 3 rows 8 ... 15; 0 and 1 the first two columns.
  CHECK_EQ(host.codes[0], 0x84627351u);
  // Columns 124 ... 127 are the second product of lane part 3 in the last block: rows 3 and 11 have
  // lane 15 of the second pair of blocks, and its last word.
  CHECK_EQ(host.codes[(32 + 15) * 4 + 3], 0x0c0a0b09u);
  int words = 0;
  for (const uint32_t word : host.codes) words += word != 0;
  CHECK_EQ(words, 2);
  // Rows of a pair are next to each other.
  for (size_t quad = 0; quad < 8; ++quad) {
    CHECK_EQ(host.scales[quad * 2], 100 + quad);
    CHECK_EQ(host.scales[quad * 2 + 1], 108 + quad);
    CHECK_EQ(int{host.zeros[quad * 2 + 1]}, static_cast<int>(8 + quad));
  }
}

TEST(bytes_of_a_word_are_four_columns_of_a_row) {
  Host host({16, 128, 8, 128, false, 1});
  CHECK_EQ(host.layout.code_bytes(), 2048);
  const auto codes = codes_of(16, 128, [](int64_t n, int64_t k) { return n == 9 ? k : 0; });
  const std::vector<uint16_t> scales(16);
  host.layout.write_group(host.arrays(), 0, 0, 16, codes.data(), scales.data(), nullptr);
  // Row 9 is the second row of quad 1: columns 8 ... 15 lie with lane 5, four to a product.
  CHECK_EQ(host.codes[5 * 4 + 1], 0x0b0a0908u);
  CHECK_EQ(host.codes[5 * 4 + 3], 0x0f0e0d0cu);
  // Column 64 begins the second unit.
  CHECK_EQ(host.codes[256 + 4 * 4 + 1], 0x43424140u);
}

TEST(rows_that_are_needed_together_share_a_tile) {
  QuantizedMatrixSpec spec{24, 128, 8, 0, false, 1};
  spec.pair_distance = 12;  // a gate of 12 rows and what it lets through
  Host host(spec);
  const QuantizedMatrix matrix = host.layout.matrix(host.arrays());
  CHECK_EQ(matrix.num_tiles, 2);
  std::vector<uint16_t> scales(24);
  for (uint16_t n = 0; n < 24; ++n) scales[n] = static_cast<uint16_t>(1 + n);
  const std::vector<uint8_t> codes(24 * 128);
  host.layout.write_group(host.arrays(), 0, 0, 24, codes.data(), scales.data(), nullptr);
  // Tile 0: rows 0 ... 7 with 12 ... 19; tile 1: rows 8 ... 11 with 20 ... 23, then none.
  for (size_t i = 0; i < 12; ++i) {
    CHECK_EQ(host.scales[i / 8 * 16 + i % 8 * 2], 1 + i);
    CHECK_EQ(host.scales[i / 8 * 16 + i % 8 * 2 + 1], 13 + i);
  }
  for (size_t i = 24; i < 32; ++i) CHECK_EQ(int{host.scales[i]}, 0);
}

TEST(groups_of_a_file_are_one_or_several_of_the_layout) {
  const auto group = [](int64_t size, int64_t columns = 1024) {
    return QuantizedMatrixLayout({16, columns, 4, size, false, 1}).group();
  };
  CHECK_EQ(group(32), 32);
  CHECK_EQ(group(64), 32);
  CHECK_EQ(group(128), 128);
  CHECK_EQ(group(256), 128);
  CHECK_EQ(group(0), 128);
  CHECK_EQ(group(96, 96), 128);
}

TEST(threads_store_both_rows_of_a_pair_at_once) {
  const QuantizedMatrixSpec spec{16, 1024, 4, 128, false, 1};
  Host together(spec), apart(spec);
  const auto code = [](int64_t n, int64_t k) { return (n * 7 + k * 3) % 16; };
  const std::vector<uint16_t> scales(16, 7);
  const auto all = codes_of(16, 128, code);
  const auto lower = codes_of(8, 128, code);
  const auto upper = codes_of(8, 128, [&](int64_t n, int64_t k) { return code(n + 8, k); });
  const auto store = [&](int64_t first_row, const std::vector<uint8_t>& codes) {
    for (int64_t g = 0; g < 8; ++g) {
      apart.layout.write_group(apart.arrays(), g, first_row, 8, codes.data(), scales.data(),
                               nullptr);
    }
  };
  for (int64_t g = 0; g < 8; ++g) {
    together.layout.write_group(together.arrays(), g, 0, 16, all.data(), scales.data(), nullptr);
  }
  std::thread other([&] { store(8, upper); });
  store(0, lower);
  other.join();
  CHECK(together.codes == apart.codes);
  CHECK(together.scales == apart.scales);
}

TEST(panels_of_the_cpu_become_the_same_matrix) {
  for (const int bits : {4, 8}) {
    const int64_t rows = 40, columns = 320, group_size = 64;
    const kernels::QuantizedLayout source{columns, group_size, bits, false};
    std::vector<unsigned char> panels(static_cast<size_t>(2 * source.panel_bytes()));
    std::vector<float> values;
    for (int64_t i = 0; i < rows * columns; ++i) {
      values.push_back(static_cast<float>(i * 7919 % 1000 - 500) / 300.f);
    }
    kernels::quantize_weight(panels.data(), source, 0, rows, values.data(), kernels::Format::kF32);

    const QuantizedMatrixSpec spec{rows, columns, bits, group_size, false, 1};
    Host from_panels(spec), from_codes(spec);
    for (int64_t panel = 0; panel < 2; ++panel) {
      from_panels.layout.write_panel(
          from_panels.arrays(), source, panels.data() + panel * source.panel_bytes(),
          panel * kernels::kPanelWidth,
          std::min<int64_t>(kernels::kPanelWidth, rows - panel * kernels::kPanelWidth));
    }
    // What the panels mean, as codes: the numbers over their scales.
    for (int64_t g = 0; g < columns / group_size; ++g) {
      std::vector<uint16_t> scales;
      std::vector<std::vector<float>> numbers;
      for (int64_t n = 0; n < rows; ++n) {
        const auto* panel = panels.data() + n / 32 * source.panel_bytes();
        uint16_t scale;
        std::memcpy(&scale, panel + g * source.group_bytes() + n % 32 * 2, sizeof scale);
        scales.push_back(scale);
        numbers.emplace_back(static_cast<size_t>(columns));
        kernels::unpack_quantized_row(numbers.back().data(), panels.data(), source, n);
      }
      const auto codes = codes_of(rows, group_size, [&](int64_t n, int64_t k) {
        const float scale = kernels::f16_to_f32(scales[static_cast<size_t>(n)]);
        const float number =
            numbers[static_cast<size_t>(n)][static_cast<size_t>(g * group_size + k)];
        return std::lround(number / scale) + source.symmetric_zero();
      });
      from_codes.layout.write_group(from_codes.arrays(), g, 0, rows, codes.data(), scales.data(),
                                    nullptr);
    }
    CHECK(from_panels.codes == from_codes.codes);
    CHECK(from_panels.scales == from_codes.scales);
  }
}

TEST(a_launch_fits_the_device_and_fills_it_evenly) {
  constexpr size_t kSmall = size_t{99} << 10, kLarge = size_t{227} << 10;
  // The widest matrix, of one row of x: in parts where blocks would be too few otherwise.
  const QuantizedMatrixLayout down({8192, 29568, 4, 128, true, 1});
  const auto small = down.gemv_launch(1, false, kSmall, 128);
  CHECK(2 * (small.shared_bytes + 1024) <= kSmall + 1024);
  CHECK_EQ(small.staged_units % kQuantizedGemvAhead, 0);
  CHECK_EQ(small.blocks, 256u);
  const auto large = down.gemv_launch(1, false, kLarge, 132);
  CHECK_EQ(large.staged_units, 29);
  // Normalised rows are staged once, whatever that takes.
  const QuantizedMatrixLayout gate({2 * 29568, 8192, 4, 128, true, 1});
  CHECK_EQ(gate.gemv_launch(8, true, kLarge, 132).staged_units, 8);
  CHECK(gate.gemv_launch(8, true, kSmall, 128).staged_units < 8);
  CHECK_ERROR("ERR_INTERNAL", gate.gemv_launch(8, true, 16 << 10, 128));
}

TEST(what_the_kernels_do_not_know_is_an_error) {
  const auto reject = [](const QuantizedMatrixSpec& spec) {
    CHECK_ERROR("ERR_CHECKPOINT_UNSUPPORTED", QuantizedMatrixLayout layout(spec));
  };
  reject({16, 128, 3, 128, false, 1});
  reject({16, 100, 4, 0, false, 1});
  reject({16, 128, 4, 48, false, 1});
  reject({16, 128, 4, 128, false, 3});
  reject({16, 576, 4, 128, false, 4});  // a segment would end within a group
  reject({0, 128, 4, 128, false, 1});
}
