#include "model/quantize_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "common/error.h"
#include "common/half.h"

namespace qvl {
namespace {

using Method = StoredQuantization::Method;

/// Outputs whose codes are packed together: what they write is whole cache lines.
constexpr int64_t kBlockRows = 128;
/// Where output j of eight is in a word of AWQ, in bits.
constexpr int kAwqShift[8] = {0, 16, 4, 20, 8, 24, 12, 28};
constexpr uint16_t kLargestF16 = 0x7bff;
/// Shares of a group's range that a grid of few codes may cover: to cut off the outermost numbers
/// can cost less than coarser steps for all. The bundled checkpoint loses a third less by it.
constexpr float kShares[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f};

/// The scale and zero point of a group.
struct Grid {
  uint16_t scale = 0;  // fp16
  int zero = 0;
};

/// The codes of numbers that all are zero: the zero point, whatever the scale.
float usable_scale(float scale, int most) {
  return f16_to_f32(f32_to_f16(scale)) > 0.0f ? scale : 2.0f / static_cast<float>(most);
}

/// From the least to the greatest of the numbers, and zero.
Grid grid_between(float least, float greatest, int most) {
  const float scale = usable_scale((greatest - least) / static_cast<float>(most), most);
  Grid grid;
  grid.scale = std::min(f32_to_f16(scale), kLargestF16);
  const float zero = std::nearbyint(-least / f16_to_f32(grid.scale));
  grid.zero = static_cast<int>(std::clamp(zero, 0.0f, static_cast<float>(most)));
  return grid;
}

Grid symmetric_grid(float largest, int most) {
  Grid grid;
  const float scale = usable_scale(2.0f * largest / static_cast<float>(most), most);
  grid.scale = std::min(f32_to_f16(scale), kLargestF16);
  grid.zero = (most + 1) / 2;
  return grid;
}

/// codes [count] = values on the grid, rounded to nearest even.
void round_to_grid(uint8_t* codes, const float* values, int64_t count, const Grid& grid, int most) {
  const float inverse = 1.0f / f16_to_f32(grid.scale);
  const auto zero = static_cast<float>(grid.zero);
  for (int64_t k = 0; k < count; ++k) {
    const float code = std::nearbyint(values[k] * inverse) + zero;
    codes[k] = static_cast<uint8_t>(std::clamp(code, 0.0f, static_cast<float>(most)));
  }
}

float number_at(const unsigned char* rows, DType dtype, size_t index) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, rows + 4 * index, sizeof(value));
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, rows + 2 * index, sizeof(half));
  return dtype == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

class Quantizer {
 public:
  Quantizer(const void* rows, DType dtype, int64_t out_features, int64_t in_features,
            const StoredQuantization& format)
      : rows_(static_cast<const unsigned char*>(rows)),
        dtype_(dtype),
        out_(out_features),
        in_(in_features),
        format_(format),
        group_size_(format.group_size == 0 ? in_features : format.group_size),
        most_((1 << format.bits) - 1) {
    const int64_t groups = (in_ + group_size_ - 1) / group_size_;
    const int64_t per_word = 32 / format.bits;
    result_.qweight.resize(static_cast<size_t>(in_ * out_ / per_word));
    result_.qzeros.resize(static_cast<size_t>(groups * out_ / per_word));
    result_.scales.resize(static_cast<size_t>(groups * out_));
    codes_.resize(static_cast<size_t>(kBlockRows * group_size_));
    values_.resize(static_cast<size_t>(group_size_));
  }

  QuantizedMatrix run() {
    for (int64_t row = 0; row < out_; row += kBlockRows) {
      const int64_t count = std::min(kBlockRows, out_ - row);
      for (int64_t first = 0; first < in_; first += group_size_) {
        const int64_t inputs = std::min(group_size_, in_ - first);
        for (int64_t i = 0; i < count; ++i) quantize_group(row, i, first, inputs);
        pack_codes(row, count, first, inputs);
      }
    }
    return std::move(result_);
  }

 private:
  bool is_awq() const { return format_.method == Method::kAwq; }

  void quantize_group(int64_t block, int64_t i, int64_t first, int64_t inputs) {
    const int64_t row = block + i;
    float least = 0.0f;
    float greatest = 0.0f;
    bool is_finite = true;
    for (int64_t k = 0; k < inputs; ++k) {
      const float value = number_at(rows_, dtype_, static_cast<size_t>(row * in_ + first + k));
      values_[static_cast<size_t>(k)] = value;
      least = std::min(least, value);
      greatest = std::max(greatest, value);
      is_finite = is_finite && std::isfinite(value);
    }
    if (!is_finite) {
      throw Error("ERR_CHECKPOINT_QUANTIZATION",
                  "row " + std::to_string(row) +
                      " holds numbers that are not finite, which no code stands for");
    }
    uint8_t* codes = codes_.data() + i * group_size_;
    const Grid grid = is_awq() ? best_grid(codes, inputs, least, greatest)
                               : symmetric_grid(std::max(greatest, -least), most_);
    round_to_grid(codes, values_.data(), inputs, grid, most_);
    store_grid(first / group_size_, row, grid);
  }

  /// With the least sum of squared errors; overwrites codes [inputs].
  Grid best_grid(uint8_t* codes, int64_t inputs, float least, float greatest) const {
    Grid best;
    float least_error = std::numeric_limits<float>::infinity();
    for (const float share : kShares) {
      const Grid grid = grid_between(least * share, greatest * share, most_);
      round_to_grid(codes, values_.data(), inputs, grid, most_);
      const float scale = f16_to_f32(grid.scale);
      float error = 0.0f;
      for (int64_t k = 0; k < inputs; ++k) {
        const float number = static_cast<float>(codes[k] - grid.zero) * scale;
        const float difference = number - values_[static_cast<size_t>(k)];
        error += difference * difference;
      }
      if (!(error < least_error) && share < 1.0f) continue;
      least_error = error;
      best = grid;
    }
    return best;
  }

  void store_grid(int64_t group, int64_t row, const Grid& grid) {
    result_.scales[static_cast<size_t>(group * out_ + row)] = grid.scale;
    const int64_t per_word = 32 / format_.bits;
    const auto stored =
        static_cast<uint32_t>((grid.zero - (format_.zeros_less_one ? 1 : 0)) & most_);
    const auto shift =
        is_awq() ? kAwqShift[row % 8] : static_cast<int>(row % per_word) * format_.bits;
    result_.qzeros[static_cast<size_t>((group * out_ + row) / per_word)] |= stored << shift;
  }

  uint32_t code(int64_t i, int64_t k) const {
    return codes_[static_cast<size_t>(i * group_size_ + k)];
  }

  void pack_codes(int64_t row, int64_t count, int64_t first, int64_t inputs) {
    if (is_awq()) {
      for (int64_t k = 0; k < inputs; ++k) {
        uint32_t* words = &result_.qweight[static_cast<size_t>(((first + k) * out_ + row) / 8)];
        for (int64_t i = 0; i < count; ++i) words[i / 8] |= code(i, k) << kAwqShift[i % 8];
      }
      return;
    }
    const int64_t per_word = 32 / format_.bits;
    for (int64_t k = 0; k < inputs; ++k) {
      uint32_t* words = &result_.qweight[static_cast<size_t>((first + k) / per_word * out_ + row)];
      const auto shift = static_cast<int>((first + k) % per_word) * format_.bits;
      for (int64_t i = 0; i < count; ++i) words[i] |= code(i, k) << shift;
    }
  }

  const unsigned char* rows_;
  DType dtype_;
  int64_t out_;
  int64_t in_;
  StoredQuantization format_;
  int64_t group_size_;
  int most_;
  QuantizedMatrix result_;
  std::vector<uint8_t> codes_;  // [kBlockRows][group_size]
  std::vector<float> values_;   // [group_size]
};

}  // namespace

QuantizedMatrix quantize_matrix(const void* rows, DType dtype, int64_t out_features,
                                int64_t in_features, const StoredQuantization& format) {
  return Quantizer(rows, dtype, out_features, in_features, format).run();
}

}  // namespace qvl
