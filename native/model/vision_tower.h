#pragma once

// The vision tower: patches -> blocks of segment attention and MLP -> merged visual tokens.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"
#include "io/image.h"
#include "model/config.h"
#include "model/model.h"
#include "model/tensor_buffer.h"
#include "model/weight_loader.h"

namespace qvl {

/// LayerNorm parameters, [E] each.
struct LayerNormWeights {
  std::unique_ptr<Buffer> weight, bias;
};

/// A linear layer with bias.
struct BiasedLinear {
  std::unique_ptr<Weight> weight;
  std::unique_ptr<Buffer> bias;
};

struct VisionBlockWeights {
  LayerNormWeights norm1, norm2;
  BiasedLinear qkv;   // [3E, E]: all q heads, all k heads, all v heads
  BiasedLinear proj;  // [E, E]
  BiasedLinear fc1;   // [mlp_dim, E]
  BiasedLinear fc2;   // [E, mlp_dim]
};

struct VisionWeights {
  std::unique_ptr<Weight> patch_embed;  // [E, 1176]
  std::vector<VisionBlockWeights> blocks;
  LayerNormWeights merger_norm;
  BiasedLinear merger_fc1;  // [4E, 4E]
  BiasedLinear merger_fc2;  // [C, 4E]

  /// Checks names, shapes and types; values are there after loader.run().
  static VisionWeights load(const VisionConfig& config, WeightLoader& loader);
};

/// What an encode reads: outlives every encode.
struct VisionTower {
  VisionConfig config;
  PixelTable pixels;
  VisionWeights weights;
  std::vector<float> inv_freq;  // [head_dim / 4]: frequencies of one axis
  std::shared_ptr<Backend> backend;

  /// Values of the weights are there after loader.run().
  static VisionTower load(const ModelConfig& config, WeightLoader& loader,
                          std::shared_ptr<Backend> backend);
};

/// Which rows see each other in a block: rows [cu_seqlens[i], cu_seqlens[i + 1]) are a segment.
/// Blocks may have different lists.
using SegmentList = std::vector<int32_t>;

/// One item on its way through the tower. Work is cut into pieces of bounded size over rows, groups
/// of segments, heads and queries; since every row's result depends on its own segment only, the
/// cut changes no bit, and all memory but the residual stream is bounded by the largest segment.
class TowerEncoding final : public VisionEncoding {
 public:
  /// Throws Error(ERR_IMAGE_SIZE) for an item that is not ready for the tower. advance() does
  /// pieces until they make up `work_per_advance` floating-point operations, at least one; a piece
  /// of attention is at most about `piece_work` of them. Without them: as the device has it.
  TowerEncoding(const VisionTower& tower, VisionItem item,
                std::optional<double> work_per_advance = {}, std::optional<double> piece_work = {});

  bool advance() override;
  VisionEmbedding take_result() override;

  /// The residual stream [P, E] after the pieces done so far.
  Tensor hidden() const { return hidden_.tensor(); }
  /// Pieces done and to do, in order of execution.
  int64_t next_piece() const { return next_piece_; }
  int64_t num_pieces() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  enum class Stage : uint8_t { kEmbed, kProject, kAttend, kFinish, kMerge };
  /// Consecutive segments whose rows are attended together.
  struct Group {
    int64_t first_row = 0;
    int64_t num_rows = 0;
    SegmentList cu_seqlens;  // relative to first_row
    double squared_rows = 0;
  };
  struct Piece {
    Stage stage;
    int64_t block = 0;
    int64_t first_row = 0;
    int64_t num_rows = 0;
    int64_t first_head = 0;
    int64_t num_heads = 0;
    const Group* group = nullptr;
    double work = 0;  // floating-point operations
  };

  std::vector<Group> make_groups(const SegmentList& segments) const;
  void plan_rows(Stage stage, int64_t block, int64_t first_row, int64_t num_rows,
                 const Group* group, double work_per_row);
  void plan_block(int64_t block, const std::vector<Group>& groups);
  void plan();
  void allocate();

  void run(const Piece& piece);
  void embed_patches(const Piece& piece);
  void project_qkv(const Piece& piece);
  void attend(const Piece& piece);
  void finish_block(const Piece& piece);
  void merge(const Piece& piece);

  const VisionTower& tower_;
  Backend& backend_;
  VisionItem item_;
  double work_per_advance_;
  double piece_work_;
  int64_t piece_rows_;       // of a piece of work on rows, at most, and of a group, at least
  int64_t num_patches_ = 0;  // P
  std::vector<Group> groups_;
  std::vector<Piece> pieces_;
  int64_t next_piece_ = 0;

  std::vector<float> patches_;   // [rows of a piece, 1176] on the host
  TensorBuffer hidden_;          // [P, E] residual stream
  TensorBuffer pixels_;          // [rows of a piece, 1176]
  TensorBuffer qkv_, attended_;  // [largest group, 3E] and [.., E]
  TensorBuffer narrow_, wide_;   // [rows of a piece, ...]
  TensorBuffer cos_, sin_;       // [P, head_dim / 2]
  VisionEmbedding result_;
};

}  // namespace qvl
