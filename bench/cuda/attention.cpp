#include <algorithm>
#include <cmath>

#include "suite.h"

namespace qvl::bench {
namespace {

std::vector<int32_t> block_table(int64_t tokens) {
  std::vector<int32_t> blocks(static_cast<size_t>((tokens + kKvBlockTokens - 1) / kKvBlockTokens));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
  return blocks;
}

float scale_of(int64_t head_dim) { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }

/// A cache of some layers, with the keys and values of one sequence.
struct FullCache {
  FullCache(Backend& backend, const Shapes& s, int64_t layers, int64_t tokens)
      : blocks(block_table(tokens)),
        batch(backend.create_sequence_batch(tokens, static_cast<int64_t>(blocks.size()))),
        cache(backend.create_kv_cache(
            {layers, s.kv_heads, s.head_dim, static_cast<int64_t>(blocks.size()), DType::kBF16})) {
    const int64_t width = s.kv_heads * s.head_dim;
    const Operand kv(backend, tokens, 2 * width, DType::kBF16);
    const SequenceSpan all = {0, tokens, 0, blocks};
    batch->assign({&all, 1});
    for (int64_t layer = 0; layer < layers; ++layer) {
      backend.append_kv(*cache, layer, kv.tensor().columns(0, width),
                        kv.tensor().columns(width, width), *batch);
    }
    float done = 0;
    backend.download(&done, kv.tensor().data, sizeof done);  // before kv goes
  }

  std::vector<int32_t> blocks;
  std::unique_ptr<SequenceBatch> batch;
  std::unique_ptr<KvCache> cache;
};

// The layers are used in turn, so that keys and values come from memory as they do in a model.
void run_decode(const Suite& suite, int64_t context) {
  const std::string name = text("attention decode bf16 context ", context);
  if (!suite.wants(name)) return;
  const Shapes& s = suite.shapes();
  const auto tokens = static_cast<double>(context);
  const double bytes = tokens * 4 * static_cast<double>(s.kv_heads * s.head_dim);
  const int layers = suite.copies_beyond_caches(bytes);
  const auto backend = suite.make_backend();
  FullCache full(*backend, s, layers, context);
  const int64_t width = s.heads * s.head_dim;
  const Operand q(*backend, 1, width, DType::kBF16), out(*backend, 1, width, DType::kBF16);
  const SequenceSpan last = {0, 1, context - 1, full.blocks};
  full.batch->assign({&last, 1});
  const Case which{name, bytes, tokens * 4 * static_cast<double>(width)};
  suite.run(which, *backend, full.batch.get(), layers, [&](int layer) {
    backend->attention(out.tensor(), q.tensor(), *full.cache, layer, *full.batch,
                       scale_of(s.head_dim));
  });
}

void run_prefill(const Suite& suite, int64_t tokens) {
  const std::string name = text("attention prefill bf16 ", tokens);
  if (!suite.wants(name)) return;
  const Shapes& s = suite.shapes();
  const auto backend = suite.make_backend();
  FullCache full(*backend, s, 1, tokens);
  const int64_t width = s.heads * s.head_dim;
  const Operand q(*backend, tokens, width, DType::kBF16),
      out(*backend, tokens, width, DType::kBF16);
  const auto t = static_cast<double>(tokens);
  const double bytes = 4 * t * static_cast<double>((s.heads + s.kv_heads) * s.head_dim);
  suite.run({name, bytes, t * (t + 1) / 2 * 4 * static_cast<double>(width)}, *backend, nullptr, 4,
            [&](int) {
              backend->attention(out.tensor(), q.tensor(), *full.cache, 0, *full.batch,
                                 scale_of(s.head_dim));
            });
}

// `patches` of one image, all of which see each other.
void run_vision(const Suite& suite, int64_t patches) {
  const std::string name = text("attention vision ", patches, " patches");
  if (!suite.wants(name)) return;
  const Shapes& s = suite.shapes();
  const auto backend = suite.make_backend();
  const int64_t width = s.vision_heads * s.vision_head_dim;
  const Operand qkv(*backend, patches, 3 * width, DType::kBF16);
  const Operand out(*backend, patches, width, DType::kBF16);
  const Tensor all = qkv.tensor();
  const int32_t segments[2] = {0, static_cast<int32_t>(patches)};
  const auto p = static_cast<double>(patches);
  const auto w = static_cast<double>(width);
  suite.run({name, 2 * p * 4 * w, p * p * 4 * w}, *backend, nullptr, 4, [&](int) {
    backend->segment_attention(out.tensor(), all.columns(0, width), all.columns(width, width),
                               all.columns(2 * width, width), s.vision_head_dim, segments, 0,
                               scale_of(s.vision_head_dim));
  });
}

}  // namespace

void run_attention(const Suite& suite) {
  for (const int64_t context : suite.shapes().contexts) run_decode(suite, context);
  for (const int64_t tokens : suite.shapes().prompts) run_prefill(suite, tokens);
  for (const int64_t patches : suite.shapes().patches) run_vision(suite, patches);
}

}  // namespace qvl::bench
