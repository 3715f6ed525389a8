// out = residual + activation(x * weight^T + bias), AVX2 + FMA + F16C. See LinearArgs for the order
// of sums, which is the same in both ways:
//   linear         few rows: the panels are streamed from memory once, widened in registers
//   linear_packed  many rows: a block of a panel is widened into the first-level cache and every
//                  tile of rows goes over it; partial sums wait in scratch between blocks of k

#if defined(__x86_64__) || defined(_M_X64)

#include "kernels/cpu/avx2.h"
#include "kernels/cpu/linear.h"

namespace qvl::kernels::avx2 {
namespace {

// Sums of finished subtrees that can exist at once: 4 with 8 segments.
constexpr int kMaxDepth = 4;

// Blocks of the packed product: kBlockK x 2 panels of widened weights take 32 KB; the tiles of a
// row block and their sums fit the second-level cache.
constexpr int64_t kBlockK = 256;
constexpr int64_t kPanelsAtOnce = 2;
constexpr int64_t kTilesAtOnce = 40;
constexpr int64_t kSumsFloats =
    kTilesAtOnce * kMaxTileRows * kPanelsAtOnce * kPanelWidth;  // of one subtree

// Writes out[row, first .. first + count) from the finished sums [16].
void finish(const LinearArgs& args, int64_t row, int64_t first, const float* sums) {
  float* out = args.out + row * args.out_stride + first;
  const int64_t count = args.out_features - first;
  for (int64_t i = 0; i < kPanelWidth && i < count; i += 8) {
    const __m256i mask = lane_mask(count - i);
    __m256 value = _mm256_loadu_ps(sums + i);
    if (args.bias != nullptr) {
      value = _mm256_add_ps(value, _mm256_maskload_ps(args.bias + first + i, mask));
    }
    if (args.activation == Activation::kQuickGelu) {
      value = swish(value, -1.702f);
    } else if (args.activation == Activation::kGelu) {
      float lanes[8];
      _mm256_storeu_ps(lanes, value);
      gelu_in_place(lanes, 8);
      value = _mm256_loadu_ps(lanes);
    }
    if (args.residual != nullptr) {
      const float* residual = args.residual + row * args.residual_stride + first + i;
      value = _mm256_add_ps(_mm256_maskload_ps(residual, mask), value);
    }
    _mm256_maskstore_ps(out + i, mask, value);
  }
}

// After segment `segment`: adds up the subtrees that it completes. stack [depth][stride]; returns
// the new depth.
int merge_subtrees(float* stack, int64_t stride, int64_t floats, int depth, int segment) {
  for (int merged = segment + 1; merged % 2 == 0; merged /= 2) {
    --depth;
    float* to = stack + (depth - 1) * stride;
    const float* from = stack + depth * stride;
    for (int64_t i = 0; i < floats; i += 8) {
      _mm256_storeu_ps(to + i, _mm256_add_ps(_mm256_loadu_ps(to + i), _mm256_loadu_ps(from + i)));
    }
  }
  return depth;
}

// ---- few rows ----

// sums [kPanels][kRows][16] = chains over `count` inputs from x and w on.
template <Format kFormat, int kRows, int kPanels>
void panel_chains(float* sums, const float* x, int64_t x_stride, const char* w, int64_t panel_bytes,
                  int64_t count) {
  constexpr int64_t kBytes = kPanelWidth * static_cast<int64_t>(format_size(kFormat));
  __m256 acc[kPanels][kRows][2];
  unroll<kPanels>([&](auto p) QVL_ALWAYS_INLINE { zero_tile<kRows>(acc[decltype(p)::value]); });
  for (int64_t k = 0; k < count; ++k) {
    unroll<kPanels>([&](auto panel) QVL_ALWAYS_INLINE {
      constexpr int p = decltype(panel)::value;
      __m256 low;
      __m256 high;
      load_16<kFormat>(w + p * panel_bytes + k * kBytes, low, high);
      unroll<kRows>([&](auto row) QVL_ALWAYS_INLINE {
        constexpr int r = decltype(row)::value;
        const __m256 value = _mm256_broadcast_ss(x + r * x_stride + k);
        acc[p][r][0] = _mm256_fmadd_ps(value, low, acc[p][r][0]);
        acc[p][r][1] = _mm256_fmadd_ps(value, high, acc[p][r][1]);
      });
    });
  }
  unroll<kPanels>([&](auto panel) QVL_ALWAYS_INLINE {
    constexpr int p = decltype(panel)::value;
    store_tile<kRows>(acc[p], sums + p * kRows * kPanelWidth, kPanelWidth);
  });
}

template <Format kFormat, int kRows, int kPanels>
void panels_of_rows(const LinearArgs& args, int64_t panel) {
  constexpr int64_t kBytes = kPanelWidth * static_cast<int64_t>(format_size(kFormat));
  constexpr int64_t kFloats = kRows * kPanels * kPanelWidth;
  const int64_t panel_bytes = args.in_features * kBytes;
  const int64_t length = args.in_features / args.segments;
  const char* w = static_cast<const char*>(args.weight) + panel * panel_bytes;
  float stack[kMaxDepth][kFloats];
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    const int64_t first = segment * length;
    panel_chains<kFormat, kRows, kPanels>(stack[depth++], args.x + first, args.x_stride,
                                          w + first * kBytes, panel_bytes, length);
    depth = merge_subtrees(stack[0], kFloats, kFloats, depth, segment);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      finish(args, r, (panel + p) * kPanelWidth, stack[0] + (p * kRows + r) * kPanelWidth);
    }
  }
}

template <Format kFormat, int kRows>
void few_rows(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  // Enough panels at once for at least eight chains; more would need more registers than there are.
  constexpr int kPanels = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
  int64_t panel = first_panel;
  for (; panel + kPanels <= last_panel; panel += kPanels) {
    panels_of_rows<kFormat, kRows, kPanels>(args, panel);
  }
  for (; panel < last_panel; ++panel) panels_of_rows<kFormat, kRows, 1>(args, panel);
}

template <Format kFormat>
void linear_in(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  for (int64_t row = 0; row < args.rows; row += kMaxUnpackedRows) {
    LinearArgs part = args;
    part.x += row * args.x_stride;
    part.out += row * args.out_stride;
    if (part.residual != nullptr) part.residual += row * args.residual_stride;
    part.rows = args.rows - row < kMaxUnpackedRows ? args.rows - row : kMaxUnpackedRows;
    with_tile_rows(part.rows, [&](auto rows) {
      few_rows<kFormat, decltype(rows)::value>(part, first_panel, last_panel);
    });
  }
}

// ---- many rows ----

// One tile of rows and one panel over a block of k: sums [kRows][16] go on, or start.
template <int kRows>
void tile_block(float* sums, const float* packed, const float* weights, int64_t count, bool start) {
  __m256 acc[kRows][2];
  if (start) {
    zero_tile<kRows>(acc);
  } else {
    load_tile<kRows>(acc, sums, kPanelWidth);
  }
  multiply_tile<kRows, 1, kRows>(acc, packed, weights, kPanelWidth, count);
  store_tile<kRows>(acc, sums, kPanelWidth);
}

// The sums of a row block: tile after tile, [panels][height][16] each.
struct RowBlock {
  const LinearArgs& args;
  const float* packed;
  int64_t first_tile;
  int64_t last_tile;

  int64_t begin(int64_t tile) const { return tile_begin(args.rows, tile); }
  int64_t rows() const { return begin(last_tile) - begin(first_tile); }
};

template <Format kFormat>
void block_times_panels(const RowBlock& block, int64_t panel, int64_t panels, float* widened,
                        float* stack) {
  constexpr int64_t kBytes = kPanelWidth * static_cast<int64_t>(format_size(kFormat));
  const LinearArgs& args = block.args;
  const int64_t length = args.in_features / args.segments;
  const int64_t floats = block.rows() * panels * kPanelWidth;
  const char* weight = static_cast<const char*>(args.weight);
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* const segment_sums = stack + depth++ * kSumsFloats;
    const int64_t end = (segment + 1) * length;
    for (int64_t k = segment * length; k < end; k += kBlockK) {
      const int64_t count = end - k < kBlockK ? end - k : kBlockK;
      const float* weights[kPanelsAtOnce] = {};
      for (int64_t p = 0; p < panels; ++p) {
        const char* from = weight + ((panel + p) * args.in_features + k) * kBytes;
        if constexpr (kFormat == Format::kF32) {
          weights[p] = reinterpret_cast<const float*>(from);
        } else {
          widen<kFormat>(widened + p * kBlockK * kPanelWidth, from, count);
          weights[p] = widened + p * kBlockK * kPanelWidth;
        }
      }
      float* sums = segment_sums;
      for (int64_t tile = block.first_tile; tile < block.last_tile; ++tile) {
        const int64_t first_row = block.begin(tile);
        const int64_t height = block.begin(tile + 1) - first_row;
        const float* rows = block.packed + first_row * args.in_features + k * height;
        with_tile_rows(height, [&](auto constant) {
          constexpr int kRows = decltype(constant)::value;
          for (int64_t p = 0; p < panels; ++p) {
            tile_block<kRows>(sums, rows, weights[p], count, k == segment * length);
            sums += kRows * kPanelWidth;
          }
        });
      }
    }
    depth = merge_subtrees(stack, kSumsFloats, floats, depth, segment);
  }
  const float* sums = stack;
  for (int64_t tile = block.first_tile; tile < block.last_tile; ++tile) {
    for (int64_t p = 0; p < panels; ++p) {
      for (int64_t row = block.begin(tile); row < block.begin(tile + 1); ++row) {
        finish(args, row, (panel + p) * kPanelWidth, sums);
        sums += kPanelWidth;
      }
    }
  }
}

template <Format kFormat>
void linear_packed_in(const LinearArgs& args, const float* packed, int64_t first_tile,
                      int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  float* widened = scratch;
  float* stack = scratch + kPanelsAtOnce * kBlockK * kPanelWidth;
  for (int64_t tile = first_tile; tile < last_tile; tile += kTilesAtOnce) {
    const int64_t end = tile + kTilesAtOnce < last_tile ? tile + kTilesAtOnce : last_tile;
    const RowBlock block = {args, packed, tile, end};
    for (int64_t panel = first_panel; panel < last_panel; panel += kPanelsAtOnce) {
      const int64_t left = last_panel - panel;
      block_times_panels<kFormat>(block, panel, left < kPanelsAtOnce ? left : kPanelsAtOnce,
                                  widened, stack);
    }
  }
}

}  // namespace

const int64_t kLinearScratchFloats =
    kPanelsAtOnce * kBlockK * kPanelWidth + kMaxDepth * kSumsFloats;

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  switch (args.format) {
    case Format::kBF16:
      return linear_in<Format::kBF16>(args, first_panel, last_panel);
    case Format::kF16:
      return linear_in<Format::kF16>(args, first_panel, last_panel);
    case Format::kF32:
      return linear_in<Format::kF32>(args, first_panel, last_panel);
  }
}

int64_t num_row_tiles(int64_t rows) { return num_tiles(rows); }

void pack_rows(float* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile) {
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t first_row = tile_begin(args.rows, tile);
    const int64_t height = tile_begin(args.rows, tile + 1) - first_row;
    const float* x = args.x + first_row * args.x_stride;
    float* to = packed + first_row * args.in_features;
    with_tile_rows(height, [&](auto constant) {
      constexpr int kRows = decltype(constant)::value;
      for (int64_t k = 0; k < args.in_features; ++k) {
        for (int r = 0; r < kRows; ++r) to[k * kRows + r] = x[r * args.x_stride + k];
      }
    });
  }
}

void linear_packed(const LinearArgs& args, const float* packed, int64_t first_tile,
                   int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch) {
  const auto run = [&](auto kernel) {
    kernel(args, packed, first_tile, last_tile, first_panel, last_panel, scratch);
  };
  switch (args.format) {
    case Format::kBF16:
      return run(linear_packed_in<Format::kBF16>);
    case Format::kF16:
      return run(linear_packed_in<Format::kF16>);
    case Format::kF32:
      return run(linear_packed_in<Format::kF32>);
  }
}

}  // namespace qvl::kernels::avx2

#endif  // x86-64
