#include "kernels/cpu/linear_quantized.h"

#include <cmath>

#include "check.h"
#include "kernels/linear_case.h"

namespace qvl::test {

using kernels::Activation;
using kernels::Format;
using kernels::KernelTable;
using kernels::LinearArgs;
using kernels::QuantizedLayout;

// How a weight is quantised; group 0: the whole row.
struct Scheme {
  int bits;
  int64_t group;
  bool has_zeros = false;
};

constexpr Scheme kSchemes[] = {
    {8, 0}, {8, 128}, {8, 32}, {4, 32}, {4, 64}, {4, 128}, {4, 0}, {4, 128, true}, {8, 64, true},
};

// A linear layer with a quantised weight.
struct Layer : LinearCase {
  QuantizedLayout layout;
  std::vector<float> weights;  // [N, K] before they were quantised

  Layer(int64_t rows_, int64_t out_features_, int64_t in_features_, const Scheme& scheme,
        int segments_ = 1, Activation activation_ = Activation::kNone)
      : LinearCase(rows_, out_features_, in_features_, segments_, activation_) {
    layout.in_features = in_features;
    layout.group_size = scheme.group == 0 ? in_features : scheme.group;
    layout.bits = scheme.bits;
    layout.has_zeros = scheme.has_zeros;
    weights = random_floats(out_features * in_features, 4, 0.05f);
    panels.resize(static_cast<size_t>(kernels::num_panels(out_features) * layout.panel_bytes()));
    kernels::quantize_weight(panels.data(), layout, 0, out_features, weights.data(), Format::kF32);
    if (layout.has_zeros) set_zeros();
  }

  // Zero points of all values; the codes then stand for other numbers.
  void set_zeros() {
    for (int64_t panel = 0; panel < kernels::num_panels(out_features); ++panel) {
      for (int64_t g = 0; g < layout.num_groups(); ++g) {
        char* group = const_cast<char*>(kernels::group_data(panels.data(), layout, panel, g));
        for (int64_t lane = 0; lane < kernels::kPanelWidth; ++lane) {
          const int64_t zero = (5 * lane + 3 * g + panel) % (int64_t{1} << layout.bits);
          group[64 + lane] = static_cast<char>(static_cast<unsigned char>(zero));
        }
      }
    }
  }

  LinearArgs args(std::vector<float>& out) const {
    LinearArgs a = LinearCase::args(out);
    a.quantized = &layout;
    return a;
  }

  std::vector<float> run(const KernelTable& table) const {
    std::vector<float> out;
    table.linear_quantized(args(out), 0, kernels::num_panels(out_features));
    return out;
  }

  // By packed rows; in several calls, as threads would share the work.
  std::vector<float> run_packed(const KernelTable& table) const {
    std::vector<float> out;
    const LinearArgs a = args(out);
    std::vector<float> packed(static_cast<size_t>(rows * in_features));
    std::vector<float> scratch(static_cast<size_t>(table.linear_scratch_floats));
    const int64_t tiles = table.num_row_tiles(rows);
    const int64_t panels_count = kernels::num_panels(out_features);
    const int64_t tile_border = tiles / 3;
    table.pack_rows(packed.data(), a, 0, tiles);
    for (const auto& [t0, t1] : {std::pair{int64_t{0}, tile_border}, {tile_border, tiles}}) {
      table.linear_quantized_packed(a, packed.data(), t0, t1, 0, panels_count, scratch.data());
    }
    return out;
  }

  // With 8-bit activations; in several calls, as threads would share the work.
  std::vector<float> run_int8(const KernelTable& table) const {
    std::vector<float> out;
    const LinearArgs a = args(out);
    std::vector<char> packed(static_cast<size_t>(rows * kernels::int8_row_bytes(layout)), 77);
    const int64_t tiles = kernels::num_int8_tiles(rows, table.max_int8_rows);
    const int64_t panels_count = kernels::num_panels(out_features);
    const int64_t tile_border = tiles / 3;
    const int64_t panel_border = panels_count / 2;
    table.quantize_rows(packed.data(), a, tile_border, tiles);
    table.quantize_rows(packed.data(), a, 0, tile_border);
    for (const auto& [t0, t1] : {std::pair{int64_t{0}, tile_border}, {tile_border, tiles}}) {
      table.linear_int8(a, packed.data(), t0, t1, panel_border, panels_count);
      table.linear_int8(a, packed.data(), t0, t1, 0, panel_border);
    }
    return out;
  }

  // fp32 panels of the numbers that the codes stand for.
  std::vector<float> dequantized() const {
    std::vector<float> matrix(static_cast<size_t>(out_features * in_features));
    for (int64_t n = 0; n < out_features; ++n) {
      kernels::unpack_quantized_row(&matrix[static_cast<size_t>(n * in_features)], panels.data(),
                                    layout, n);
    }
    std::vector<float> plain(static_cast<size_t>(kernels::num_panels(out_features) *
                                                 kernels::kPanelWidth * in_features));
    kernels::pack_weight(plain.data(), Format::kF32, in_features, 0, out_features, matrix.data(),
                         Format::kF32);
    return plain;
  }

  // The product with fp32 panels.
  std::vector<float> run_plain(const KernelTable& table, const std::vector<float>& plain) const {
    std::vector<float> out;
    LinearArgs a = args(out);
    a.weight = plain.data();
    a.format = Format::kF32;
    a.quantized = nullptr;
    table.linear(a, 0, kernels::num_panels(out_features));
    return out;
  }

  std::vector<float> run_dequantized(const KernelTable& table) const {
    return run_plain(table, dequantized());
  }
};

// Inputs: a full group of every size, a part of one, a last chunk that is not full, one input.
constexpr int64_t kInputs[] = {1, 5, 8, 24, 31, 32, 33, 100, 128, 136, 257, 384};

TEST(products_are_those_with_the_numbers_that_the_codes_stand_for) {
  for (const KernelTable* table : all_kernels()) {
    for (const Scheme& scheme : kSchemes) {
      for (const int64_t k : kInputs) {
        for (const int64_t rows : {1, 2, 3, 9, 35}) {
          const Layer layer(rows, 37, k, scheme);
          const std::vector<float> expected = layer.run_dequantized(kernels::scalar_kernels());
          CHECK(same_bits(layer.run(*table), expected));
          if (table->linear_quantized_packed == nullptr) continue;
          CHECK(same_bits(layer.run_packed(*table), expected));
        }
      }
    }
  }
}

TEST(packed_rows_meet_segments_and_several_blocks_of_inputs) {
  for (const KernelTable* table : vector_kernels()) {
    if (table->linear_quantized_packed == nullptr) continue;
    for (const Scheme& scheme : {Scheme{8, 128}, Scheme{4, 32}, Scheme{4, 128, true}}) {
      for (const int64_t k : {1536, 2560, 8960}) {
        const Layer layer(33, 70, k, scheme, k % 1024 == 512 ? 4 : 2);
        CHECK(
            same_bits(layer.run_packed(*table), layer.run_dequantized(kernels::scalar_kernels())));
      }
    }
  }
}

TEST(packed_swiglu_is_the_product_of_its_halves) {
  for (const KernelTable* table : vector_kernels()) {
    if (table->linear_quantized_packed == nullptr) continue;
    Layer layer(21, 192, 384, {4, 32});
    const std::vector<float> plain = layer.dequantized();
    layer.activation = Activation::kSwiGlu;
    layer.out_features = 96;
    CHECK(same_bits(layer.run_packed(*table), layer.run_plain(*table, plain)));
  }
}

TEST(int8_activations_have_the_bits_of_the_scalar_version) {
  for (const KernelTable* table : vector_kernels()) {
    for (const Scheme& scheme : kSchemes) {
      for (const int64_t k : kInputs) {
        for (const int64_t rows : {1, 2, 3, 4, 5, 12, 13, 29}) {
          const Layer layer(rows, rows == 5 ? 64 : 37, k, scheme);
          CHECK(same_bits(layer.run_int8(*table), layer.run_int8(kernels::scalar_kernels())));
        }
      }
    }
  }
}

TEST(edges_of_panels_have_the_bits_of_the_scalar_version) {
  for (const KernelTable* table : vector_kernels()) {
    for (const Scheme& scheme : {Scheme{8, 128}, Scheme{4, 32}}) {
      for (const int64_t n : {1, 7, 15, 16, 17, 31, 32, 33, 63, 65, 80}) {
        const Layer layer(3, n, 64, scheme, 2, Activation::kQuickGelu);
        if (layer.layout.activation_block() == 32) {
          CHECK(same_bits(layer.run(*table), layer.run(kernels::scalar_kernels())));
          CHECK(same_bits(layer.run_int8(*table), layer.run_int8(kernels::scalar_kernels())));
        }
      }
    }
  }
}

// The root of the mean square of the error, relative to that of the product with exact weights.
double relative_error(const Layer& layer, const std::vector<float>& found) {
  double error = 0;
  double magnitude = 0;
  for (int64_t r = 0; r < layer.rows; ++r) {
    for (int64_t n = 0; n < layer.out_features; ++n) {
      double product = 0;
      for (int64_t k = 0; k < layer.in_features; ++k) {
        product += static_cast<double>(
                       layer.x[static_cast<size_t>(r * (layer.in_features + Layer::kGap) + k)]) *
                   layer.weights[static_cast<size_t>(n * layer.in_features + k)];
      }
      const auto index = static_cast<size_t>(r * (layer.out_features + Layer::kGap) + n);
      const double value = static_cast<double>(found[index]) - layer.residual[index] -
                           layer.bias[static_cast<size_t>(n)];
      error += (value - product) * (value - product);
      magnitude += product * product;
    }
  }
  return std::sqrt(error / magnitude);
}

TEST(random_layers_of_the_published_widths_lose_little) {
  struct Bound {
    Scheme scheme;
    double fp32_activations;
    double int8_activations;
  };
  // A fifth above what was measured; docs/performance.md has the figures.
  const Bound bounds[] = {{{8, 128}, 0.0077, 0.0107},
                          {{8, 0}, 0.009, 0.0124},
                          {{4, 32}, 0.109, 0.109},
                          {{4, 128}, 0.119, 0.119}};
  const KernelTable& table = *kernels::available_kernels().front();
  for (const Bound& bound : bounds) {
    for (const int64_t k : {1536, 8960, 3584, 18944, 8192, 29568}) {
      const Layer layer(4, 64, k, bound.scheme);
      const double fp32 = relative_error(layer, layer.run(table));
      const double int8 = relative_error(layer, layer.run_int8(table));
      CHECK(fp32 > 0 && fp32 < bound.fp32_activations);
      CHECK(int8 > 0 && int8 < bound.int8_activations);
    }
  }
}

}  // namespace qvl::test
