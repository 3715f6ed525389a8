#include <algorithm>
#include <cmath>
#include <tuple>

#include "check.h"
#include "kernels/linear_case.h"

namespace qvl::test {

using kernels::Activation;
using kernels::Format;
using kernels::KernelTable;
using kernels::LinearArgs;

// A linear layer with everything it needs.
struct Layer : LinearCase {
  Format format;
  std::vector<float> matrix;  // [N, K] as the panels hold it
  bool with_bias = true, with_residual = true;
  const void* const* weight_rows = nullptr;  // in place of the panels

  Layer(int64_t rows_, int64_t out_features_, int64_t in_features_, Format format_,
        int segments_ = 1, Activation activation_ = Activation::kNone)
      : LinearCase(rows_, out_features_, in_features_, segments_, activation_), format(format_) {
    const std::vector<char> stored =
        as_format(random_floats(out_features * in_features, 4), format);
    matrix = as_floats(stored, format);
    panels.resize(static_cast<size_t>(kernels::num_panels(out_features) * kernels::kPanelWidth *
                                      in_features) *
                  kernels::format_size(format));
    kernels::pack_weight(panels.data(), format, in_features, 0, out_features, stored.data(),
                         format);
  }

  LinearArgs args(std::vector<float>& out) const {
    LinearArgs a = LinearCase::args(out);
    if (weight_rows != nullptr) a.weight = nullptr;
    a.weight_rows = weight_rows;
    if (!with_bias) a.bias = nullptr;
    if (!with_residual) a.residual = nullptr;
    a.format = format;
    return a;
  }

  std::vector<float> run(const KernelTable& table) const {
    std::vector<float> out;
    const LinearArgs a = args(out);
    table.linear(a, 0, kernels::num_panels(out_features));
    return out;
  }

  // In several calls, as threads would share the work.
  std::vector<float> run_packed(const KernelTable& table) const {
    std::vector<float> out;
    const LinearArgs a = args(out);
    std::vector<float> packed(static_cast<size_t>(rows * in_features));
    std::vector<float> scratch(static_cast<size_t>(table.linear_scratch_floats), NAN);
    const int64_t tiles = table.num_row_tiles(rows);
    const int64_t panels_count = kernels::num_panels(out_features);
    const int64_t tile_border = tiles / 3;
    const int64_t panel_border = panels_count / 2;
    table.pack_rows(packed.data(), a, tile_border, tiles);
    table.pack_rows(packed.data(), a, 0, tile_border);
    for (const auto& [t0, t1] : {std::pair{int64_t{0}, tile_border}, {tile_border, tiles}}) {
      table.linear_packed(a, packed.data(), t0, t1, panel_border, panels_count, scratch.data());
      table.linear_packed(a, packed.data(), t0, t1, 0, panel_border, scratch.data());
    }
    return out;
  }

  // In double precision, and how large its terms are: the scale of the rounding errors.
  std::vector<float> exact(std::vector<double>* magnitudes) const {
    std::vector<float> out(static_cast<size_t>(rows * (out_features + kGap)), -7.0f);
    magnitudes->assign(out.size(), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < out_features; ++n) {
        const size_t index = static_cast<size_t>(r * (out_features + kGap) + n);
        double sum = bias[static_cast<size_t>(n)];
        double magnitude = 1;
        for (int64_t k = 0; k < in_features; ++k) {
          const double term =
              static_cast<double>(x[static_cast<size_t>(r * (in_features + kGap) + k)]) *
              matrix[static_cast<size_t>(n * in_features + k)];
          sum += term;
          magnitude += std::fabs(term);
        }
        if (activation == Activation::kQuickGelu) sum = sum / (1 + std::exp(-1.702 * sum));
        if (activation == Activation::kGelu) sum *= 0.5 * (1 + std::erf(sum / std::sqrt(2.0)));
        out[index] = static_cast<float>(sum + residual[index]);
        (*magnitudes)[index] = magnitude;
      }
    }
    return out;
  }
};

constexpr int64_t kEdges[] = {1, 7, 15, 16, 17, 31, 32, 33, 63, 65, 80};

TEST(scalar_linear_is_right) {
  for (const Format format : kFormats) {
    for (const int segments : {1, 2, 4, 8}) {
      for (const Activation activation :
           {Activation::kNone, Activation::kQuickGelu, Activation::kGelu}) {
        const Layer layer(3, 37, 72, format, segments, activation);
        std::vector<double> magnitudes;
        const std::vector<float> expected = layer.exact(&magnitudes);
        const std::vector<float> actual = layer.run(kernels::scalar_kernels());
        for (size_t i = 0; i < actual.size(); ++i) {
          CHECK(std::fabs(actual[i] - expected[i]) <= 4e-7 * magnitudes[i]);
        }
      }
    }
  }
}

TEST(segments_are_added_as_a_balanced_tree) {
  // 8 segments of one input each, weights 1: the tree of the inputs themselves.
  Layer layer(1, 1, 8, Format::kF32, 8);
  layer.x = {1e8f, 1.0f, -1e8f, 3.0f, 1e-3f, 5.0f, -5.0f, 7.0f};
  layer.with_bias = layer.with_residual = false;
  const float one = 1.0f;
  std::vector<float> ones(8, one);
  kernels::pack_weight(layer.panels.data(), Format::kF32, 8, 0, 1, ones.data(), Format::kF32);
  const auto& x = layer.x;
  const float expected = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
  for (const KernelTable* table : all_kernels()) CHECK_EQ(layer.run(*table)[0], expected);
}

TEST(every_version_has_the_bits_of_the_scalar_one) {
  for (const KernelTable* table : vector_kernels()) {
    for (const Format format : kFormats) {
      for (const int64_t n : kEdges) {
        for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13}) {
          const Layer layer(rows, n, 24, format);
          const std::vector<float> expected = layer.run(kernels::scalar_kernels());
          CHECK(agrees(*table, layer.run(*table), expected));
          CHECK(agrees(*table, layer.run_packed(*table), expected));
        }
      }
    }
  }
}

TEST(borders_of_tiles_and_passes_have_the_bits_of_the_scalar_version) {
  // Tiles of 6 and 14 rows, up to 480 and 560 rows a pass, four panels a pass.
  for (const KernelTable* table : vector_kernels()) {
    for (const int64_t rows : {14, 15, 28, 29, 479, 480, 481, 559, 560, 561}) {
      const Layer layer(rows, 33, 9, Format::kBF16);
      CHECK(agrees(*table, layer.run_packed(*table), layer.run(kernels::scalar_kernels())));
    }
    for (const int64_t n : {127, 128, 129, 160, 255, 257, 287}) {
      const Layer layer(15, n, 40, Format::kF16);
      const std::vector<float> expected = layer.run(kernels::scalar_kernels());
      CHECK(agrees(*table, layer.run(*table), expected));
      CHECK(agrees(*table, layer.run_packed(*table), expected));
    }
  }
}

TEST(widths_of_the_published_models_have_the_bits_of_the_scalar_version) {
  // 2B, 7B and 72B: hidden and intermediate sizes, as inputs and as outputs.
  for (const int64_t width : {1536, 8960, 3584, 18944, 8192, 29568}) {
    const Layer down(15, 33, width, Format::kBF16, 8);
    const Layer up(2, width, 8, Format::kBF16);
    const std::vector<float> down_expected = down.run(kernels::scalar_kernels());
    const std::vector<float> up_expected = up.run(kernels::scalar_kernels());
    for (const KernelTable* table : vector_kernels()) {
      CHECK(agrees(*table, down.run(*table), down_expected, 2e-4));
      CHECK(agrees(*table, down.run_packed(*table), down_expected, 2e-4));
      CHECK(agrees(*table, up.run(*table), up_expected));
      CHECK(agrees(*table, up.run_packed(*table), up_expected));
    }
  }
}

TEST(segments_and_long_sums_have_the_bits_of_the_scalar_version) {
  // 1, 255 and 257 inputs: the borders of the blocks over k; 2080: several blocks per segment.
  for (const KernelTable* table : vector_kernels()) {
    for (const Format format : kFormats) {
      for (const int64_t k : {1, 255, 256, 257, 8, 520, 2080, 4160}) {
        for (const int segments : {1, 2, 4, 8}) {
          if (k % segments != 0 || (segments > 1 && k > 4000 && format != Format::kBF16)) continue;
          const Layer layer(8, 33, k, format, segments);
          const std::vector<float> expected = layer.run(kernels::scalar_kernels());
          CHECK(agrees(*table, layer.run(*table), expected, 2e-4));
          CHECK(agrees(*table, layer.run_packed(*table), expected, 2e-4));
        }
      }
    }
  }
}

TEST(activations_and_missing_parts_have_the_bits_of_the_scalar_version) {
  for (const KernelTable* table : vector_kernels()) {
    for (const Activation activation :
         {Activation::kNone, Activation::kQuickGelu, Activation::kGelu}) {
      for (int parts = 0; parts < 4; ++parts) {
        Layer layer(9, 50, 40, Format::kBF16, 1, activation);
        layer.with_bias = (parts & 1) != 0;
        layer.with_residual = (parts & 2) != 0;
        const std::vector<float> expected = layer.run(kernels::scalar_kernels());
        CHECK(agrees(*table, layer.run(*table), expected));
        CHECK(agrees(*table, layer.run_packed(*table), expected));
      }
    }
  }
}

TEST(swiglu_has_the_bits_of_the_products_and_the_operation_apart) {
  for (const KernelTable* table : all_kernels()) {
    for (const Format format : kFormats) {
      for (const int64_t width : {32, 64, 96, 160, 224}) {  // whole passes of panels, and not
        for (const int64_t rows : {1, 3, 14, 33}) {
          Layer both(rows, 2 * width, 50, format);
          both.with_bias = both.with_residual = false;
          const std::vector<float> gate_up = both.run(kernels::scalar_kernels());
          Layer fused = both;
          fused.out_features = width;
          fused.activation = Activation::kSwiGlu;
          std::vector<float> expected;
          fused.args(expected);
          kernels::scalar_kernels().swiglu({expected.data(), gate_up.data(), width,
                                            width + Layer::kGap, 2 * width + Layer::kGap},
                                           0, rows);
          // A product of two sums: their relative errors add up.
          CHECK(agrees(*table, fused.run(*table), expected, 1e-4));
          if (table->linear_packed != nullptr) {
            CHECK(agrees(*table, fused.run_packed(*table), expected, 1e-4));
          }
        }
      }
    }
  }
}

TEST(a_row_does_not_depend_on_the_rows_beside_it) {
  const int64_t most = 300;  // more than one block of row tiles
  const Layer all(most, 40, 96, Format::kBF16, 2);
  for (const KernelTable* table : vector_kernels()) {
    const std::vector<float> together = all.run_packed(*table);
    for (int64_t rows = 1; rows <= 37; ++rows) {
      Layer some = all;
      some.rows = rows;
      for (const std::vector<float>& part : {some.run(*table), some.run_packed(*table)}) {
        CHECK(std::memcmp(part.data(), together.data(), part.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST(the_residual_may_be_the_output) {
  for (const KernelTable* table : all_kernels()) {
    const Layer layer(5, 35, 16, Format::kF32);
    std::vector<float> out;
    LinearArgs args = layer.args(out);
    out = layer.residual;
    args.residual = out.data();
    table->linear(args, 0, kernels::num_panels(layer.out_features));
    const std::vector<float> expected = layer.run(*table);
    for (int64_t r = 0; r < layer.rows; ++r) {
      const auto row = static_cast<size_t>(r * args.out_stride);
      CHECK(std::memcmp(&out[row], &expected[row], 35 * sizeof(float)) == 0);
    }
  }
}

// One to several blocks of k, segments that are no whole blocks, tile edges, rows at odd addresses.
TEST(weights_that_lie_row_by_row_give_the_bits_of_packed_ones) {
  for (const KernelTable* table : all_kernels()) {
    for (const Format format : kFormats) {
      for (const auto& [features, inputs, segments] :
           {std::tuple<int64_t, int64_t, int>{35, 19, 1}, {96, 232, 8}, {129, 900, 4}}) {
        for (const int64_t rows : {1, 3, 16, 33}) {
          const Layer layer(rows, features, inputs, format, segments);
          const std::vector<char> stored = as_format(layer.matrix, format);
          std::vector<char> shifted(stored.size() + 1);
          std::copy(stored.begin(), stored.end(), shifted.begin() + 1);
          std::vector<const void*> starts(
              static_cast<size_t>(kernels::num_panels(features) * kernels::kPanelWidth));
          const size_t row_bytes = static_cast<size_t>(inputs) * kernels::format_size(format);
          for (size_t i = 0; i < static_cast<size_t>(features); ++i) {
            starts[i] = shifted.data() + 1 + i * row_bytes;
          }
          Layer by_rows = layer;
          by_rows.weight_rows = starts.data();
          const bool few = rows <= table->max_unpacked_rows;
          CHECK(few ? same_bits(by_rows.run(*table), layer.run(*table))
                    : same_bits(by_rows.run_packed(*table), layer.run_packed(*table)));
        }
      }
    }
  }
}

}  // namespace qvl::test
