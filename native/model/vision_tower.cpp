#include "model/vision_tower.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "common/error.h"
#include "model/rope_table.h"
#include "model/tensor_buffer.h"

namespace qvl {
namespace {

constexpr int64_t kMergedPatches = kMergeSize * kMergeSize;
/// Rows of the steps whose inner width is a multiple of E: bounds their memory for large images.
constexpr int64_t kChunkRows = 1024;

LinearWeights load_linear(WeightLoader& loader, const std::string& name, int64_t out, int64_t in) {
  return {loader.matrix({{name + ".weight", out}}, in), loader.vector({{name + ".bias", out}})};
}

LayerNormWeights load_norm(WeightLoader& loader, const std::string& name, int64_t size) {
  return {loader.vector({{name + ".weight", size}}), loader.vector({{name + ".bias", size}})};
}

void check_item(const VisionItem& item) {
  if (item.frames.empty()) throw Error("ERR_IMAGE_SIZE", "a visual item needs at least one frame");
  const RgbImage& first = *item.frames.front();
  constexpr int kMultiple = kPatchSize * kMergeSize;
  for (const auto& frame : item.frames) {
    if (frame->width > 0 && frame->height > 0 && frame->width % kMultiple == 0 &&
        frame->height % kMultiple == 0 && frame->width == first.width &&
        frame->height == first.height) {
      continue;
    }
    throw Error("ERR_IMAGE_SIZE",
                "a frame is " + std::to_string(frame->width) + " x " +
                    std::to_string(frame->height) +
                    " pixels; all frames need one size, with sides that are multiples of 28",
                {{"width", frame->width}, {"height", frame->height}});
  }
}

}  // namespace

VisionTower::VisionTower(const VisionConfig& config, const PixelTable& pixels, Backend& backend,
                         WeightLoader& loader)
    : config_(config),
      pixels_(pixels),
      backend_(backend),
      inv_freq_(inverse_frequencies(config.rope_theta, config.head_dim() / 2)) {
  const int64_t width = config.embed_dim;
  weights_.patch_embed = loader.matrix({{"visual.patch_embed.proj.weight", width}}, kPatchValues);
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string block = "visual.blocks." + std::to_string(i) + ".";
    weights_.blocks.push_back({load_norm(loader, block + "norm1", width),
                               load_norm(loader, block + "norm2", width),
                               load_linear(loader, block + "attn.qkv", 3 * width, width),
                               load_linear(loader, block + "attn.proj", width, width),
                               load_linear(loader, block + "mlp.fc1", config.mlp_dim, width),
                               load_linear(loader, block + "mlp.fc2", width, config.mlp_dim)});
  }
  const int64_t merged = kMergedPatches * width;
  weights_.merger_norm = load_norm(loader, "visual.merger.ln_q", width);
  weights_.merger_fc1 = load_linear(loader, "visual.merger.mlp.0", merged, merged);
  weights_.merger_fc2 = load_linear(loader, "visual.merger.mlp.2", config.out_dim, merged);
}

/// The pieces: patch embedding, one a block, merger.
class TowerEncoding final : public VisionEncoding {
 public:
  TowerEncoding(const VisionTower& tower, VisionItem item)
      : tower_(tower), backend_(tower.backend_), item_(std::move(item)) {
    check_item(item_);
    const int64_t slice = item_.grid_h() * item_.grid_w();
    // Patches attend to each other inside one temporal slice only.
    for (int64_t t = 0; t <= item_.grid_t(); ++t) {
      cu_seqlens_.push_back(static_cast<int32_t>(t * slice));
    }
    num_patches_ = item_.num_patches();
  }

  bool advance() override {
    const int64_t depth = tower_.config_.depth;
    if (next_piece_ == 0) {
      embed_patches();
    } else if (next_piece_ <= depth) {
      run_block(tower_.weights_.blocks[static_cast<size_t>(next_piece_ - 1)], cu_seqlens_);
    } else {
      merge();
    }
    return next_piece_++ == depth + 1;
  }

  VisionEmbedding take_result() override { return std::move(result_); }

 private:
  void embed_patches() {
    const int64_t width = tower_.config_.embed_dim;
    hidden_ = TensorBuffer(backend_, num_patches_, width);
    normed_ = TensorBuffer(backend_, num_patches_, width);
    qkv_ = TensorBuffer(backend_, num_patches_, 3 * width);
    upload_rope_table();

    const int64_t chunk = std::min(kChunkRows, num_patches_);
    const TensorBuffer patches(backend_, chunk, kPatchValues);
    std::vector<float> staging(static_cast<size_t>(chunk * kPatchValues));
    for_chunks([&](int64_t first, int64_t count) {
      extract_patches(item_, tower_.pixels_, first, count, staging.data());
      const Tensor rows = patches.first_rows(count);
      backend_.upload(rows.data, staging.data(),
                      static_cast<size_t>(count * kPatchValues) * sizeof(float));
      backend_.linear(hidden_.tensor().slice(first, count), rows, *tower_.weights_.patch_embed, {});
    });
    item_.frames.clear();  // the pixels are in `hidden_` now
  }

  void upload_rope_table() {
    const RopeTable table =
        vision_rope_table(tower_.inv_freq_, item_.grid_t(), item_.grid_h(), item_.grid_w());
    const int64_t angles = tower_.config_.head_dim() / 2;
    cos_ = TensorBuffer(backend_, num_patches_, angles);
    sin_ = TensorBuffer(backend_, num_patches_, angles);
    backend_.upload(cos_.tensor().data, table.cos.data(), table.cos.size() * sizeof(float));
    backend_.upload(sin_.tensor().data, table.sin.data(), table.sin.size() * sizeof(float));
  }

  // x = x + attention(norm1(x));  x = x + fc2(quick_gelu(fc1(norm2(x))))
  // `cu_seqlens` is a parameter: a windowed block would only bring another list.
  void run_block(const VisionBlockWeights& block, std::span<const int32_t> cu_seqlens) {
    const VisionConfig& config = tower_.config_;
    const int64_t width = config.embed_dim;
    const Tensor hidden = hidden_.tensor();
    const Tensor normed = normed_.tensor();
    const Tensor qkv = qkv_.tensor();
    backend_.layer_norm(normed, hidden, *block.norm1.weight, *block.norm1.bias, config.norm_eps);
    backend_.linear(qkv, normed, *block.qkv.weight, {.bias = block.qkv.bias.get()});
    backend_.rope(qkv.columns(0, 2 * width), config.head_dim(), cos_.tensor(), sin_.tensor());
    const float scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim()));
    backend_.segment_attention(normed, qkv.columns(0, width), qkv.columns(width, width),
                               qkv.columns(2 * width, width), config.head_dim(), cu_seqlens, scale);
    backend_.linear(hidden, normed, *block.proj.weight,
                    {.bias = block.proj.bias.get(), .residual = &hidden});

    const TensorBuffer inner(backend_, std::min(kChunkRows, num_patches_), config.mlp_dim);
    for_chunks([&](int64_t first, int64_t count) {
      const Tensor x = hidden.slice(first, count);
      const Tensor y = normed.slice(first, count);
      backend_.layer_norm(y, x, *block.norm2.weight, *block.norm2.bias, config.norm_eps);
      backend_.linear(inner.first_rows(count), y, *block.fc1.weight,
                      {.bias = block.fc1.bias.get(), .activation = Activation::kQuickGelu});
      backend_.linear(x, inner.first_rows(count), *block.fc2.weight,
                      {.bias = block.fc2.bias.get(), .residual = &x});
    });
  }

  // Four consecutive patches, normalised one by one, are one row: [P, E] -> [P / 4, 4 E].
  void merge() {
    const VisionWeights& weights = tower_.weights_;
    const int64_t merged_width = kMergedPatches * tower_.config_.embed_dim;
    const int64_t tokens = num_patches_ / kMergedPatches;
    backend_.layer_norm(normed_.tensor(), hidden_.tensor(), *weights.merger_norm.weight,
                        *weights.merger_norm.bias, tower_.config_.norm_eps);
    const Tensor inner = qkv_.reshaped(tokens, merged_width);
    backend_.linear(inner, normed_.reshaped(tokens, merged_width), *weights.merger_fc1.weight,
                    {.bias = weights.merger_fc1.bias.get(), .activation = Activation::kGelu});
    TensorBuffer out(backend_, tokens, tower_.config_.out_dim);
    backend_.linear(out.tensor(), inner, *weights.merger_fc2.weight,
                    {.bias = weights.merger_fc2.bias.get()});
    result_.rows = out.tensor();
    result_.buffer = out.release();
    for (TensorBuffer* buffer : {&hidden_, &normed_, &qkv_, &cos_, &sin_}) *buffer = TensorBuffer();
  }

  template <typename Body>
  void for_chunks(const Body& body) const {
    for (int64_t first = 0; first < num_patches_; first += kChunkRows) {
      body(first, std::min(kChunkRows, num_patches_ - first));
    }
  }

  const VisionTower& tower_;
  Backend& backend_;
  VisionItem item_;
  int64_t num_patches_ = 0;
  std::vector<int32_t> cu_seqlens_;
  int64_t next_piece_ = 0;
  TensorBuffer hidden_;     // [P, E]
  TensorBuffer normed_;     // [P, E]
  TensorBuffer qkv_;        // [P, 3 E]
  TensorBuffer cos_, sin_;  // [P, D / 2]
  VisionEmbedding result_;
};

std::unique_ptr<VisionEncoding> VisionTower::begin(VisionItem item) const {
  return std::make_unique<TowerEncoding>(*this, std::move(item));
}

}  // namespace qvl
