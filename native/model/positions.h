#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace qvl {

/// Grid of an image or a video in patches (image_grid_thw / video_grid_thw of the reference).
struct VisionGrid {
  int64_t t = 1;
  int64_t h = 0;
  int64_t w = 0;
  bool is_video = false;

  int64_t num_tokens() const { return t * (h / 2) * (w / 2); }
};

/// M-RoPE position ids of a prompt: one triple a token.
struct MropePositions {
  std::vector<int32_t> t, h, w;
  /// (largest id + 1) - number of tokens: token k after the prompt has t = h = w = k + delta.
  int32_t delta = 0;
};

/// Position ids of Qwen2-VL (arXiv 2409.12191, section 2.1; get_rope_index of transformers 4.57):
/// after a visual item the text continues at the largest id used so far plus one, also for videos.
/// Images and videos are consumed in order, each kind by its own counter. Throws
/// Error(ERR_PROMPT_VISION_MISMATCH) when pad runs and grids do not match exactly.
MropePositions compute_positions(std::span<const int32_t> token_ids,
                                 std::span<const VisionGrid> grids, int32_t image_token_id,
                                 int32_t video_token_id);

}  // namespace qvl
