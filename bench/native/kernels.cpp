// Speed of the CPU kernels against what this machine allows. Measures the memory bandwidth and the
// FP32 multiply-add peak, then the shapes of Qwen2-VL-2B, and prints each row's fraction of its
// limit: memory bandwidth for products with few rows, arithmetic for many.
//
//   kernels [--threads N] [--isa scalar|avx2] [--filter TEXT] [--json]
//
// Times are the best of several runs, limits the best seen so far: on a shared machine the best is
// the meaningful one. Run it with priority over other programs.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_features.h"
#include "backend/cpu/memory.h"
#include "backend/cpu/thread_pool.h"
#include "common/error.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define QVL_BENCH_AVX2 1
#endif

namespace qvl {
namespace {

struct Options {
  CpuBackendOptions backend;
  std::string filter;
  bool json = false;
};

double seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

/// The shortest of several runs: at least `repeats`, and for at least `least` seconds.
double best_time(const std::function<void()>& body, int repeats = 5, double least = 0.25) {
  double best = 1e30;
  const double start = seconds();
  for (int i = 0; i < repeats || seconds() - start < least; ++i) {
    const double begin = seconds();
    body();
    best = std::min(best, seconds() - begin);
  }
  return best;
}

volatile float sink;

// ---- limits ----

#ifdef QVL_BENCH_AVX2
__attribute__((target("avx2,fma"), noinline)) float read_all(const float* data, int64_t count) {
  __m256 sums[8];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t i = 0; i + 64 <= count; i += 64) {
    // Fetching ahead reads faster than the processor does by itself.
    for (int j = 0; j < 64; j += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(data + i + j) + 8192, _MM_HINT_T0);
    }
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm256_add_ps(sums[j], _mm256_load_ps(data + i + 8 * j));
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_ps(sums[0], sums[j]);
  return _mm256_cvtss_f32(sums[0]);
}

// 12 independent chains of 8 multiply-adds.
__attribute__((target("avx2,fma"), noinline)) float multiply_add(int64_t steps) {
  __m256 acc[12];
  for (int j = 0; j < 12; ++j) acc[j] = _mm256_set1_ps(static_cast<float>(j));
  __m256 a = _mm256_set1_ps(0.999f);
  __m256 b = _mm256_set1_ps(1e-6f);
  for (int64_t i = 0; i < steps; ++i) {
    for (int j = 0; j < 12; ++j) acc[j] = _mm256_fmadd_ps(acc[j], a, b);
    __asm__ volatile("" : "+x"(a), "+x"(b));
  }
  for (int j = 1; j < 12; ++j) acc[0] = _mm256_add_ps(acc[0], acc[j]);
  return _mm256_cvtss_f32(acc[0]);
}
constexpr double kFlopsPerStep = 12 * 8 * 2;
#else
float read_all(const float* data, int64_t count) {
  float sums[16] = {};
  for (int64_t i = 0; i + 16 <= count; i += 16) {
    for (int j = 0; j < 16; ++j) sums[j] += data[i + j];
  }
  return sums[0];
}
float multiply_add(int64_t steps) {
  float acc[16] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (int j = 0; j < 16; ++j) acc[j] = acc[j] * 0.999f + 1e-6f;
  }
  return acc[0];
}
constexpr double kFlopsPerStep = 16 * 2;
#endif

class Limits {
 public:
  explicit Limits(int threads)
      : pool_(threads), memory_(kBytes, PageUse::kHuge, "the bandwidth test") {
    std::memset(memory_.data(), 0, kBytes);
  }

  /// Bytes per second, all threads reading their own part of 512 MiB on huge pages.
  void measure_bandwidth(double least = 0.1) {
    const auto* data = static_cast<const float*>(memory_.data());
    const auto count = static_cast<int64_t>(kBytes / sizeof(float));
    const auto read = [&] {
      pool_.run_static(count, 4096, [&](int64_t begin, int64_t end, int) {
        sink = read_all(data + begin, end - begin);
      });
    };
    bandwidth_ = std::max(bandwidth_, static_cast<double>(kBytes) / best_time(read, 3, least));
  }

  /// FP32 operations per second of multiply-adds on registers (AVX2 where there is).
  void measure_flops(double least = 0.03) {
    constexpr int64_t kSteps = 200000;
    const auto compute = [&] {
      pool_.run_static(pool_.num_threads(), 1,
                       [&](int64_t, int64_t, int) { sink = multiply_add(kSteps); });
    };
    const double operations = kFlopsPerStep * static_cast<double>(kSteps) * pool_.num_threads();
    flops_ = std::max(flops_, operations / best_time(compute, 10, least));
  }

  double bandwidth() const { return bandwidth_; }
  double flops() const { return flops_; }

 private:
  static constexpr size_t kBytes = size_t{512} << 20;

  ThreadPool pool_;
  PageMemory memory_;
  double bandwidth_ = 0;  // the best seen
  double flops_ = 0;
};

// ---- rows of the table ----

struct Row {
  std::string name;
  double time;   // seconds
  double bytes;  // that must come from memory
  double flops;
  bool memory_bound;
};

class Table {
 public:
  Table(const Options& options, Limits& limits) : options_(options), limits_(limits) {
    if (!options.json) {
      std::printf("%-46s %10s %9s %9s %8s\n", "kernel", "ms", "GB/s", "GFLOP/s", "of limit");
    }
  }

  bool wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }

  void add(const Row& row) {
    // The limit is measured again beside every row, and the best value so far counts.
    row.memory_bound ? limits_.measure_bandwidth() : limits_.measure_flops();
    const double limit = row.memory_bound ? limits_.bandwidth() : limits_.flops();
    const double rate = (row.memory_bound ? row.bytes : row.flops) / row.time;
    const char* const kind = row.memory_bound ? "memory" : "arithmetic";
    if (options_.json) {
      std::printf(
          "{\"kernel\":\"%s\",\"ms\":%.4f,\"gb_per_s\":%.2f,\"gflop_per_s\":%.2f,"
          "\"limit\":\"%s\",\"fraction\":%.3f}\n",
          row.name.c_str(), row.time * 1e3, row.bytes / row.time / 1e9, row.flops / row.time / 1e9,
          kind, rate / limit);
    } else {
      std::printf("%-46s %10.3f %9.1f %9.1f %6.0f %% %s\n", row.name.c_str(), row.time * 1e3,
                  row.bytes / row.time / 1e9, row.flops / row.time / 1e9, 100 * rate / limit, kind);
    }
    std::fflush(stdout);
  }

 private:
  const Options& options_;
  Limits& limits_;
};

std::vector<float> numbers(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.2f;
  }
  return values;
}

Tensor tensor(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}

// ---- benchmarks ----

struct LinearShape {
  const char* name;
  int64_t out_features, in_features;
  int segments;
  DType dtype;
};

// Several copies of small weights, used in turn, so that they come from memory as in a model.
void bench_linear(Backend& backend, Table& table, const LinearShape& shape,
                  const std::vector<int64_t>& row_counts) {
  const auto row_name = [&](int64_t rows) {
    return std::string(shape.name) + " " + std::to_string(shape.in_features) + "x" +
           std::to_string(shape.out_features) + " " + dtype_name(shape.dtype) +
           " M=" + std::to_string(rows);
  };
  if (std::none_of(row_counts.begin(), row_counts.end(),
                   [&](int64_t rows) { return table.wanted(row_name(rows)); })) {
    return;
  }
  const int64_t n = shape.out_features;
  const int64_t k = shape.in_features;
  const double bytes = static_cast<double>(n * k) * static_cast<double>(dtype_size(shape.dtype));
  const int copies = std::max(1, static_cast<int>(300e6 / bytes));
  std::vector<float> source = numbers(16 * k);
  std::vector<std::unique_ptr<Weight>> weights;
  for (int i = 0; i < copies; ++i) {
    weights.push_back(backend.create_weight({n, k, shape.dtype, shape.segments}));
    backend.parallel(n / 16, [&](int64_t part) {
      backend.write_weight(*weights.back(), part * 16, 16, source.data(), DType::kF32);
    });
  }
  for (const int64_t rows : row_counts) {
    if (!table.wanted(row_name(rows))) continue;
    std::vector<float> x = numbers(rows * k);
    std::vector<float> out(static_cast<size_t>(rows * n));
    size_t next = 0;
    const double time = best_time([&] {
      backend.linear(tensor(out, rows, n), tensor(x, rows, k), *weights[next++ % weights.size()],
                     {});
    });
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
    table.add({row_name(rows), time, bytes, flops, rows < 8});
  }
}

void bench_decode_attention(Backend& backend, Table& table, int64_t context, DType dtype) {
  const std::string name = "attention decode H=12 G=2 D=128 " + std::string(dtype_name(dtype)) +
                           " context=" + std::to_string(context);
  if (!table.wanted(name)) return;
  constexpr int64_t kHeads = 12, kGroups = 2, kDim = 128, kLayers = 16;
  const int64_t blocks = (context + kKvBlockTokens - 1) / kKvBlockTokens;
  auto cache = backend.create_kv_cache({kLayers, kGroups, kDim, blocks, dtype});
  std::vector<int32_t> ids(static_cast<size_t>(blocks));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::vector<float> k = numbers(context * kGroups * kDim);
  std::vector<float> q = numbers(kHeads * kDim);
  std::vector<float> out(q.size());
  const SequenceSpan all = {0, context, 0, ids};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    backend.append_kv(*cache, layer, tensor(k, context, kGroups * kDim),
                      tensor(k, context, kGroups * kDim), {&all, 1});
  }
  const SequenceSpan last = {0, 1, context - 1, ids};
  int64_t layer = 0;
  const double time = best_time([&] {
    backend.attention(tensor(out, 1, kHeads * kDim), tensor(q, 1, kHeads * kDim), *cache,
                      layer++ % kLayers, {&last, 1}, 0.088f);
  });
  const auto tokens = static_cast<double>(context);
  table.add({name, time, tokens * 2 * kGroups * kDim * static_cast<double>(dtype_size(dtype)),
             tokens * 4 * kHeads * kDim, true});
}

void bench_prefill_attention(Backend& backend, Table& table, int64_t tokens) {
  const std::string name = "attention prefill H=12 G=2 D=128 T=" + std::to_string(tokens);
  if (!table.wanted(name)) return;
  constexpr int64_t kHeads = 12, kGroups = 2, kDim = 128;
  const int64_t blocks = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  auto cache = backend.create_kv_cache({1, kGroups, kDim, blocks, DType::kF32});
  std::vector<int32_t> ids(static_cast<size_t>(blocks));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::vector<float> k = numbers(tokens * kGroups * kDim);
  std::vector<float> q = numbers(tokens * kHeads * kDim);
  std::vector<float> out(q.size());
  const SequenceSpan all = {0, tokens, 0, ids};
  const double time = best_time([&] {
    backend.append_kv(*cache, 0, tensor(k, tokens, kGroups * kDim),
                      tensor(k, tokens, kGroups * kDim), {&all, 1});
    backend.attention(tensor(out, tokens, kHeads * kDim), tensor(q, tokens, kHeads * kDim), *cache,
                      0, {&all, 1}, 0.088f);
  });
  const auto t = static_cast<double>(tokens);
  table.add({name, time, 0, t * (t + 1) / 2 * 4 * kHeads * kDim, false});
}

void bench_vision_attention(Backend& backend, Table& table, int64_t patches) {
  const std::string name = "attention vision H=16 D=80 P=" + std::to_string(patches);
  if (!table.wanted(name)) return;
  constexpr int64_t kHeads = 16, kDim = 80;
  std::vector<float> qkv = numbers(patches * 3 * kHeads * kDim);
  std::vector<float> out(static_cast<size_t>(patches * kHeads * kDim));
  const Tensor all = tensor(qkv, patches, 3 * kHeads * kDim);
  const int32_t segments[2] = {0, static_cast<int32_t>(patches)};
  const double time = best_time(
      [&] {
        backend.segment_attention(
            tensor(out, patches, kHeads * kDim), all.columns(0, kHeads * kDim),
            all.columns(kHeads * kDim, kHeads * kDim),
            all.columns(2 * kHeads * kDim, kHeads * kDim), kDim, segments, 0.1118f);
      },
      3);
  const auto p = static_cast<double>(patches);
  table.add({name, time, 0, p * p * 4 * kHeads * kDim, false});
}

void bench_rows(Backend& backend, Table& table, int64_t rows, int64_t cols, int64_t hidden) {
  const std::string suffix = " T=" + std::to_string(rows);
  std::vector<float> x = numbers(rows * 2 * hidden);
  std::vector<float> out(static_cast<size_t>(rows * hidden));
  auto weight = backend.allocate(static_cast<size_t>(cols) * sizeof(float));
  std::fill_n(static_cast<float*>(weight->data()), cols, 1.0f);
  const auto add = [&](const std::string& name, double numbers_moved,
                       const std::function<void()>& body) {
    if (!table.wanted(name)) return;
    table.add({name, best_time(body), numbers_moved * sizeof(float), 0, true});
  };
  const auto elements = static_cast<double>(rows * cols);
  add("rms_norm C=" + std::to_string(cols) + suffix, 2 * elements,
      [&] { backend.rms_norm(tensor(out, rows, cols), tensor(x, rows, cols), *weight, 1e-6f); });
  add("layer_norm C=" + std::to_string(cols) + suffix, 2 * elements, [&] {
    backend.layer_norm(tensor(out, rows, cols), tensor(x, rows, cols), *weight, *weight, 1e-6f);
  });
  add("swiglu F=" + std::to_string(hidden) + suffix, 3 * static_cast<double>(rows * hidden),
      [&] { backend.swiglu(tensor(out, rows, hidden), tensor(x, rows, 2 * hidden)); });
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--json") {
      options.json = true;
      continue;
    }
    if (i + 1 == argc) throw Error("ERR_INVALID_ARGUMENT", "unknown or incomplete option " + name);
    const std::string value = argv[++i];
    if (name == "--threads") {
      options.backend.threads = std::atoi(value.c_str());
    } else if (name == "--isa") {
      options.backend.instruction_set = value;
    } else if (name == "--filter") {
      options.filter = value;
    } else {
      throw Error("ERR_INVALID_ARGUMENT", "unknown option " + name);
    }
  }
  return options;
}

void run(const Options& options) {
  const auto backend = create_cpu_backend(options.backend);
  const DeviceInfo& device = backend->device();
  Limits limits(device.threads);
  limits.measure_bandwidth(1.0);
  limits.measure_flops(0.5);
  std::printf(options.json ? "{\"processor\":\"%s\",\"kernels\":\"%s\",\"threads\":%d,"
                             "\"read_gb_per_s\":%.2f,\"fma_gflop_per_s\":%.2f}\n"
                           : "%s, %s kernels, %d threads; reads %.1f GB/s, FP32 multiply-add %.1f "
                             "GFLOP/s\n\n",
              device.name.c_str(), device.instruction_set.c_str(), device.threads,
              limits.bandwidth() / 1e9, limits.flops() / 1e9);

  Table table(options, limits);
  const LinearShape shapes[] = {
      {"qkv", 2048, 1536, 1, DType::kBF16},       {"o_proj", 1536, 1536, 8, DType::kBF16},
      {"gate_up", 17920, 1536, 1, DType::kBF16},  {"down", 1536, 8960, 8, DType::kBF16},
      {"lm_head", 151936, 1536, 1, DType::kBF16}, {"gate_up", 17920, 1536, 1, DType::kF16},
      {"gate_up", 17920, 1536, 1, DType::kF32},   {"vit qkv", 3840, 1280, 1, DType::kBF16},
      {"vit proj", 1280, 1280, 1, DType::kBF16},  {"vit fc1", 5120, 1280, 1, DType::kBF16},
      {"vit fc2", 1280, 5120, 1, DType::kBF16},   {"vit patch", 1280, 1176, 1, DType::kBF16},
  };
  for (const LinearShape& shape : shapes) {
    const bool is_head = shape.out_features > 100000;
    const bool is_vision = std::strncmp(shape.name, "vit", 3) == 0;
    bench_linear(*backend, table, shape,
                 is_head     ? std::vector<int64_t>{1, 8}
                 : is_vision ? std::vector<int64_t>{256, 1024}
                             : std::vector<int64_t>{1, 2, 3, 4, 6, 8, 12, 16, 32, 128, 512});
  }
  for (const int64_t context : {512, 4096, 16384}) {
    bench_decode_attention(*backend, table, context, DType::kF32);
  }
  bench_decode_attention(*backend, table, 4096, DType::kBF16);
  bench_decode_attention(*backend, table, 4096, DType::kF16);
  for (const int64_t tokens : {128, 512, 2048}) bench_prefill_attention(*backend, table, tokens);
  for (const int64_t patches : {256, 1024, 3996}) bench_vision_attention(*backend, table, patches);
  bench_rows(*backend, table, 512, 1536, 8960);
  bench_rows(*backend, table, 1, 1536, 8960);
  if (!options.json) {
    std::printf("\nbest limits seen: reads %.1f GB/s, multiply-add %.1f GFLOP/s\n",
                limits.bandwidth() / 1e9, limits.flops() / 1e9);
  }
}

}  // namespace
}  // namespace qvl

int main(int argc, char** argv) {
  try {
    qvl::run(qvl::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels: %s\n", error.what());
    return 1;
  }
  return 0;
}
