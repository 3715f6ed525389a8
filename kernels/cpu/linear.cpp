// out = residual + activation(x * weight^T + bias), scalar. See LinearArgs for the order of sums.

#include "kernels/cpu/linear.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/math.h"

namespace qvl::kernels {

void gelu_in_place(float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = gelu(x[i]);
}

namespace scalar {
namespace {

// A panel [K][32] as the products need it.
struct Panel {
  const void* data;
  Format format;
};

// In place, or made in `packed`.
Panel panel_of(const LinearArgs& args, int64_t panel, std::vector<char>& packed) {
  if (args.quantized != nullptr) {
    packed.resize(static_cast<size_t>(args.in_features * kPanelWidth) * sizeof(float));
    dequantize_panel(reinterpret_cast<float*>(packed.data()), args.weight, *args.quantized, panel);
    return {packed.data(), Format::kF32};
  }
  const int64_t panel_bytes =
      args.in_features * kPanelWidth * static_cast<int64_t>(format_size(args.format));
  if (args.weight_rows == nullptr) {
    return {static_cast<const char*>(args.weight) + panel * panel_bytes, args.format};
  }
  packed.resize(static_cast<size_t>(panel_bytes));
  pack_panel(packed.data(), args.format, args.weight_rows + panel * kPanelWidth, args.format, 0,
             args.in_features);
  return {packed.data(), args.format};
}

// sums [32] = the products of one row of x with a panel [K][32], in the order of LinearArgs.
void panel_sums(const LinearArgs& args, int64_t row, const Panel& panel, float* sums) {
  const float* x = args.x + row * args.x_stride;
  const int64_t length = args.in_features / args.segments;
  float stack[kMaxSegments][kPanelWidth];  // sums of finished subtrees
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* chain = stack[depth++];
    for (int lane = 0; lane < kPanelWidth; ++lane) chain[lane] = 0.0f;
    for (int64_t k = segment * length; k < (segment + 1) * length; ++k) {
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const float w = load(panel.data, panel.format, k * kPanelWidth + lane);
        chain[lane] = std::fma(x[k], w, chain[lane]);
      }
    }
    for (int merged = segment + 1; merged % 2 == 0; merged /= 2) {
      --depth;
      for (int lane = 0; lane < kPanelWidth; ++lane) stack[depth - 1][lane] += stack[depth][lane];
    }
  }
  for (int lane = 0; lane < kPanelWidth; ++lane) sums[lane] = stack[0][lane];
}

float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu:
      return quick_gelu(x);
    case Activation::kGelu:
      return gelu(x);
    case Activation::kSwiGlu:
    case Activation::kNone:
      break;
  }
  return x;
}

}  // namespace

void finish_row(const LinearArgs& args, int64_t row, int64_t panel, const float* sums) {
  const int64_t first = panel * kPanelWidth;
  const int64_t left = args.out_features - first;
  const int64_t count = left < kPanelWidth ? left : kPanelWidth;
  for (int64_t i = 0; i < count; ++i) {
    float value = sums[i];
    if (args.bias != nullptr) value += args.bias[first + i];
    value = activate(value, args.activation);
    if (args.residual != nullptr) {
      value = args.residual[row * args.residual_stride + first + i] + value;
    }
    args.out[row * args.out_stride + first + i] = value;
  }
}

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  std::vector<char> packed;
  std::vector<char> packed_up;
  const bool is_swiglu = args.activation == Activation::kSwiGlu;
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    const Panel weights = panel_of(args, panel, packed);
    const Panel up_weights = is_swiglu ? panel_of(args, up_panel(args, panel), packed_up) : Panel{};
    for (int64_t row = 0; row < args.rows; ++row) {
      float sums[kPanelWidth];
      panel_sums(args, row, weights, sums);
      if (is_swiglu) {
        float up[kPanelWidth];
        panel_sums(args, row, up_weights, up);
        const int64_t first = panel * kPanelWidth;
        for (int64_t i = 0; i < kPanelWidth; ++i) {
          args.out[row * args.out_stride + first + i] = silu(sums[i]) * up[i];
        }
        continue;
      }
      finish_row(args, row, panel, sums);
    }
  }
}

}  // namespace scalar
}  // namespace qvl::kernels
