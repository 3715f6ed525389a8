#include <algorithm>

#include "suite.h"

namespace qvl::bench {
namespace {

constexpr int64_t kHidden = 1536, kVisionWidth = 1280;
constexpr int64_t kHeads = 12, kGroups = 2, kDim = 128;

/// Several copies of an operation's rows, used in turn so that they come from memory.
class Buffers {
 public:
  Buffers(int64_t rows, int64_t in_cols, int64_t out_cols) : rows_(rows) {
    const int copies =
        copies_beyond_caches(static_cast<double>(rows * (in_cols + out_cols)) * sizeof(float));
    for (int i = 0; i < copies; ++i) {
      in_.push_back(numbers(rows * in_cols));
      out_.emplace_back(static_cast<size_t>(rows * out_cols));
    }
    in_cols_ = in_cols;
    out_cols_ = out_cols;
  }

  void next() { index_ = (index_ + 1) % in_.size(); }
  Tensor in() { return tensor(in_[index_], rows_, in_cols_); }
  Tensor out() { return tensor(out_[index_], rows_, out_cols_); }
  /// Read once and written once.
  double bytes() const {
    return static_cast<double>(rows_ * (in_cols_ + out_cols_)) * sizeof(float);
  }

 private:
  int64_t rows_, in_cols_ = 0, out_cols_ = 0;
  std::vector<std::vector<float>> in_, out_;
  size_t index_ = 0;
};

std::unique_ptr<Buffer> ones(Backend& backend, int64_t count) {
  auto buffer = backend.allocate(static_cast<size_t>(count) * sizeof(float));
  std::fill_n(static_cast<float*>(buffer->data()), count, 1.0f);
  return buffer;
}

void run_norms(Suite& suite, int64_t rows) {
  Backend& backend = suite.backend();
  const std::string rms = text("rms_norm ", rows, "×", kHidden);
  if (suite.wants(rms)) {
    Buffers x(rows, kHidden, kHidden);
    const auto weight = ones(backend, kHidden);
    suite.run({rms, x.bytes(), 0}, [&] {
      x.next();
      backend.rms_norm(x.out(), x.in(), *weight, 1e-6f);
    });
  }
  const std::string layer = text("layer_norm ", rows, "×", kVisionWidth);
  if (suite.wants(layer)) {
    Buffers x(rows, kVisionWidth, kVisionWidth);
    const auto weight = ones(backend, kVisionWidth);
    suite.run({layer, x.bytes(), 0}, [&] {
      x.next();
      backend.layer_norm(x.out(), x.in(), *weight, *weight, 1e-6f);
    });
  }
}

// Rotates queries and keys and appends keys and values, as a layer does.
void run_rope_append(Suite& suite, int64_t rows) {
  const std::string name = text("rope and append ", rows);
  if (!suite.wants(name)) return;
  Backend& backend = suite.backend();
  Buffers x(rows, (kHeads + 2 * kGroups) * kDim, 2 * kGroups * kDim);
  std::vector<float> cos = numbers(rows * kDim / 2);
  std::vector<int32_t> blocks(static_cast<size_t>((rows + kKvBlockTokens - 1) / kKvBlockTokens));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
  constexpr int64_t kLayers = 28;
  auto cache = backend.create_kv_cache(
      {kLayers, kGroups, kDim, static_cast<int64_t>(blocks.size()), DType::kF32});
  const SequenceSpan all = {0, rows, 0, blocks};
  const auto batch = backend.create_sequence_batch(rows, static_cast<int64_t>(blocks.size()));
  batch->assign({&all, 1});
  int64_t layer = 0;
  suite.run({name, x.bytes() + x.bytes() / 2, 0}, [&] {
    x.next();
    const Tensor qkv = x.in();
    const Tensor angles = tensor(cos, rows, kDim / 2);
    backend.rope(qkv.columns(0, (kHeads + kGroups) * kDim), kDim, angles, angles);
    backend.append_kv(*cache, layer++ % kLayers, qkv.columns(kHeads * kDim, kGroups * kDim),
                      qkv.columns((kHeads + kGroups) * kDim, kGroups * kDim), *batch);
  });
}

}  // namespace

void run_rows(Suite& suite) {
  for (const int64_t rows : {1, 512}) {
    run_norms(suite, rows);
    run_rope_append(suite, rows);
  }
}

}  // namespace qvl::bench
