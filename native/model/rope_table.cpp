#include "model/rope_table.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace qvl {
namespace {

/// cos and sin of a float32 angle, rounded once: the reference reduces large angles fully.
void push_angle(RopeTable& table, float angle) {
  table.cos.push_back(static_cast<float>(std::cos(static_cast<double>(angle))));
  table.sin.push_back(static_cast<float>(std::sin(static_cast<double>(angle))));
}

}  // namespace

std::vector<float> inverse_frequencies(double theta, int64_t dim) {
  std::vector<float> inv_freq;
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    inv_freq.push_back(1.0f / power);
  }
  // The one value of the published models where the reference's float32 pow is not correctly
  // rounded.
  if (theta == 1e6 && dim == 128) inv_freq[37] = std::bit_cast<float>(uint32_t{0x39b229fb});
  return inv_freq;
}

float attention_scale(int64_t head_dim) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
}

RopeTable mrope_table(std::span<const float> inv_freq, const std::array<int, 3>& sections,
                      std::span<const int32_t> pos_t, std::span<const int32_t> pos_h,
                      std::span<const int32_t> pos_w) {
  RopeTable table;
  table.cos.reserve(pos_t.size() * inv_freq.size());
  table.sin.reserve(pos_t.size() * inv_freq.size());
  const auto end_t = static_cast<size_t>(sections[0]);
  const auto end_h = static_cast<size_t>(sections[0] + sections[1]);
  for (size_t token = 0; token < pos_t.size(); ++token) {
    for (size_t i = 0; i < inv_freq.size(); ++i) {
      const int32_t position = i < end_t ? pos_t[token] : i < end_h ? pos_h[token] : pos_w[token];
      push_angle(table, static_cast<float>(position) * inv_freq[i]);
    }
  }
  return table;
}

RopeTable vision_rope_table(std::span<const float> inv_freq, int64_t grid_t, int64_t grid_h,
                            int64_t grid_w) {
  // Angles depend on the row or the column alone: [max(h, w), inv_freq.size()].
  RopeTable axis;
  for (int64_t position = 0; position < std::max(grid_h, grid_w); ++position) {
    for (const float frequency : inv_freq) {
      push_angle(axis, static_cast<float>(position) * frequency);
    }
  }
  RopeTable table;
  const auto total = static_cast<size_t>(grid_t * grid_h * grid_w) * 2 * inv_freq.size();
  table.cos.reserve(total);
  table.sin.reserve(total);
  const auto count = static_cast<std::ptrdiff_t>(inv_freq.size());
  const auto append = [&](std::vector<float>& to, const std::vector<float>& from,
                          int64_t position) {
    to.insert(to.end(), from.begin() + position * count, from.begin() + (position + 1) * count);
  };
  const int64_t blocks_w = grid_w / 2;
  for (int64_t patch = 0; patch < grid_h * grid_w; ++patch) {
    const int64_t block = patch / 4;
    const int64_t row = block / blocks_w * 2 + patch % 4 / 2;
    const int64_t col = block % blocks_w * 2 + patch % 2;
    for (const int64_t position : {row, col}) {
      append(table.cos, axis.cos, position);
      append(table.sin, axis.sin, position);
    }
  }
  for (std::vector<float>* values : {&table.cos, &table.sin}) {
    const size_t slice = values->size();
    for (int64_t t = 1; t < grid_t; ++t) {
      values->insert(values->end(), values->begin(),
                     values->begin() + static_cast<std::ptrdiff_t>(slice));
    }
  }
  return table;
}

}  // namespace qvl
