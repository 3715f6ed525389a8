// Attention of the CPU backend: the key/value cache is filled, and the query rows of all sequences
// and heads, and where these are few the parts of their keys, are cut into tasks. Rows are
// independent and parts are merged in a fixed order, so the cut changes no bit.

#include <algorithm>
#include <atomic>

#include "backend/cpu/cpu_backend_impl.h"

namespace qvl {
namespace {

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

}  // namespace

// Not so few rows that reading the keys and values anew for each task costs more than the
// arithmetic.
int64_t CpuBackend::attention_task_rows(int64_t total_rows, int64_t group) const {
  const int64_t most = kernels_.max_attention_rows;
  const int64_t rows =
      std::clamp(kernels::ceil_div(total_rows, kTasksPerThread * pool_.num_threads()),
                 std::min(kMinTaskRows, most), most);
  return rows >= group ? rows / group * group : rows;
}

void CpuBackend::for_new_tokens(const CpuKvCache& store, int64_t layer, int64_t rows,
                                const SequenceBatch& batch,
                                const std::function<void(const AppendTask&)>& body) {
  const KvCacheSpec& spec = store.spec();
  check_layer(spec, layer);
  std::vector<AppendTask> tasks;
  int64_t tokens = 0;
  for (const SequenceSpan& sequence : batch.sequences()) {
    check_sequence(sequence, rows, spec);
    tokens += sequence.num_tokens;
    const int64_t end = sequence.num_cached + sequence.num_tokens;
    for (int64_t position = sequence.num_cached; position < end;) {
      AppendTask task{};
      task.slot = position % kKvBlockTokens;
      task.num_rows = std::min<int64_t>(kKvBlockTokens - task.slot, end - position);
      task.row = sequence.first_row + position - sequence.num_cached;
      task.block_offset =
          sequence.blocks[static_cast<size_t>(position / kKvBlockTokens)] * store.block_stride();
      for (task.head = 0; task.head < spec.num_kv_heads; ++task.head) tasks.push_back(task);
      position += task.num_rows;
    }
  }
  if (tokens < kMinParallelTokens) {
    for (const AppendTask& task : tasks) body(task);
  } else {
    pool_.run_dynamic(static_cast<int64_t>(tasks.size()),
                      [&](int64_t index, int) { body(tasks[static_cast<size_t>(index)]); });
  }
}

void CpuBackend::append_kv(KvCache& cache, int64_t layer, Tensor k, Tensor v,
                           const SequenceBatch& batch) {
  const auto& store = static_cast<const CpuKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const int64_t dim = spec.head_dim;
  require(k.dtype == DType::kF32 && v.dtype == DType::kF32, "activations are F32");
  require(k.cols == spec.num_kv_heads * dim && v.cols == k.cols && v.rows == k.rows,
          "append_kv: shapes of k and v");
  for_new_tokens(store, layer, k.rows, batch, [&](const AppendTask& task) {
    kernels::store_kv(store.keys(layer, task.head) + task.block_offset,
                      store.values(layer, task.head) + task.block_offset, to_format(spec.dtype),
                      dim, task.slot, task.num_rows,
                      k.f32() + task.row * k.row_stride + task.head * dim, k.row_stride,
                      v.f32() + task.row * v.row_stride + task.head * dim, v.row_stride);
  });
}

// A key/value head's new rows are rotated, with the query heads that read them, and stored while
// they are in the first-level cache.
void CpuBackend::attention_input(Tensor qkv, const AttentionInput& input, KvCache& cache,
                                 int64_t layer, const SequenceBatch& batch) {
  const auto& store = static_cast<const CpuKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const int64_t dim = spec.head_dim;
  const int64_t kv_cols = spec.num_kv_heads * dim;
  const int64_t q_cols = qkv.cols - 2 * kv_cols;
  require(q_cols > 0 && q_cols % kv_cols == 0, "attention_input: columns of qkv");
  require(dim % 2 == 0 && input.cos.cols == dim / 2 && input.sin.cols == dim / 2 &&
              input.cos.rows >= qkv.rows && input.sin.rows >= qkv.rows,
          "attention_input: shapes of cos and sin");
  linear(qkv, input.x, *input.weight, {input.bias, nullptr, Activation::kNone, input.norm});
  const int64_t group = q_cols / kv_cols;
  for_new_tokens(store, layer, qkv.rows, batch, [&](const AppendTask& task) {
    float* const q = qkv.f32() + task.row * qkv.row_stride + task.head * group * dim;
    float* const k = qkv.f32() + task.row * qkv.row_stride + q_cols + task.head * dim;
    kernels::RopeArgs rotation{q,
                               input.cos.f32() + task.row * input.cos.row_stride,
                               input.sin.f32() + task.row * input.sin.row_stride,
                               group,
                               dim,
                               qkv.row_stride,
                               input.cos.row_stride,
                               input.sin.row_stride};
    kernels_.rope(rotation, 0, task.num_rows);
    rotation.x = k;
    rotation.heads = 1;
    kernels_.rope(rotation, 0, task.num_rows);
    kernels::store_kv(store.keys(layer, task.head) + task.block_offset,
                      store.values(layer, task.head) + task.block_offset, to_format(spec.dtype),
                      dim, task.slot, task.num_rows, k, qkv.row_stride, k + kv_cols,
                      qkv.row_stride);
  });
}

void CpuBackend::attention(Tensor out, Tensor q, const KvCache& cache, int64_t layer,
                           const SequenceBatch& batch, float scale) {
  const auto& store = static_cast<const CpuKvCache&>(cache);
  const KvCacheSpec& spec = store.spec();
  const int64_t dim = spec.head_dim;
  check_layer(spec, layer);
  require(out.dtype == DType::kF32 && q.dtype == DType::kF32, "activations are F32");
  require(out.rows == q.rows && out.cols == q.cols && q.cols % (spec.num_kv_heads * dim) == 0,
          "attention: shapes of out and q");
  const int64_t group = q.cols / dim / spec.num_kv_heads;
  const std::span<const SequenceSpan> sequences = batch.sequences();
  int64_t total_rows = 0;
  for (const SequenceSpan& sequence : sequences) {
    check_sequence(sequence, q.rows, spec);
    total_rows += sequence.num_tokens * group * spec.num_kv_heads;
  }
  const int64_t step = attention_task_rows(total_rows, group);
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
      append_tasks(tasks, task, rows, step);
    }
  }
  run_attention(tasks);
}

void CpuBackend::append_tasks(std::vector<AttentionTask>& tasks, AttentionTask task, int64_t rows,
                              int64_t step) {
  for (task.first_row = 0; task.first_row < rows; task.first_row = task.last_row) {
    task.last_row = std::min(task.first_row + step, rows);
    tasks.push_back(task);
  }
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

}  // namespace qvl
