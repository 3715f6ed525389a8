#pragma once

// The CPU kernels: plain functions over pointers, sizes and strides. They know no tensors and no
// threads: every kernel does a range of its work, and the backend hands ranges to threads.
//
// Each operation has a scalar version (`<op>.cpp`), which is its specification, and one vectorised
// version (`<op>_simd.h`) over the vocabulary of `vector_<set>.h`; `<set>.cpp` compiles it for an
// instruction set into a KernelTable. All do the same operations in the same order, so their
// results are equal bit for bit (but for sets without a fused multiply-add); fused multiply-adds
// are written out, never left to the compiler.
//
// Layouts shared by kernels, backend and tests:
//   weight panels   [ceil(N / 32)][K][32], N output features, K input features; the last panel is
//                   padded with zeros. A vector lane is an output feature, so a matrix-vector and a
//                   matrix-matrix product can add over k in one and the same order; and a panel is
//                   one stream of memory with enough independent sums.
//   key block       one key/value head's keys of 32 tokens, [D][32]
//   value block     the values of the same tokens, [32][Dp], Dp = D rounded up to 16; the padding
//                   columns are zero

#include <cstddef>
#include <cstdint>
#include <span>

namespace qvl::kernels {

/// How numbers are stored. Arithmetic is always fp32.
enum class Format : uint8_t { kF32, kBF16, kF16 };

/// kSwiGlu: see LinearArgs.
enum class Activation : uint8_t { kNone, kQuickGelu, kGelu, kSwiGlu };

constexpr int kPanelWidth = 32;
constexpr int kTileWidth = 16;  // columns that the inner loops treat together
constexpr int kBlockTokens = 32;
constexpr int kPartTokens = 256;  // keys of a part: see AttentionArgs
constexpr int kMaxSegments = 8;

// `static`: see convert.h.
static constexpr size_t format_size(Format format) { return format == Format::kF32 ? 4 : 2; }
static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static constexpr int64_t num_panels(int64_t features) { return ceil_div(features, kPanelWidth); }
static constexpr int64_t num_tile_columns(int64_t columns) { return ceil_div(columns, kTileWidth); }
static constexpr int64_t padded_head_dim(int64_t head_dim) {
  return num_tile_columns(head_dim) * kTileWidth;
}
static constexpr int64_t key_block_elements(int64_t head_dim) { return kBlockTokens * head_dim; }
static constexpr int64_t value_block_elements(int64_t head_dim) {
  return kBlockTokens * padded_head_dim(head_dim);
}

/// Floats of one row's partial result of attention: the sum of the values, and 16 for the sum of
/// the weights and the maximum, so that rows stay aligned.
static constexpr int64_t partial_floats(int64_t head_dim) { return padded_head_dim(head_dim) + 16; }

struct QuantizedLayout;  // quantized.h

/// out = residual + activation(x * weight^T + bias).
///
/// With kSwiGlu the weight has 2 N rows, N a multiple of 32: a gate's, then those of what it lets
/// through; out = silu(x * gate^T) * (x * up^T), without bias and residual.
///
/// The K inputs are cut into `segments` equal parts. Over each part an output is one chain of fused
/// multiply-adds, k ascending, from 0; the parts are added as a balanced binary tree:
/// ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)).
///
/// A product with a quantised weight is the same product with the numbers that its codes stand for
/// (linear_quantized), or one with 8-bit activations (quantize_rows, linear_int8): each row of
/// x is cut into blocks of QuantizedLayout::activation_block() inputs, and a block becomes integers
/// from -127 to 127 times a scale. The chain of a segment then has one link for a block: the exact
/// sum over the block of (code - zero) * integer, times (scale of the weight * scale of the block).
/// A segment's length must be a multiple of the block, unless there is one segment.
struct LinearArgs {
  float* out;             // [rows, N], rows out_stride apart
  const float* x;         // [rows, K], rows x_stride apart
  const void* weight;     // panels of `format`, or quantised ones; null: see weight_rows
  const float* bias;      // [N] or null
  const float* residual;  // [rows, N], rows residual_stride apart, or null; may be `out`
  int64_t rows;
  int64_t out_features;  // N
  int64_t in_features;   // K
  int64_t out_stride;
  int64_t x_stride;
  int64_t residual_stride;
  int segments;  // 1, 2, 4 or 8; divides in_features
  Format format;
  Activation activation;
  /// Or null. The weight where it lies row by row: [panels * 32] rows [K] of `format`, which need
  /// no alignment, null behind the last. Kernels pack a few k of a panel at a time as they go, so
  /// the results are those of a packed weight.
  const void* const* weight_rows;
  const QuantizedLayout* quantized;  // null: the weight is in `format`
};

/// The panel that the gate in `panel` lets through.
static inline int64_t up_panel(const LinearArgs& args, int64_t panel) {
  return num_panels(args.out_features) + panel;
}

/// Panels of the weight: with SwiGLU, gates and then what they let through.
static inline int64_t num_weight_panels(const LinearArgs& args) {
  return num_panels(args.out_features) * (args.activation == Activation::kSwiGlu ? 2 : 1);
}

/// Softmax attention of the query heads that share one key/value head. Query row r is token
/// t = r / group and head j = r % group of the group: q and out are at t * stride + j * head_dim.
///
/// The keys are cut into parts of 256, aligned to the first key. Over a part, a score is a chain of
/// fused multiply-adds over d of (q * scale * log2(e)) and k; a weight is 2^(score - the part's
/// maximum); an output element is a chain over the keys from 0. Then the parts are merged in order,
/// each time scaled to the common maximum, and multiplied by 1 / the sum of the weights: so the
/// parts may be worked on apart. Keys that a row may not see have no influence whatever they hold:
/// a row's result depends on its visible keys alone.
struct AttentionArgs {
  float* out;             // [T, group * D] part of the output, tokens out_stride apart
  const float* q;         // likewise, q_stride apart
  const void* keys;       // key blocks, key block i at i * block_stride bytes
  const void* values;     // value blocks, likewise
  const int32_t* blocks;  // block table; null: block i is at index i
  int64_t out_stride;
  int64_t q_stride;
  int64_t block_stride;  // bytes
  int64_t group;
  int64_t head_dim;        // D
  int64_t first_position;  // causal: token t sees keys [0, first_position + t]
  int64_t num_keys;        // not causal: every token sees keys [0, num_keys)
  float scale;
  bool causal;
  Format format;
};

/// Keys that query row `row` sees: a prefix of the blocks.
static inline int64_t num_visible_keys(const AttentionArgs& args, int64_t row) {
  return args.causal ? args.first_position + row / args.group + 1 : args.num_keys;
}

/// One row-wise operation's input and output: [rows, cols] with row strides.
struct RowsArgs {
  float* out;
  const float* x;
  int64_t cols;
  int64_t out_stride;
  int64_t x_stride;
};

/// Heads that are rotated in place: x = x * cos + [-x[D/2..D), x[0..D/2)] * sin.
struct RopeArgs {
  float* x;          // [rows, heads * D], rows x_stride apart
  const float* cos;  // [rows, D/2], rows cos_stride apart
  const float* sin;  // likewise
  int64_t heads;
  int64_t head_dim;  // D
  int64_t x_stride;
  int64_t cos_stride;
  int64_t sin_stride;
};

/// The kernels of one instruction set. Ranges are [first, last).
struct KernelTable {
  const char* name;
  /// What a processor must have to run them, as named by processor_features(); null ends the list.
  const char* const* processor_features;
  /// Results are those of the scalar kernels bit for bit. Not so without a fused multiply-add,
  /// which moves the last bits.
  bool has_scalar_bits;

  /// Panels [first_panel, last_panel) of out in all rows, reading x in place.
  void (*linear)(const LinearArgs& args, int64_t first_panel, int64_t last_panel);
  /// Up to this many rows `linear` is the faster way; beyond, pack_rows and linear_packed.
  int64_t max_unpacked_rows;
  /// Rows of x as the tiles that linear_packed reads: num_row_tiles(rows) tiles of near equal
  /// height, tile i [K][height] at packed + first row * K.
  void (*pack_rows)(float* packed, const LinearArgs& args, int64_t first_tile, int64_t last_tile);
  int64_t (*num_row_tiles)(int64_t rows);
  /// Row tiles [first_tile, last_tile) x panels [first_panel, last_panel) of out; fastest with
  /// multiples of panels_at_once.
  void (*linear_packed)(const LinearArgs& args, const float* packed, int64_t first_tile,
                        int64_t last_tile, int64_t first_panel, int64_t last_panel, float* scratch);
  /// Floats of scratch that linear_packed needs, whatever its range.
  int64_t linear_scratch_floats;
  int64_t panels_at_once;

  /// `linear` with a quantised weight, any number of rows.
  void (*linear_quantized)(const LinearArgs& args, int64_t first_panel, int64_t last_panel);
  /// Beyond this many rows, pack_rows and linear_quantized_packed are the faster way.
  int64_t max_unpacked_quantized_rows;
  /// `linear_packed` with a quantised weight.
  void (*linear_quantized_packed)(const LinearArgs& args, const float* packed, int64_t first_tile,
                                  int64_t last_tile, int64_t first_panel, int64_t last_panel,
                                  float* scratch);
  /// Rows of x as 8-bit integers, for linear_int8: tiles of at most max_int8_rows rows and near
  /// equal height, as int8_tile_begin() has them. `packed` has int8_row_bytes() for each row.
  void (*quantize_rows)(void* packed, const LinearArgs& args, int64_t first_tile,
                        int64_t last_tile);
  /// Row tiles [first_tile, last_tile) x panels [first_panel, last_panel) of a quantised weight.
  void (*linear_int8)(const LinearArgs& args, const void* packed, int64_t first_tile,
                      int64_t last_tile, int64_t first_panel, int64_t last_panel);
  int64_t max_int8_rows;

  /// Query rows [first_row, last_row), at most max_attention_rows of them.
  void (*attention)(const AttentionArgs& args, int64_t first_row, int64_t last_row, float* scratch);
  /// The same in two steps. First what the rows get from each of the parts [first_part, last_part):
  /// of part i, [rows][partial_floats(head_dim)] at partials + i * part_stride; undefined for rows
  /// that see nothing of the part.
  void (*attention_parts)(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                          int64_t first_part, int64_t last_part, float* partials,
                          int64_t part_stride, float* scratch);
  /// Then the result from all parts, which are overwritten.
  void (*merge_attention)(const AttentionArgs& args, int64_t first_row, int64_t last_row,
                          float* partials, int64_t part_stride);
  int64_t max_attention_rows;
  int64_t (*attention_scratch_floats)(int64_t head_dim);

  /// out = x * (1 / sqrt(mean(x^2) + eps)) * weight. weight [cols].
  void (*rms_norm)(const RowsArgs& args, const float* weight, float eps, int64_t first_row,
                   int64_t last_row);
  /// out = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias. weight, bias [cols].
  void (*layer_norm)(const RowsArgs& args, const float* weight, const float* bias, float eps,
                     int64_t first_row, int64_t last_row);
  /// out [rows, cols] = silu(x[:, 0 .. cols)) * x[:, cols .. 2 cols).
  void (*swiglu)(const RowsArgs& args, int64_t first_row, int64_t last_row);
  void (*rope)(const RopeArgs& args, int64_t first_row, int64_t last_row);
};

/// The portable versions; always present, and the specification of the others.
const KernelTable& scalar_kernels();
/// Every table that is compiled in, fastest first; the last is the scalar one.
std::span<const KernelTable* const> compiled_kernels();

// ---- kernels that every instruction set shares: they move data ----

/// panel [count][32] = k [first_k, first_k + count) of 32 rows, each row-major in `rows_format` and
/// without alignment, converted to `format`, rounding to nearest even. A null row becomes zeros.
void pack_panel(void* panel, Format format, const void* const* rows, Format rows_format,
                int64_t first_k, int64_t count);
/// Writes rows [first_row, first_row + num_rows) of a matrix [N, K] into its panels. `rows`
/// [num_rows, K] row-major in `rows_format` is converted to `format`, rounding to nearest even.
void pack_weight(void* panels, Format format, int64_t in_features, int64_t first_row,
                 int64_t num_rows, const void* rows, Format rows_format);
/// out [count] = the numbers, which need no alignment, widened.
void widen(float* out, const void* numbers, Format format, int64_t count);
/// out [K] = row `row` of the matrix, widened.
void unpack_weight_row(float* out, const void* panels, Format format, int64_t in_features,
                       int64_t row);

/// Stores `count` tokens of one head as slots [first_slot, first_slot + count) of a key block and
/// its value block. k, v: [count, D], rows k_stride and v_stride apart.
void store_kv(void* key_block, void* value_block, Format format, int64_t head_dim,
              int64_t first_slot, int64_t count, const float* k, int64_t k_stride, const float* v,
              int64_t v_stride);

}  // namespace qvl::kernels
