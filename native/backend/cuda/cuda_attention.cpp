// Attention of the CUDA backend: the tables of a step, the key/value cache, and the kernels.

#include <algorithm>
#include <bit>
#include <numbers>

#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/cuda_backend_impl.h"
#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/attention_segments.h"
#include "kernels/cuda/rope.h"

namespace qvl::cuda {
namespace {

/// Blocks of the wide kernel that a multiprocessor holds at once.
constexpr int64_t kWideBlocks = 2;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t num_blocks_of(const SequenceSpan& sequence) {
  return ceil_div(sequence.num_cached + sequence.num_tokens, kKvBlockTokens);
}

int32_t stride_of(const Tensor& tensor) {
  require(tensor.row_stride <= INT32_MAX, "rows of more than 2^31 numbers");
  return static_cast<int32_t>(tensor.row_stride);
}

}  // namespace

float scale_log2e(float scale) { return scale * std::numbers::log2e_v<float>; }

// ---- the tables of a step ----

void CudaSequenceBatch::check(std::span<const SequenceSpan> sequences) const {
  for (const SequenceSpan& sequence : sequences) {
    require(sequence.first_row >= 0 && sequence.num_tokens >= 0 && sequence.num_cached >= 0 &&
                sequence.num_tokens <= max_tokens_ - sequence.first_row &&
                sequence.num_cached <= INT32_MAX - max_tokens_,
            "a sequence is outside of the step");
    const int64_t needed = num_blocks_of(sequence);
    require(static_cast<int64_t>(sequence.blocks.size()) >= needed, "a block table is too short");
    for (const int32_t block : sequence.blocks.first(static_cast<size_t>(needed))) {
      require(block >= 0 && block < num_blocks_, "a block table names a block that is not there");
    }
  }
}

StepShape CudaSequenceBatch::shape() const {
  return {num_rows_, static_cast<int64_t>(sequences_.size()), table_.max_blocks};
}

void CudaSequenceBatch::assign(std::span<const SequenceSpan> sequences) {
  check(sequences);
  sequences_.assign(sequences.begin(), sequences.end());
  int64_t max_blocks = 1;
  num_rows_ = 0;
  int64_t num_tokens = 0;
  for (const SequenceSpan& sequence : sequences) {
    max_blocks = std::max(max_blocks, num_blocks_of(sequence));
    num_tokens += sequence.num_tokens;
    num_rows_ = std::max(num_rows_, sequence.first_row + sequence.num_tokens);
  }
  const std::vector<PrefillTile> tiles = prefill_tiles(sequences);
  num_tiles_ = static_cast<int64_t>(tiles.size());
  covers_all_rows_ = num_tokens == num_rows_;

  // In an order that depends on the step's shape alone: [B] first rows, numbers of tokens, numbers
  // of cached tokens; [T] sequence of a row; [B, stride] blocks; tiles.
  const size_t count = sequences.size();
  const auto rows = static_cast<size_t>(num_rows_);
  const size_t stride = std::bit_ceil(static_cast<size_t>(max_blocks));
  const size_t block_table = 3 * count + rows;
  const size_t first_tile = (block_table + count * stride + 1) / 2 * 2;
  host_.assign(first_tile + 2 * tiles.size(), 0);
  for (size_t i = 0; i < count; ++i) {
    const SequenceSpan& sequence = sequences[i];
    host_[i] = static_cast<int32_t>(sequence.first_row);
    host_[count + i] = static_cast<int32_t>(sequence.num_tokens);
    host_[2 * count + i] = static_cast<int32_t>(sequence.num_cached);
    std::fill_n(host_.begin() + static_cast<int64_t>(3 * count) + sequence.first_row,
                sequence.num_tokens, static_cast<int32_t>(i));
    std::copy_n(sequence.blocks.begin(), num_blocks_of(sequence),
                host_.begin() + static_cast<int64_t>(block_table + i * stride));
  }
  for (size_t i = 0; i < tiles.size(); ++i) {
    host_[first_tile + 2 * i] = tiles[i].sequence;
    host_[first_tile + 2 * i + 1] = tiles[i].first_token;
  }
  const size_t bytes = host_.size() * sizeof(int32_t);
  auto* const device = static_cast<int32_t*>(backend_.scratch(memory_, bytes));
  backend_.upload(device, host_.data(), bytes);
  table_ = {device,
            device + count,
            device + 2 * count,
            device + block_table,
            device + 3 * count,
            static_cast<int32_t>(stride)};
  tiles_ = device + first_tile;
}

std::unique_ptr<SequenceBatch> CudaBackend::create_sequence_batch(int64_t max_tokens,
                                                                  int64_t num_blocks) {
  return std::make_unique<CudaSequenceBatch>(*this, max_tokens, num_blocks);
}

// ---- the key/value cache ----

void CudaBackend::append_kv(KvCache& cache, int64_t layer, Tensor k, Tensor v,
                            const SequenceBatch& batch) {
  const auto& store = static_cast<const CudaKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const auto& tables = static_cast<const CudaSequenceBatch&>(batch);
  require(layer >= 0 && layer < spec.num_layers, "the key/value cache has no such layer");
  const int64_t cols = spec.num_kv_heads * spec.head_dim;
  require(k.dtype == dtype_ && v.dtype == dtype_, "append_kv: types of k and v");
  require(k.cols == cols && v.cols == cols && k.row_stride == v.row_stride &&
              static_cast<char*>(v.data) ==
                  static_cast<char*>(k.data) + static_cast<size_t>(cols) * dtype_size(dtype_),
          "append_kv: v must stand beside k");
  require(tables.num_rows() <= k.rows, "a sequence is outside of the step");
  if (tables.num_rows() == 0) return;
  // The kernel rotates what it stores: here by nothing.
  const int64_t half = spec.head_dim / 2;
  std::vector<float> angles(static_cast<size_t>(2 * tables.num_rows() * half), 0.F);
  std::fill_n(angles.begin(), tables.num_rows() * half, 1.F);
  const Tensor cos = scratch_tensor(narrow_scratch_, 2 * tables.num_rows(), half, DType::kF32);
  upload(cos.data, angles.data(), angles.size() * sizeof(float));
  const RopeAppendParams params{k.data,
                                cos.f32(),
                                cos.f32() + tables.num_rows() * half,
                                store.layer(layer),
                                tables.table(),
                                k.row_stride,
                                half,
                                0,
                                static_cast<int32_t>(spec.num_kv_heads),
                                static_cast<int32_t>(spec.head_dim)};
  launch(name_of("rope_append"), {static_cast<unsigned>(tables.num_rows())}, kRopeThreads, 0,
         params);
}

void CudaBackend::attention_input(Tensor qkv, const AttentionInput& input, KvCache& cache,
                                  int64_t layer, const SequenceBatch& batch) {
  const auto& store = static_cast<const CudaKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const auto& tables = static_cast<const CudaSequenceBatch&>(batch);
  const int64_t dim = spec.head_dim;
  require(layer >= 0 && layer < spec.num_layers, "the key/value cache has no such layer");
  const int64_t heads = qkv.cols / dim - 2 * spec.num_kv_heads;
  require(qkv.cols % dim == 0 && heads > 0 && heads % spec.num_kv_heads == 0,
          "attention_input: columns of qkv");
  require(input.cos.cols == dim / 2 && input.sin.cols == dim / 2 && input.cos.rows >= qkv.rows &&
              input.sin.rows >= qkv.rows && input.cos.row_stride == input.sin.row_stride,
          "attention_input: shapes of cos and sin");
  require(tables.num_rows() == qkv.rows, "attention_input: rows of the step");
  if (qkv_few_rows(qkv, input, store, layer, tables)) return;
  linear(qkv, input.x, *input.weight, {input.bias, nullptr, Activation::kNone, input.norm});
  const RopeAppendParams params{qkv.data,
                                input.cos.f32(),
                                input.sin.f32(),
                                store.layer(layer),
                                tables.table(),
                                qkv.row_stride,
                                input.cos.row_stride,
                                static_cast<int32_t>(heads),
                                static_cast<int32_t>(spec.num_kv_heads),
                                static_cast<int32_t>(dim)};
  launch(name_of("rope_append"), {static_cast<unsigned>(qkv.rows)}, kRopeThreads, 0, params);
}

// ---- attention ----

void CudaBackend::attention(Tensor out, Tensor q, const KvCache& cache, int64_t layer,
                            const SequenceBatch& batch, float scale) {
  const auto& store = static_cast<const CudaKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const auto& tables = static_cast<const CudaSequenceBatch&>(batch);
  require(layer >= 0 && layer < spec.num_layers, "the key/value cache has no such layer");
  require(out.dtype == dtype_ && q.dtype == dtype_, "attention: types of out and q");
  const int64_t group = q.cols / spec.head_dim / spec.num_kv_heads;
  require(out.rows == q.rows && out.cols == q.cols && tables.num_rows() <= q.rows && group > 0 &&
              q.cols == group * spec.head_dim * spec.num_kv_heads,
          "attention: shapes of out and q");
  if (tables.num_tiles() == 0) return;
  if (attention_few_rows(out, q, store, layer, tables, scale)) return;
  const AttentionPrefillParams params{q.data,
                                      out.data,
                                      store.layer(layer),
                                      static_cast<const PrefillTile*>(tables.tiles()),
                                      tables.table(),
                                      stride_of(q),
                                      stride_of(out),
                                      static_cast<int32_t>(spec.num_kv_heads),
                                      static_cast<int32_t>(group),
                                      scale_log2e(scale)};
  launch(
      name_for_head("attention_prefill_" + std::to_string(spec.head_dim), spec.head_dim),
      {static_cast<unsigned>(tables.num_tiles()), static_cast<unsigned>(group * spec.num_kv_heads)},
      kAttentionThreads, static_cast<size_t>(attention_tile_bytes(static_cast<int>(spec.head_dim))),
      params);
}

void CudaBackend::segment_attention(Tensor out, Tensor q, Tensor k, Tensor v, int64_t head_dim,
                                    std::span<const int32_t> cu_seqlens, int64_t first_query,
                                    float scale) {
  require(out.dtype == dtype_ && q.dtype == dtype_ && k.dtype == dtype_ && v.dtype == dtype_,
          "segment_attention: types");
  require(head_dim > 0 && q.cols % head_dim == 0 && out.cols == q.cols && k.cols == q.cols &&
              v.cols == q.cols && out.rows == q.rows && k.rows == v.rows &&
              k.row_stride == v.row_stride,
          "segment_attention: shapes");
  require(first_query >= 0 && q.rows <= k.rows - first_query, "segment_attention: queries");
  for (size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    require(cu_seqlens[i] >= 0 && cu_seqlens[i] <= cu_seqlens[i + 1] && cu_seqlens[i + 1] <= k.rows,
            "segment_attention: a segment");
  }
  const int64_t heads = q.cols / head_dim;
  std::string name = "attention_segments_" + std::to_string(head_dim);
  // Larger blocks read less, where there are enough of them for the whole device, twice.
  int queries = kAttentionWideQueries;
  std::vector<SegmentTile> tiles = segment_tiles(cu_seqlens, first_query, q.rows, queries);
  if (static_cast<int64_t>(tiles.size()) * heads >=
          2 * kWideBlocks * device_->properties().num_multiprocessors &&
      device_->has_kernel(name_of(name + "_wide"))) {
    name += "_wide";
  } else {
    queries = kAttentionQueries;
    tiles = segment_tiles(cu_seqlens, first_query, q.rows, queries);
  }
  if (tiles.empty()) return;
  const size_t bytes = tiles.size() * sizeof(SegmentTile);
  auto* const device_tiles = static_cast<SegmentTile*>(scratch(tiles_scratch_, bytes));
  upload(device_tiles, tiles.data(), bytes);
  const AttentionSegmentsParams params{q.data,       k.data,         v.data,
                                       out.data,     device_tiles,   stride_of(q),
                                       stride_of(k), stride_of(out), scale_log2e(scale)};
  launch(name_for_head(name, head_dim),
         {static_cast<unsigned>(tiles.size()), static_cast<unsigned>(heads)}, kAttentionThreads,
         static_cast<size_t>(attention_tile_bytes(static_cast<int>(head_dim), queries)), params);
}

}  // namespace qvl::cuda
