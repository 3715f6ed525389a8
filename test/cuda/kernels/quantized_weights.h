#pragma once

// Random quantised matrices for tests of the kernels that read them: as a file would have them, as
// numbers, and in the device's layout.

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/quantized_layout.h"
#include "kernels/cpu/convert.h"
#include "kernels/gpu.h"

namespace qvl::test {

/// A matrix in the memory of the host.
struct HostQuantizedWeights {
  explicit HostQuantizedWeights(const cuda::QuantizedMatrixSpec& spec) : layout(spec) {
    codes.resize(static_cast<size_t>(layout.code_bytes()));
    scales.resize(static_cast<size_t>(layout.scale_bytes() / 2));
    zeros.resize(static_cast<size_t>(layout.zero_bytes()));
    values.resize(static_cast<size_t>(spec.out_features * spec.in_features));
  }
  HostQuantizedWeights(const cuda::QuantizedMatrixSpec& spec, uint32_t seed)
      : HostQuantizedWeights(spec) {
    std::mt19937 random(seed);
    const uint32_t num_codes = spec.bits == 4 ? 16 : 256;
    const int64_t group_size = spec.group_size == 0 ? spec.in_features : spec.group_size;
    const auto rows = static_cast<size_t>(spec.out_features);
    for (int64_t begin = 0, group = 0; begin < spec.in_features; begin += group_size, ++group) {
      const int64_t size = std::min(group_size, spec.in_features - begin);
      std::vector<uint8_t> group_codes(static_cast<size_t>(size) * rows), group_zeros(rows);
      std::vector<uint16_t> group_scales(rows);
      for (size_t n = 0; n < rows; ++n) {
        const auto scale = static_cast<float>(1 + random() % 1000) / 64.f;
        group_scales[n] = kernels::f32_to_f16(scale / static_cast<float>(num_codes));
        group_zeros[n] =
            static_cast<uint8_t>(spec.has_zeros ? random() % num_codes : num_codes / 2);
        for (size_t k = 0; k < static_cast<size_t>(size); ++k) {
          const auto code = static_cast<uint8_t>(random() % num_codes);
          group_codes[k * rows + n] = code;
          values[n * static_cast<size_t>(spec.in_features) + static_cast<size_t>(begin) + k] =
              static_cast<float>(code - group_zeros[n]) * kernels::f16_to_f32(group_scales[n]);
        }
      }
      layout.write_group(arrays(), group, 0, spec.out_features, group_codes.data(),
                         group_scales.data(), group_zeros.data());
    }
  }
  cuda::QuantizedArrays arrays() { return {codes.data(), scales.data(), zeros.data()}; }

  cuda::QuantizedMatrixLayout layout;
  std::vector<unsigned char> codes;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;
  std::vector<float> values;  // [out_features, in_features]
};

/// The same in the device's memory.
class QuantizedWeights {
 public:
  QuantizedWeights(Gpu& gpu, const cuda::QuantizedMatrixSpec& spec, uint32_t seed)
      : QuantizedWeights(gpu, HostQuantizedWeights(spec, seed)) {}
  QuantizedWeights(Gpu& gpu, HostQuantizedWeights host)
      : layout_(host.layout),
        codes_(gpu.upload(host.codes)),
        scales_(gpu.upload(host.scales)),
        zeros_(gpu.upload(host.zeros)),
        values_(std::move(host.values)) {}

  const cuda::QuantizedMatrixLayout& layout() const { return layout_; }
  QuantizedMatrix matrix() const {
    return layout_.matrix({codes_.get(), scales_.get(), zeros_.get()});
  }
  float value(int64_t n, int64_t k) const {
    return values_[static_cast<size_t>(n * layout_.spec().in_features + k)];
  }
  /// "gemv_int4_residual_g128" for ("gemv", "residual").
  std::string kernel(const std::string& family, const std::string& variant = "") const {
    return family + "_int" + std::to_string(layout_.spec().bits) +
           (variant.empty() ? "" : "_" + variant) + "_g" + std::to_string(layout_.group());
  }

 private:
  cuda::QuantizedMatrixLayout layout_;
  DeviceArray<unsigned char> codes_;
  DeviceArray<uint16_t> scales_;
  DeviceArray<uint8_t> zeros_;
  std::vector<float> values_;
};

}  // namespace qvl::test
