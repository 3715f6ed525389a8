// Launches the kernels of a decode step in the widths of the 7B model, over fewer rows of the
// matrices, for the simulator's counters: QWEN2_VL_SIM_REPORT=<file> makes a line of JSON of each.
// One row of activations; numbers are zeros, which cost what others do.
//
// Prints, for each launch: <kernel> <numbers read: weights, or keys and values> <their bytes,
// without scales and zero points> <bytes a thread has on their way>.

#include <cstdio>
#include <string>

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/gemv.h"
#include "kernels/gpu.h"
#include "kernels/quantized_weights.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr int kHidden = 3584, kInner = 18944, kHeads = 28, kKvHeads = 4, kHeadDim = 128;
constexpr int kKeys = 2048;
// Tiles that a block goes through: about as many as in the whole matrices on a large device.
constexpr unsigned kBlocks = 4;
constexpr int64_t kRows = 256;

/// What every launch needs, all zero.
struct Memory {
  explicit Memory(Gpu& gpu)
      : floats(gpu.filled<float>(size_t{1} << 20, 0)),
        halves(gpu.filled<uint16_t>(size_t{1} << 20, 0)),
        weights(gpu.filled<uint16_t>(static_cast<size_t>(kRows * kInner), 0)),
        cache(gpu.filled<uint16_t>(size_t{kKeys} * 2 * kKvHeads * kHeadDim, 0)),
        numbers(gpu.upload(std::vector<int32_t>(kKeys / kKvTokens, 0))),
        cached(gpu.upload(std::vector<int32_t>{kKeys - 1})),
        arrivals(gpu.filled<uint32_t>(kKvHeads, 0)) {}

  SequenceTable sequences(bool long_context) const {
    return {numbers.get(), numbers.get(), long_context ? cached.get() : numbers.get(),
            numbers.get(), numbers.get(), kKeys / kKvTokens};
  }

  DeviceArray<float> floats;
  DeviceArray<uint16_t> halves, weights, cache;
  DeviceArray<int32_t> numbers, cached;
  DeviceArray<uint32_t> arrivals;
};

template <class Epilogue>
Epilogue epilogue(const Memory& memory) {
  // What a launch writes lies behind what it reads.
  float* floats = memory.floats.get() + memory.floats.size() / 2;
  uint16_t* halves = memory.halves.get() + memory.halves.size() / 2;
  if constexpr (std::is_same_v<Epilogue, QkvEpilogue>) {
    QkvEpilogue e{};
    e.bias = e.cos = e.sin = memory.floats.get();
    e.q = halves;
    e.cache = memory.cache.get();
    e.sequences = memory.sequences(false);
    e.q_stride = kRows;
    e.table_stride = kHeadDim / 2;
    e.heads = kRows / kHeadDim;
    e.head_dim = kHeadDim;
    return e;
  } else if constexpr (std::is_same_v<Epilogue, SwiGluEpilogue>) {
    return {halves, kRows / 2};
  } else {
    return {floats, kRows};
  }
}

template <class Epilogue>
void plain(Gpu& gpu, const Memory& memory, const char* name) {
  constexpr bool kNorm = !std::is_same_v<Epilogue, ResidualEpilogue>;
  const int columns = kNorm ? kHidden : kInner;
  GemvKernelParams<Epilogue> params{{}, epilogue<Epilogue>(memory)};
  GemvParams& p = params.gemv;
  p.weight = memory.weights.get();
  p.x = kNorm ? static_cast<void*>(memory.floats.get()) : memory.halves.get();
  p.norm_weight = kNorm ? memory.floats.get() : nullptr;
  p.x_stride = p.in_features = columns;
  p.rows = 1;
  p.out_features = kRows;
  p.eps = 1e-6f;
  for (const Half type : kHalves) {
    const std::string kernel = kernel_name(std::string("gemv_") + name, type);
    gpu.launch(kernel, {gemv_grid<Epilogue>(kRows, kBlocks)}, {kGemvThreads},
               gemv_shared_bytes<Epilogue>(1, columns), params);
    std::printf("%s %lld %lld 64\n", kernel.c_str(), static_cast<long long>(kRows * columns),
                static_cast<long long>(2 * kRows * columns));
  }
}

template <class Epilogue>
void quantized(Gpu& gpu, const Memory& memory, const char* name, int bits, int group) {
  constexpr bool kNorm = !std::is_same_v<Epilogue, ResidualEpilogue>;
  cuda::QuantizedMatrixSpec spec{kRows, kNorm ? kHidden : kInner, bits, group, group == 128, 1};
  if (std::is_same_v<Epilogue, QkvEpilogue>) spec.pair_distance = kHeadDim / 2;
  if (std::is_same_v<Epilogue, SwiGluEpilogue>) spec.pair_distance = kRows / 2;
  const QuantizedWeights weights(gpu, HostQuantizedWeights(spec));
  const auto launch = weights.layout().gemv_launch(
      1, kNorm, gpu.device().properties().max_shared_bytes, gpu.num_multiprocessors());
  QuantizedGemvKernelParams<Epilogue> params{{}, epilogue<Epilogue>(memory)};
  QuantizedGemvParams& p = params.gemv;
  p.matrix = weights.matrix();
  p.x = kNorm ? static_cast<void*>(memory.floats.get()) : memory.halves.get();
  p.norm_weight = kNorm ? memory.floats.get() : nullptr;
  p.x_stride = spec.in_features;
  p.rows = 1;
  p.staged_units = launch.staged_units;
  p.eps = 1e-6f;
  for (const Half type : kHalves) {
    const std::string kernel = kernel_name(weights.kernel("gemv", name), type);
    gpu.launch(kernel, {kBlocks}, {kQuantizedGemvThreads}, launch.shared_bytes, params);
    std::printf("%s %lld %lld %d\n", kernel.c_str(),
                static_cast<long long>(kRows * spec.in_features),
                static_cast<long long>(weights.layout().code_bytes()), kQuantizedGemvAhead * 32);
  }
}

void attention(Gpu& gpu, const Memory& memory) {
  AttentionDecodeParams p{};
  const auto floats = [&](int64_t count) {
    return gpu.filled<float>(static_cast<size_t>(count), 0);
  };
  const auto partials = floats(attention_decode_partials(1, kHeads, kHeadDim));
  const auto statistics = floats(attention_decode_statistics(1, kHeads));
  p.q = memory.halves.get();
  p.cache = memory.cache.get();
  p.out = memory.halves.get() + kHidden;
  p.partials = partials.get();
  p.statistics = statistics.get();
  p.arrivals = memory.arrivals.get();
  p.sequences = memory.sequences(true);
  p.q_stride = p.out_stride = kHidden;
  p.scale = 0.1f;
  p.heads = kHeads;
  p.kv_heads = kKvHeads;
  for (const Half type : kHalves) {
    const std::string kernel = kernel_name("attention_decode_128", type);
    gpu.launch(kernel, {static_cast<unsigned>(attention_decode_splits(kKeys)), kKvHeads, 1},
               {kAttentionDecodeThreads}, attention_decode_shared_bytes(kHeadDim), p);
    constexpr int kNumbers = kKeys * 2 * kKvHeads * kHeadDim;
    std::printf("%s %d %d 128\n", kernel.c_str(), kNumbers, 2 * kNumbers);
  }
}

}  // namespace

int main() {
  try {
    Gpu gpu;
    const Memory memory(gpu);
    plain<QkvEpilogue>(gpu, memory, "qkv");
    plain<ResidualEpilogue>(gpu, memory, "residual");
    plain<SwiGluEpilogue>(gpu, memory, "swiglu");
    plain<LogitsEpilogue>(gpu, memory, "logits");
    for (const int bits : {4, 8}) {
      for (const int group : {32, 128}) {
        quantized<QkvEpilogue>(gpu, memory, "qkv", bits, group);
        quantized<ResidualEpilogue>(gpu, memory, "residual", bits, group);
        quantized<SwiGluEpilogue>(gpu, memory, "swiglu", bits, group);
        quantized<LogitsEpilogue>(gpu, memory, "logits", bits, group);
      }
    }
    attention(gpu, memory);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "representative_launches: %s\n", error.what());
    return 1;
  }
}
