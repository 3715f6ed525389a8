// out = residual + activation(x * weight^T + bias), scalar. See LinearArgs for the order of sums.

#include "kernels/cpu/linear.h"

#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/math.h"

namespace qvl::kernels {

void gelu_in_place(float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = gelu(x[i]);
}

namespace scalar {
namespace {

// sums [32] = the products of one row of x with one panel, in the order of LinearArgs.
void panel_sums(const LinearArgs& args, int64_t row, int64_t panel, float* sums) {
  const float* x = args.x + row * args.x_stride;
  const int64_t length = args.in_features / args.segments;
  const int64_t base = panel * args.in_features * kPanelWidth;
  float stack[kMaxSegments][kPanelWidth];  // sums of finished subtrees
  int depth = 0;
  for (int segment = 0; segment < args.segments; ++segment) {
    float* chain = stack[depth++];
    for (int lane = 0; lane < kPanelWidth; ++lane) chain[lane] = 0.0f;
    for (int64_t k = segment * length; k < (segment + 1) * length; ++k) {
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const float w = load(args.weight, args.format, base + k * kPanelWidth + lane);
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

void linear(const LinearArgs& args, int64_t first_panel, int64_t last_panel) {
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    const int64_t first = panel * kPanelWidth;
    const int64_t left = args.out_features - first;
    const int64_t count = left < kPanelWidth ? left : kPanelWidth;
    for (int64_t row = 0; row < args.rows; ++row) {
      float sums[kPanelWidth];
      panel_sums(args, row, panel, sums);
      if (args.activation == Activation::kSwiGlu) {
        float up[kPanelWidth];
        panel_sums(args, row, up_panel(args, panel), up);
        for (int64_t i = 0; i < count; ++i) {
          args.out[row * args.out_stride + first + i] = silu(sums[i]) * up[i];
        }
        continue;
      }
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
  }
}

}  // namespace scalar
}  // namespace qvl::kernels
