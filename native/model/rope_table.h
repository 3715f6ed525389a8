#pragma once

// Angles of rotary embeddings, as the reference computes them: everything in float32.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace qvl {

/// inv_freq[i] = 1 / theta^(2i / dim), i in [0, dim / 2), with pow and reciprocal each rounded to
/// float32 as the reference rounds them.
std::vector<float> inverse_frequencies(double theta, int64_t dim);

/// head_dim^-0.5, as the reference rounds it.
float attention_scale(int64_t head_dim);

/// cos and sin of a table of angles, [rows, columns] each.
struct RopeTable {
  std::vector<float> cos, sin;
};

/// The decoder's table, [tokens, head_dim / 2]: frequency i turns with the token's T, H or W
/// position, whichever section of `sections` (frequencies for T, H, W) it lies in.
RopeTable mrope_table(std::span<const float> inv_freq, const std::array<int, 3>& sections,
                      std::span<const int32_t> pos_t, std::span<const int32_t> pos_h,
                      std::span<const int32_t> pos_w);

/// The vision tower's table, [t * h * w, 2 * inv_freq.size()]: the row's frequencies, then the
/// column's, patches in merge-grouped order, the same for every temporal slice.
RopeTable vision_rope_table(std::span<const float> inv_freq, int64_t grid_t, int64_t grid_h,
                            int64_t grid_w);

}  // namespace qvl
