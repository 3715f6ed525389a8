// Attention of the CPU backend: the key/value cache is filled, and the query rows of all sequences
// and heads, and where these are few the parts of their keys, are cut into tasks. Rows are
// independent and parts are merged in a fixed order, so the cut changes no bit.

#include <algorithm>
#include <atomic>

#include "backend/cpu/cpu_backend_impl.h"

namespace qvl {
namespace {

// Keys and values of vision segments are repacked for as many heads at once as fit in this.
constexpr int64_t kSegmentScratchBytes = int64_t{32} << 20;
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kMinTaskRows = 32;
// Storing fewer tokens than this is done before a second thread has noticed it.
constexpr int64_t kMinParallelTokens = 8;

void check_sequence(const SequenceSpan& sequence, int64_t rows, const KvCacheSpec& spec) {
  require(sequence.first_row >= 0 && sequence.num_tokens >= 0 && sequence.num_cached >= 0 &&
              sequence.num_tokens <= rows - sequence.first_row,
          "a sequence is outside of the step");
  const int64_t needed =
      kernels::ceil_div(sequence.num_cached + sequence.num_tokens, kKvBlockTokens);
  require(static_cast<int64_t>(sequence.blocks.size()) >= needed, "a block table is too short");
  for (int64_t i = 0; i < needed; ++i) {
    const int32_t block = sequence.blocks[static_cast<size_t>(i)];
    require(block >= 0 && block < spec.num_blocks, "a block table names a block that is not there");
  }
}

void check_layer(const KvCacheSpec& spec, int64_t layer) {
  require(layer >= 0 && layer < spec.num_layers, "the key/value cache has no such layer");
}

// Query rows a task gets, a multiple of the group: enough tasks for all threads, but not so few
// rows that reading the keys and values anew for each task costs more than the arithmetic.
int64_t rows_per_task(int64_t total_rows, int64_t group, int64_t threads, int64_t max_rows) {
  const int64_t rows = std::clamp(kernels::ceil_div(total_rows, kTasksPerThread * threads),
                                  std::min(kMinTaskRows, max_rows), max_rows);
  return rows >= group ? rows / group * group : rows;
}

}  // namespace

void CpuBackend::append_kv(KvCache& cache, int64_t layer, Tensor k, Tensor v,
                           std::span<const SequenceSpan> sequences) {
  const auto& store = static_cast<const CpuKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const int64_t dim = spec.head_dim;
  check_layer(spec, layer);
  require(k.dtype == DType::kF32 && v.dtype == DType::kF32, "activations are F32");
  require(k.cols == spec.num_kv_heads * dim && v.cols == k.cols && v.rows == k.rows,
          "append_kv: shapes of k and v");
  int64_t tokens = 0;
  for (const SequenceSpan& sequence : sequences) {
    check_sequence(sequence, k.rows, spec);
    tokens += sequence.num_tokens;
  }
  const auto store_head = [&](const SequenceSpan& sequence, int64_t head) {
    const int64_t end = sequence.num_cached + sequence.num_tokens;
    for (int64_t position = sequence.num_cached; position < end;) {
      const int64_t slot = position % kKvBlockTokens;
      const int64_t count = std::min<int64_t>(kKvBlockTokens - slot, end - position);
      const int64_t row = sequence.first_row + position - sequence.num_cached;
      const int64_t offset =
          sequence.blocks[static_cast<size_t>(position / kKvBlockTokens)] * store.block_stride();
      kernels::store_kv(store.keys(layer, head) + offset, store.values(layer, head) + offset,
                        to_format(spec.dtype), dim, slot, count,
                        k.f32() + row * k.row_stride + head * dim, k.row_stride,
                        v.f32() + row * v.row_stride + head * dim, v.row_stride);
      position += count;
    }
  };
  const int64_t tasks = static_cast<int64_t>(sequences.size()) * spec.num_kv_heads;
  const auto run = [&](int64_t task) {
    store_head(sequences[static_cast<size_t>(task / spec.num_kv_heads)], task % spec.num_kv_heads);
  };
  if (tokens < kMinParallelTokens) {
    for (int64_t task = 0; task < tasks; ++task) run(task);
  } else {
    pool_.run_dynamic(tasks, [&](int64_t task, int) { run(task); });
  }
}

void CpuBackend::attention(Tensor out, Tensor q, const KvCache& cache, int64_t layer,
                           std::span<const SequenceSpan> sequences, float scale) {
  const auto& store = static_cast<const CpuKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const int64_t dim = spec.head_dim;
  check_layer(spec, layer);
  require(out.dtype == DType::kF32 && q.dtype == DType::kF32, "activations are F32");
  require(out.rows == q.rows && out.cols == q.cols && q.cols % (spec.num_kv_heads * dim) == 0,
          "attention: shapes of out and q");
  const int64_t group = q.cols / dim / spec.num_kv_heads;
  int64_t total_rows = 0;
  for (const SequenceSpan& sequence : sequences) {
    check_sequence(sequence, q.rows, spec);
    total_rows += sequence.num_tokens * group * spec.num_kv_heads;
  }
  const int64_t step =
      rows_per_task(total_rows, group, pool_.num_threads(), kernels_.max_attention_rows);
  std::vector<AttentionTask> tasks;
  for (const SequenceSpan& sequence : sequences) {
    for (int64_t head = 0; head < spec.num_kv_heads; ++head) {
      AttentionTask task{};
      kernels::AttentionArgs& args = task.args;
      args.out = out.f32() + sequence.first_row * out.row_stride + head * group * dim;
      args.q = q.f32() + sequence.first_row * q.row_stride + head * group * dim;
      args.keys = store.keys(layer, head);
      args.values = store.values(layer, head);
      args.blocks = sequence.blocks.data();
      args.out_stride = out.row_stride;
      args.q_stride = q.row_stride;
      args.block_stride = store.block_stride();
      args.group = group;
      args.head_dim = dim;
      args.first_position = sequence.num_cached;
      args.scale = scale;
      args.causal = true;
      args.format = to_format(spec.dtype);
      const int64_t rows = sequence.num_tokens * group;
      for (task.first_row = 0; task.first_row < rows; task.first_row = task.last_row) {
        task.last_row = std::min(task.first_row + step, rows);
        tasks.push_back(task);
      }
    }
  }
  run_attention(tasks);
}

// A task whose share of the work would keep the other threads waiting is cut into the parts of its
// keys. Whoever finishes its last part merges them.
void CpuBackend::run_attention(std::vector<AttentionTask>& tasks) {
  if (tasks.empty()) return;
  const auto num_keys = [](const AttentionTask& task) {
    return kernels::num_visible_keys(task.args, task.last_row - 1);
  };
  const auto work = [&](const AttentionTask& task) {
    return num_keys(task) * (task.last_row - task.first_row);
  };
  // The most work first, so that the short tasks fill the gaps at the end.
  std::stable_sort(tasks.begin(), tasks.end(),
                   [&](const auto& a, const auto& b) { return work(a) > work(b); });
  int64_t total_work = 0;
  for (const AttentionTask& task : tasks) total_work += work(task);
  const int64_t most_work = total_work / (kTasksPerThread * pool_.num_threads());

  struct Item {
    size_t task;
    int64_t first_part;
    int64_t last_part;  // 0: the task is not cut
  };
  std::vector<Item> items;
  int64_t floats = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    AttentionTask& task = tasks[i];
    const int64_t rows = task.last_row - task.first_row;
    task.num_parts = kernels::ceil_div(num_keys(task), kernels::kPartTokens);
    if (task.num_parts == 1 || rows > kMinTaskRows || work(task) <= most_work) {
      items.push_back({i, 0, 0});
      continue;
    }
    task.partials = floats;
    floats += task.num_parts * rows * kernels::partial_floats(task.args.head_dim);
    const int64_t step = std::max<int64_t>(task.num_parts * most_work / work(task), 1);
    for (int64_t part = 0; part < task.num_parts; part += step) {
      items.push_back({i, part, std::min(part + step, task.num_parts)});
    }
  }
  float* const partials = floats == 0 ? nullptr : partials_.get(floats);
  std::vector<std::atomic<int64_t>> parts_done(tasks.size());

  const int64_t scratch_floats = kernels_.attention_scratch_floats(tasks.front().args.head_dim);
  pool_.run_dynamic(static_cast<int64_t>(items.size()), [&](int64_t index, int thread) {
    const Item item = items[static_cast<size_t>(index)];
    const AttentionTask& task = tasks[item.task];
    float* scratch = thread_scratch_[static_cast<size_t>(thread)].get(scratch_floats);
    if (item.last_part == 0) {
      return kernels_.attention(task.args, task.first_row, task.last_row, scratch);
    }
    const int64_t part_floats =
        (task.last_row - task.first_row) * kernels::partial_floats(task.args.head_dim);
    float* const first = partials + task.partials;
    kernels_.attention_parts(task.args, task.first_row, task.last_row, item.first_part,
                             item.last_part, first, part_floats, scratch);
    const int64_t count = item.last_part - item.first_part;
    const int64_t done = parts_done[item.task].fetch_add(count, std::memory_order_acq_rel) + count;
    if (done < task.num_parts) return;
    kernels_.merge_attention(task.args, task.first_row, task.last_row, first, part_floats);
  });
}

void CpuBackend::segment_attention(Tensor out, Tensor q, Tensor k, Tensor v, int64_t head_dim,
                                   std::span<const int32_t> cu_seqlens, float scale) {
  for (const Tensor* tensor : {&out, &q, &k, &v}) {
    require(tensor->dtype == DType::kF32, "activations are F32");
    require(tensor->rows == q.rows && tensor->cols == q.cols, "segment_attention: shapes differ");
  }
  require(head_dim > 0 && q.cols % head_dim == 0, "segment_attention: head_dim");
  require(!cu_seqlens.empty() && cu_seqlens.front() >= 0 && cu_seqlens.back() <= q.rows,
          "segment_attention: segments are outside of the rows");
  require(std::is_sorted(cu_seqlens.begin(), cu_seqlens.end()),
          "segment_attention: segments are not in order");

  // Each head's keys and values are repacked as blocks [key block | value block], like the cache's,
  // each segment beginning a block.
  const int64_t heads = q.cols / head_dim;
  const int64_t key_floats = kernels::key_block_elements(head_dim);
  const int64_t block_floats = key_floats + kernels::value_block_elements(head_dim);
  struct PackTask {
    int64_t first_row, count, block;
  };
  std::vector<PackTask> blocks;
  for (size_t segment = 0; segment + 1 < cu_seqlens.size(); ++segment) {
    for (int64_t row = cu_seqlens[segment]; row < cu_seqlens[segment + 1]; row += kKvBlockTokens) {
      const int64_t left = cu_seqlens[segment + 1] - row;
      blocks.push_back(
          {row, std::min<int64_t>(left, kKvBlockTokens), static_cast<int64_t>(blocks.size())});
    }
  }
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  if (num_blocks == 0) return;
  const int64_t head_floats = static_cast<int64_t>(checked_bytes(num_blocks, block_floats));
  const int64_t heads_at_once =
      std::clamp<int64_t>(kSegmentScratchBytes / int64_t{sizeof(float)} / head_floats, 1, heads);
  float* const packed =
      shared_scratch_.get(static_cast<int64_t>(checked_bytes(heads_at_once, head_floats)));

  for (int64_t first_head = 0; first_head < heads; first_head += heads_at_once) {
    const int64_t count = std::min(heads_at_once, heads - first_head);
    pool_.run_static(count * num_blocks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const PackTask& task = blocks[static_cast<size_t>(i / count)];
        const int64_t head = i % count;
        const int64_t column = (first_head + head) * head_dim;
        float* block = packed + head * head_floats + task.block * block_floats;
        kernels::store_kv(block, block + key_floats, kernels::Format::kF32, head_dim, 0, task.count,
                          k.f32() + task.first_row * k.row_stride + column, k.row_stride,
                          v.f32() + task.first_row * v.row_stride + column, v.row_stride);
      }
    });

    const int64_t step = rows_per_task(count * (cu_seqlens.back() - cu_seqlens.front()), 1,
                                       pool_.num_threads(), kernels_.max_attention_rows);
    std::vector<AttentionTask> tasks;
    for (int64_t head = 0; head < count; ++head) {
      int64_t block = 0;
      for (size_t segment = 0; segment + 1 < cu_seqlens.size(); ++segment) {
        const int64_t first = cu_seqlens[segment];
        const int64_t rows = cu_seqlens[segment + 1] - first;
        const int64_t column = (first_head + head) * head_dim;
        AttentionTask task{};
        kernels::AttentionArgs& args = task.args;
        args.out = out.f32() + first * out.row_stride + column;
        args.q = q.f32() + first * q.row_stride + column;
        args.keys = packed + head * head_floats + block * block_floats;
        args.values = packed + head * head_floats + block * block_floats + key_floats;
        args.out_stride = out.row_stride;
        args.q_stride = q.row_stride;
        args.block_stride = block_floats * int64_t{sizeof(float)};
        args.group = 1;
        args.head_dim = head_dim;
        args.num_keys = rows;
        args.scale = scale;
        args.format = kernels::Format::kF32;
        for (task.first_row = 0; task.first_row < rows; task.first_row = task.last_row) {
          task.last_row = std::min(task.first_row + step, rows);
          tasks.push_back(task);
        }
        block += kernels::ceil_div(rows, kKvBlockTokens);
      }
    }
    run_attention(tasks);
  }
}

}  // namespace qvl
