// Attention of the vision tower: full attention inside segments. The keys and values of a segment
// are repacked as blocks like the cache's, for several heads at once, and then shared by its
// queries.

#include <algorithm>

#include "backend/cpu/cpu_backend_impl.h"

namespace qvl {
namespace {

// Keys and values are repacked for as many heads at once as fit in this.
constexpr int64_t kPackedBytes = int64_t{32} << 20;

// A segment that has queries.
struct Segment {
  int64_t first_row;  // of k and v
  int64_t num_rows;
  int64_t first_query;  // row of q and out
  int64_t num_queries;
  int64_t first_block;  // of its packed keys and values
};

std::vector<Segment> segments_with_queries(std::span<const int32_t> cu_seqlens, int64_t first_query,
                                           int64_t num_queries) {
  std::vector<Segment> segments;
  int64_t blocks = 0;
  for (size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const int64_t begin = std::max<int64_t>(cu_seqlens[i], first_query);
    const int64_t end = std::min<int64_t>(cu_seqlens[i + 1], first_query + num_queries);
    if (begin >= end) continue;
    const int64_t rows = cu_seqlens[i + 1] - cu_seqlens[i];
    segments.push_back({cu_seqlens[i], rows, begin - first_query, end - begin, blocks});
    blocks += kernels::ceil_div(rows, kKvBlockTokens);
  }
  return segments;
}

// Rows of k and v that become a block.
struct PackTask {
  int64_t first_row;
  int64_t count;
};

std::vector<PackTask> pack_tasks(const std::vector<Segment>& segments) {
  std::vector<PackTask> tasks;
  for (const Segment& segment : segments) {
    for (int64_t row = 0; row < segment.num_rows; row += kKvBlockTokens) {
      tasks.push_back(
          {segment.first_row + row, std::min<int64_t>(segment.num_rows - row, kKvBlockTokens)});
    }
  }
  return tasks;
}

}  // namespace

void CpuBackend::segment_attention(Tensor out, Tensor q, Tensor k, Tensor v, int64_t head_dim,
                                   std::span<const int32_t> cu_seqlens, int64_t first_query,
                                   float scale) {
  for (const Tensor* tensor : {&out, &q, &k, &v}) {
    require(tensor->dtype == DType::kF32, "activations are F32");
    require(tensor->cols == q.cols, "segment_attention: columns differ");
  }
  require(head_dim > 0 && q.cols % head_dim == 0, "segment_attention: head_dim");
  require(out.rows == q.rows && v.rows == k.rows, "segment_attention: rows differ");
  require(first_query >= 0 && q.rows <= k.rows && first_query <= k.rows - q.rows,
          "segment_attention: queries are outside of the rows");
  require(!cu_seqlens.empty() && cu_seqlens.front() >= 0 && cu_seqlens.back() <= k.rows,
          "segment_attention: segments are outside of the rows");
  require(std::is_sorted(cu_seqlens.begin(), cu_seqlens.end()),
          "segment_attention: segments are not in order");

  const std::vector<Segment> segments = segments_with_queries(cu_seqlens, first_query, q.rows);
  const std::vector<PackTask> blocks = pack_tasks(segments);
  if (blocks.empty()) return;
  int64_t num_queries = 0;
  for (const Segment& segment : segments) num_queries += segment.num_queries;

  const int64_t heads = q.cols / head_dim;
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  const int64_t key_floats = kernels::key_block_elements(head_dim);
  const int64_t block_floats = key_floats + kernels::value_block_elements(head_dim);
  const auto head_floats = static_cast<int64_t>(checked_bytes(num_blocks, block_floats));
  const int64_t heads_at_once =
      std::clamp<int64_t>(kPackedBytes / int64_t{sizeof(float)} / head_floats, 1, heads);
  // [heads at once][blocks] of a key block and a value block
  float* const packed =
      shared_scratch_.get(static_cast<int64_t>(checked_bytes(heads_at_once, head_floats)));

  for (int64_t first_head = 0; first_head < heads; first_head += heads_at_once) {
    const int64_t count = std::min(heads_at_once, heads - first_head);
    // All heads of a row after each other, as they lie in memory.
    pool_.run_static(count * num_blocks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const PackTask& task = blocks[static_cast<size_t>(i / count)];
        const int64_t head = i % count;
        const int64_t column = (first_head + head) * head_dim;
        float* block = packed + head * head_floats + i / count * block_floats;
        kernels::store_kv(block, block + key_floats, kernels::Format::kF32, head_dim, 0, task.count,
                          k.f32() + task.first_row * k.row_stride + column, k.row_stride,
                          v.f32() + task.first_row * v.row_stride + column, v.row_stride);
      }
    });

    const int64_t step = attention_task_rows(count * num_queries, 1);
    std::vector<AttentionTask> tasks;
    for (int64_t head = 0; head < count; ++head) {
      const int64_t column = (first_head + head) * head_dim;
      for (const Segment& segment : segments) {
        AttentionTask task{};
        kernels::AttentionArgs& args = task.args;
        args.out = out.f32() + segment.first_query * out.row_stride + column;
        args.q = q.f32() + segment.first_query * q.row_stride + column;
        args.keys = packed + head * head_floats + segment.first_block * block_floats;
        args.values = static_cast<const float*>(args.keys) + key_floats;
        args.out_stride = out.row_stride;
        args.q_stride = q.row_stride;
        args.block_stride = block_floats * int64_t{sizeof(float)};
        args.group = 1;
        args.head_dim = head_dim;
        args.num_keys = segment.num_rows;
        args.scale = scale;
        args.format = kernels::Format::kF32;
        append_tasks(tasks, task, segment.num_queries, step);
      }
    }
    run_attention(tasks);
  }
}

}  // namespace qvl
