#pragma once

// The vision tower: patch embedding, pre-norm transformer blocks with 2-D rotary embeddings, and
// the merger that makes one visual token of 2 x 2 patches (arXiv 2409.12191, section 2.1).

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "io/image.h"
#include "model/config.h"
#include "model/model.h"
#include "model/weight_loader.h"

namespace qvl {

struct LinearWeights {
  std::unique_ptr<Weight> weight;
  std::unique_ptr<Buffer> bias;
};

struct LayerNormWeights {
  std::unique_ptr<Buffer> weight;
  std::unique_ptr<Buffer> bias;
};

struct VisionBlockWeights {
  LayerNormWeights norm1, norm2;  // [E]
  LinearWeights qkv;              // [3 E, E]: all queries, then all keys, then all values
  LinearWeights proj;             // [E, E]
  LinearWeights fc1;              // [mlp_dim, E]
  LinearWeights fc2;              // [E, mlp_dim]
};

struct VisionWeights {
  std::unique_ptr<Weight> patch_embed;     // [E, 1176]
  std::vector<VisionBlockWeights> blocks;  // depth
  LayerNormWeights merger_norm;            // [E]
  LinearWeights merger_fc1;                // [4 E, 4 E]
  LinearWeights merger_fc2;                // [C, 4 E]
};

class VisionTower {
 public:
  /// Asks the loader for the weights; they are there after its run().
  VisionTower(const VisionConfig& config, const PixelTable& pixels, Backend& backend,
              WeightLoader& loader);

  /// The tower must outlive the encoding. Throws Error(ERR_IMAGE_SIZE) for frames that do not fit.
  std::unique_ptr<VisionEncoding> begin(VisionItem item) const;

 private:
  friend class TowerEncoding;

  VisionConfig config_;
  PixelTable pixels_;
  Backend& backend_;
  std::vector<float> inv_freq_;
  VisionWeights weights_;
};

}  // namespace qvl
