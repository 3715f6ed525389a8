#include "suite.h"

namespace qvl::bench {
namespace {

// Of the 2B model: 12 query heads share 2 key/value heads.
constexpr int64_t kHeads = 12, kGroups = 2, kDim = 128;
constexpr float kScale = 0.08838835f;

std::vector<int32_t> block_table(int64_t tokens) {
  std::vector<int32_t> blocks(static_cast<size_t>((tokens + kKvBlockTokens - 1) / kKvBlockTokens));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
  return blocks;
}

// The layers are used in turn, so that the cache comes from memory as it does in a model.
void run_decode(Suite& suite, int64_t context, DType dtype) {
  const std::string name =
      text("attention decode ", dtype == DType::kF32 ? "fp32" : "bf16", " context ", context);
  if (!suite.wants(name)) return;
  const auto tokens = static_cast<double>(context);
  const double bytes = tokens * 2 * kGroups * kDim * static_cast<double>(dtype_size(dtype));
  const int64_t layers = copies_beyond_caches(bytes);
  const std::vector<int32_t> blocks = block_table(context);
  Backend& backend = suite.backend();
  auto cache =
      backend.create_kv_cache({layers, kGroups, kDim, static_cast<int64_t>(blocks.size()), dtype});
  std::vector<float> k = numbers(context * kGroups * kDim);
  std::vector<float> q = numbers(kHeads * kDim);
  std::vector<float> out(q.size());
  const Tensor kv = tensor(k, context, kGroups * kDim);
  const SequenceSpan all = {0, context, 0, blocks};
  const auto batch = backend.create_sequence_batch(context, static_cast<int64_t>(blocks.size()));
  batch->assign({&all, 1});
  for (int64_t layer = 0; layer < layers; ++layer) {
    backend.append_kv(*cache, layer, kv, kv, *batch);
  }
  const SequenceSpan last = {0, 1, context - 1, blocks};
  batch->assign({&last, 1});
  int64_t layer = 0;
  suite.run({name, bytes, tokens * 4 * kHeads * kDim}, [&] {
    backend.attention(tensor(out, 1, kHeads * kDim), tensor(q, 1, kHeads * kDim), *cache,
                      layer++ % layers, *batch, kScale);
  });
}

void run_prefill(Suite& suite, int64_t tokens) {
  const std::string name = text("attention prefill fp32 ", tokens);
  if (!suite.wants(name)) return;
  const std::vector<int32_t> blocks = block_table(tokens);
  Backend& backend = suite.backend();
  auto cache =
      backend.create_kv_cache({1, kGroups, kDim, static_cast<int64_t>(blocks.size()), DType::kF32});
  std::vector<float> k = numbers(tokens * kGroups * kDim);
  std::vector<float> q = numbers(tokens * kHeads * kDim);
  std::vector<float> out(q.size());
  const Tensor kv = tensor(k, tokens, kGroups * kDim);
  const SequenceSpan all = {0, tokens, 0, blocks};
  const auto batch = backend.create_sequence_batch(tokens, static_cast<int64_t>(blocks.size()));
  batch->assign({&all, 1});
  backend.append_kv(*cache, 0, kv, kv, *batch);
  const auto t = static_cast<double>(tokens);
  const double bytes = 4 * t * kDim * (2 * kHeads + 2 * kGroups);
  suite.run({name, bytes, t * (t + 1) / 2 * 4 * kHeads * kDim}, [&] {
    backend.attention(tensor(out, tokens, kHeads * kDim), tensor(q, tokens, kHeads * kDim), *cache,
                      0, *batch, kScale);
  });
}

// `patches` of one image, all of which see each other.
void run_vision(Suite& suite, int64_t patches) {
  const std::string name = text("attention vision ", patches, " patches");
  if (!suite.wants(name)) return;
  constexpr int64_t kVisionHeads = 16, kVisionDim = 80, kWidth = kVisionHeads * kVisionDim;
  std::vector<float> qkv = numbers(patches * 3 * kWidth);
  std::vector<float> out(static_cast<size_t>(patches * kWidth));
  const Tensor all = tensor(qkv, patches, 3 * kWidth);
  const int32_t segments[2] = {0, static_cast<int32_t>(patches)};
  const auto p = static_cast<double>(patches);
  suite.run({name, 4 * p * 4 * kWidth, p * p * 4 * kWidth}, [&] {
    suite.backend().segment_attention(tensor(out, patches, kWidth), all.columns(0, kWidth),
                                      all.columns(kWidth, kWidth), all.columns(2 * kWidth, kWidth),
                                      kVisionDim, segments, 0, 0.1118034f);
  });
}

}  // namespace

void run_attention(Suite& suite) {
  for (const int64_t context : {512, 8192}) run_decode(suite, context, DType::kF32);
  for (const int64_t context : {512, 8192}) run_decode(suite, context, DType::kBF16);
  for (const int64_t tokens : {128, 512, 4096}) run_prefill(suite, tokens);
  for (const int64_t patches : {1024, 3996}) run_vision(suite, patches);
}

}  // namespace qvl::bench
