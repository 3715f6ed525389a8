#include "model/vision_tower.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "common/error.h"
#include "model/rope_table.h"

namespace qvl {
namespace {

constexpr int64_t kMergedPatches = kMergeSize * kMergeSize;
/// Far above what memory allows; keeps every row index within int32.
constexpr int64_t kMaxPatches = int64_t{1} << 24;

/// Throws unless the item is made of whole merge blocks and equal frames. Returns its patches.
int64_t check_item(const VisionItem& item) {
  const auto refuse = [](const std::string& what) {
    throw Error("ERR_IMAGE_SIZE", what + ". Prepare images with the model's own preprocessing");
  };
  if (item.frames.empty()) refuse("an image or video without frames");
  constexpr int kSide = kPatchSize * kMergeSize;
  const RgbImage* first = item.frames.front().get();
  for (const std::shared_ptr<const RgbImage>& frame : item.frames) {
    if (frame == nullptr) refuse("a frame is missing");
    const std::string size = std::to_string(frame->width) + "x" + std::to_string(frame->height);
    if (frame->width < kSide || frame->height < kSide || frame->width % kSide != 0 ||
        frame->height % kSide != 0) {
      refuse("a frame of " + size + " pixels; sides must be multiples of " + std::to_string(kSide));
    }
    if (frame->width != first->width || frame->height != first->height) {
      refuse("a video with frames of " + std::to_string(first->width) + "x" +
             std::to_string(first->height) + " and " + size + " pixels; all must be equal");
    }
    const size_t expected =
        size_t{3} * static_cast<size_t>(frame->width) * static_cast<size_t>(frame->height);
    if (frame->pixels.size() != expected) {
      refuse("a frame of " + size + " pixels holds " + std::to_string(frame->pixels.size()) +
             " bytes, expected " + std::to_string(expected));
    }
  }
  // Neither product overflows: sides are int, and a frame's pixels are in memory.
  const int64_t per_slice = item.grid_h() * item.grid_w();
  if (item.grid_t() > kMaxPatches / per_slice) {
    refuse("an image or video of " + std::to_string(item.grid_t()) + " x " +
           std::to_string(per_slice) + " patches; at most " + std::to_string(kMaxPatches) +
           " are possible");
  }
  return item.grid_t() * per_slice;
}

/// Full attention within each temporal slice.
SegmentList temporal_slices(const VisionItem& item) {
  const int64_t rows = item.grid_h() * item.grid_w();
  SegmentList segments;
  for (int64_t t = 0; t <= item.grid_t(); ++t) segments.push_back(static_cast<int32_t>(t * rows));
  return segments;
}

LayerNormWeights load_norm(WeightLoader& loader, const std::string& name, int64_t width) {
  return {loader.vector({{name + ".weight", {width}}}), loader.vector({{name + ".bias", {width}}})};
}

BiasedLinear load_linear(WeightLoader& loader, const std::string& name, int64_t out, int64_t in) {
  return {loader.matrix({{name + ".weight", {out, in}}}), loader.vector({{name + ".bias", {out}}})};
}

LinearOptions with(const BiasedLinear& layer, Activation activation = Activation::kNone) {
  return {layer.bias.get(), nullptr, activation};
}

TensorBuffer upload(Backend& backend, const std::vector<float>& values, int64_t rows,
                    int64_t cols) {
  TensorBuffer buffer(backend, rows, cols);
  backend.upload(buffer.tensor().data, values.data(), values.size() * sizeof(float));
  return buffer;
}

}  // namespace

VisionWeights VisionWeights::load(const VisionConfig& config, WeightLoader& loader) {
  const int64_t width = config.embed_dim;
  const int64_t merged = width * kMergedPatches;
  VisionWeights weights;
  weights.patch_embed = loader.matrix(
      {{"visual.patch_embed.proj.weight", {width, 3, kTemporalPatchSize, kPatchSize, kPatchSize}}});
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string block = "visual.blocks." + std::to_string(i) + ".";
    weights.blocks.push_back({
        load_norm(loader, block + "norm1", width),
        load_norm(loader, block + "norm2", width),
        load_linear(loader, block + "attn.qkv", 3 * width, width),
        load_linear(loader, block + "attn.proj", width, width),
        load_linear(loader, block + "mlp.fc1", config.mlp_dim, width),
        load_linear(loader, block + "mlp.fc2", width, config.mlp_dim),
    });
  }
  weights.merger_norm = load_norm(loader, "visual.merger.ln_q", width);
  weights.merger_fc1 = load_linear(loader, "visual.merger.mlp.0", merged, merged);
  weights.merger_fc2 = load_linear(loader, "visual.merger.mlp.2", config.out_dim, merged);
  return weights;
}

VisionTower VisionTower::load(const ModelConfig& config, WeightLoader& loader,
                              std::shared_ptr<Backend> backend) {
  const VisionConfig& vision = config.vision;
  return {vision, PixelTable::make(config.image_mean, config.image_std, config.rescale_factor),
          VisionWeights::load(vision, loader),
          inverse_frequencies(static_cast<double>(vision.rope_theta), vision.head_dim() / 2),
          std::move(backend)};
}

TowerEncoding::TowerEncoding(const VisionTower& tower, VisionItem item,
                             std::optional<double> work_per_advance,
                             std::optional<double> piece_work)
    : tower_(tower),
      backend_(*tower.backend),
      item_(std::move(item)),
      work_per_advance_(work_per_advance.value_or(backend_.device().bounded_work)),
      piece_work_(piece_work.value_or(backend_.device().bounded_work)),
      piece_rows_(backend_.device().busy_rows),
      num_patches_(check_item(item_)),
      groups_(make_groups(temporal_slices(item_))) {
  plan();
}

// ---- planning ----

std::vector<TowerEncoding::Group> TowerEncoding::make_groups(const SegmentList& segments) const {
  std::vector<Group> groups;
  for (size_t i = 0; i + 1 < segments.size(); ++i) {
    const int32_t rows = segments[i + 1] - segments[i];
    if (groups.empty() || groups.back().num_rows + rows > piece_rows_) {
      groups.push_back({segments[i], 0, {0}});
    }
    Group& group = groups.back();
    group.num_rows += rows;
    group.cu_seqlens.push_back(static_cast<int32_t>(group.num_rows));
    group.squared_rows += static_cast<double>(rows) * rows;
  }
  return groups;
}

void TowerEncoding::plan_rows(Stage stage, int64_t block, int64_t first_row, int64_t num_rows,
                              const Group* group, double work_per_row) {
  for (int64_t done = 0; done < num_rows; done += piece_rows_) {
    const int64_t count = std::min(piece_rows_, num_rows - done);
    pieces_.push_back({stage, block, first_row + done, count, 0, 0, group,
                       work_per_row * static_cast<double>(count)});
  }
}

void TowerEncoding::plan_block(int64_t block, const std::vector<Group>& groups) {
  const VisionConfig& config = tower_.config;
  const auto width = static_cast<double>(config.embed_dim);
  for (const Group& group : groups) {
    plan_rows(Stage::kProject, block, group.first_row, group.num_rows, &group, 6 * width * width);
    const double work_per_head = 4 * group.squared_rows * static_cast<double>(config.head_dim());
    const auto heads_at_once = static_cast<int64_t>(
        std::clamp(piece_work_ / work_per_head, 1.0, static_cast<double>(config.num_heads)));
    // Even one head of a large image may be too much: then some of its queries.
    const auto parts = static_cast<int64_t>(std::clamp(std::ceil(work_per_head / piece_work_), 1.0,
                                                       static_cast<double>(group.num_rows)));
    for (int64_t head = 0; head < config.num_heads; head += heads_at_once) {
      const int64_t count = std::min(heads_at_once, config.num_heads - head);
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t begin = group.num_rows * part / parts;
        const int64_t end = group.num_rows * (part + 1) / parts;
        pieces_.push_back({Stage::kAttend, block, group.first_row + begin, end - begin, head, count,
                           &group,
                           work_per_head * static_cast<double>(count * (end - begin)) /
                               static_cast<double>(group.num_rows)});
      }
    }
    plan_rows(Stage::kFinish, block, group.first_row, group.num_rows, &group,
              2 * width * (width + 2 * static_cast<double>(config.mlp_dim)));
  }
}

void TowerEncoding::plan() {
  const VisionConfig& config = tower_.config;
  const auto width = static_cast<double>(config.embed_dim);
  plan_rows(Stage::kEmbed, 0, 0, num_patches_, nullptr, 2 * width * kPatchValues);
  // The one place that says which segments a block has.
  for (int64_t block = 0; block < config.depth; ++block) plan_block(block, groups_);
  plan_rows(Stage::kMerge, 0, 0, num_patches_, nullptr,
            2 * width * (kMergedPatches * width + static_cast<double>(config.out_dim)));
}

void TowerEncoding::allocate() {
  const VisionConfig& config = tower_.config;
  const int64_t width = config.embed_dim;
  int64_t group_rows = 0;
  for (const Group& group : groups_) group_rows = std::max(group_rows, group.num_rows);
  const int64_t piece_rows = std::min(piece_rows_, num_patches_);
  const DType dtype = backend_.activation_dtype();
  hidden_ = TensorBuffer(backend_, num_patches_, width);
  pixels_ = TensorBuffer(backend_, piece_rows, kPatchValues);
  qkv_ = TensorBuffer(backend_, group_rows, 3 * width, dtype);
  attended_ = TensorBuffer(backend_, group_rows, width, dtype);
  narrow_ = TensorBuffer(backend_, piece_rows, width, dtype);
  wide_ = TensorBuffer(backend_, piece_rows, std::max(config.mlp_dim, width), dtype);
  patches_.resize(static_cast<size_t>(piece_rows * kPatchValues));
  const RopeTable table =
      vision_rope_table(tower_.inv_freq, item_.grid_t(), item_.grid_h(), item_.grid_w());
  cos_ = upload(backend_, table.cos, num_patches_, config.head_dim() / 2);
  sin_ = upload(backend_, table.sin, num_patches_, config.head_dim() / 2);
  const int64_t tokens = num_patches_ / kMergedPatches;
  const size_t bytes = static_cast<size_t>(tokens) * static_cast<size_t>(config.out_dim);
  result_.buffer = backend_.allocate(bytes * sizeof(float));
  result_.rows = {result_.buffer->data(), tokens, config.out_dim, config.out_dim};
}

// ---- execution ----

bool TowerEncoding::advance() {
  if (next_piece_ == 0) allocate();
  for (double work = 0; next_piece_ < num_pieces();) {
    const Piece& piece = pieces_[static_cast<size_t>(next_piece_)];
    run(piece);
    ++next_piece_;
    work += piece.work;
    if (work >= work_per_advance_) break;
  }
  if (next_piece_ < num_pieces()) return false;
  for (TensorBuffer* buffer :
       {&hidden_, &pixels_, &qkv_, &attended_, &narrow_, &wide_, &cos_, &sin_}) {
    *buffer = TensorBuffer();
  }
  return true;
}

VisionEmbedding TowerEncoding::take_result() {
  if (next_piece_ < num_pieces()) {
    throw Error("ERR_INTERNAL", "the result of a vision encode was asked for before its end");
  }
  return std::exchange(result_, {});
}

void TowerEncoding::run(const Piece& piece) {
  switch (piece.stage) {
    case Stage::kEmbed:
      return embed_patches(piece);
    case Stage::kProject:
      return project_qkv(piece);
    case Stage::kAttend:
      return attend(piece);
    case Stage::kFinish:
      return finish_block(piece);
    case Stage::kMerge:
      return merge(piece);
  }
}

void TowerEncoding::embed_patches(const Piece& piece) {
  extract_patches(item_, tower_.pixels, piece.first_row, piece.num_rows, patches_.data());
  const Tensor patches = pixels_.first_rows(piece.num_rows);
  backend_.upload(patches.data, patches_.data(),
                  static_cast<size_t>(piece.num_rows * kPatchValues) * sizeof(float));
  backend_.linear(hidden().slice(piece.first_row, piece.num_rows), patches,
                  *tower_.weights.patch_embed, {});
  if (piece.first_row + piece.num_rows == num_patches_)
    item_.frames.clear();  // not needed any more
}

void TowerEncoding::project_qkv(const Piece& piece) {
  const VisionConfig& config = tower_.config;
  const VisionBlockWeights& block = tower_.weights.blocks[static_cast<size_t>(piece.block)];
  const int64_t width = config.embed_dim;
  const Tensor normed = narrow_.reshaped(piece.num_rows, width);
  backend_.layer_norm(normed, hidden().slice(piece.first_row, piece.num_rows), *block.norm1.weight,
                      *block.norm1.bias, config.norm_eps);
  const Tensor qkv = qkv_.reshaped(piece.group->num_rows, 3 * width)
                         .slice(piece.first_row - piece.group->first_row, piece.num_rows);
  backend_.linear(qkv, normed, *block.qkv.weight, with(block.qkv));
  backend_.rope(qkv.columns(0, 2 * width), config.head_dim(),
                cos_.tensor().slice(piece.first_row, piece.num_rows),
                sin_.tensor().slice(piece.first_row, piece.num_rows));
}

void TowerEncoding::attend(const Piece& piece) {
  const VisionConfig& config = tower_.config;
  const int64_t width = config.embed_dim;
  const int64_t head_dim = config.head_dim();
  const int64_t first_query = piece.first_row - piece.group->first_row;
  const Tensor qkv = qkv_.reshaped(piece.group->num_rows, 3 * width);
  const Tensor attended = attended_.reshaped(piece.group->num_rows, width);
  const auto heads_of = [&](const Tensor& tensor, int64_t first_column) {
    return tensor.columns(first_column + piece.first_head * head_dim, piece.num_heads * head_dim);
  };
  const auto queries_of = [&](const Tensor& tensor) {
    return heads_of(tensor, 0).slice(first_query, piece.num_rows);
  };
  backend_.segment_attention(queries_of(attended), queries_of(qkv), heads_of(qkv, width),
                             heads_of(qkv, 2 * width), head_dim, piece.group->cu_seqlens,
                             first_query, attention_scale(head_dim));
}

void TowerEncoding::finish_block(const Piece& piece) {
  const VisionConfig& config = tower_.config;
  const VisionBlockWeights& block = tower_.weights.blocks[static_cast<size_t>(piece.block)];
  const int64_t width = config.embed_dim;
  const Tensor x = hidden().slice(piece.first_row, piece.num_rows);
  const Tensor attended = attended_.reshaped(piece.group->num_rows, width)
                              .slice(piece.first_row - piece.group->first_row, piece.num_rows);
  backend_.linear(x, attended, *block.proj.weight, {block.proj.bias.get(), &x});

  const Tensor normed = narrow_.reshaped(piece.num_rows, width);
  const Tensor inner = wide_.reshaped(piece.num_rows, config.mlp_dim);
  backend_.layer_norm(normed, x, *block.norm2.weight, *block.norm2.bias, config.norm_eps);
  backend_.linear(inner, normed, *block.fc1.weight, with(block.fc1, Activation::kQuickGelu));
  backend_.linear(x, inner, *block.fc2.weight, {block.fc2.bias.get(), &x});
}

void TowerEncoding::merge(const Piece& piece) {
  const VisionConfig& config = tower_.config;
  const VisionWeights& weights = tower_.weights;
  const int64_t width = config.embed_dim;
  backend_.layer_norm(narrow_.reshaped(piece.num_rows, width),
                      hidden().slice(piece.first_row, piece.num_rows), *weights.merger_norm.weight,
                      *weights.merger_norm.bias, config.norm_eps);
  // Four consecutive rows are one row of the merged matrix.
  const int64_t tokens = piece.num_rows / kMergedPatches;
  const Tensor merged = narrow_.reshaped(tokens, kMergedPatches * width);
  const Tensor inner = wide_.reshaped(tokens, kMergedPatches * width);
  backend_.linear(inner, merged, *weights.merger_fc1.weight,
                  with(weights.merger_fc1, Activation::kGelu));
  backend_.linear(result_.rows.slice(piece.first_row / kMergedPatches, tokens), inner,
                  *weights.merger_fc2.weight, with(weights.merger_fc2));
}

}  // namespace qvl
