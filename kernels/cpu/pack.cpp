// Weights into panels [ceil(N / 32)][K][32] and rows back out of them.

#include "kernels/cpu/convert.h"

namespace qvl::kernels {
namespace {

// Full panels of 2- or 4-byte numbers that keep their format: a plain transposition.
template <class T>
void transpose_panel(T* panel /* [K][32] */, const T* rows /* [32, K] */, int64_t in_features) {
  for (int64_t k = 0; k < in_features; ++k) {
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      panel[k * kPanelWidth + lane] = rows[lane * in_features + k];
    }
  }
}

}  // namespace

void pack_weight(void* panels, Format format, int64_t in_features, int64_t first_row,
                 int64_t num_rows, const void* rows, Format rows_format) {
  for (int64_t i = 0; i < num_rows;) {
    const int64_t row = first_row + i;
    const int64_t lane = row % kPanelWidth;
    const int64_t panel = row / kPanelWidth * in_features * kPanelWidth;
    if (format == rows_format && lane == 0 && num_rows - i >= kPanelWidth) {
      if (format == Format::kF32) {
        transpose_panel(static_cast<uint32_t*>(panels) + panel,
                        static_cast<const uint32_t*>(rows) + i * in_features, in_features);
      } else {
        transpose_panel(static_cast<uint16_t*>(panels) + panel,
                        static_cast<const uint16_t*>(rows) + i * in_features, in_features);
      }
      i += kPanelWidth;
      continue;
    }
    for (int64_t k = 0; k < in_features; ++k) {
      const int64_t from = i * in_features + k;
      const int64_t to = panel + k * kPanelWidth + lane;
      if (format != rows_format) {
        store(panels, format, to, load(rows, rows_format, from));
      } else if (format == Format::kF32) {
        static_cast<uint32_t*>(panels)[to] = static_cast<const uint32_t*>(rows)[from];
      } else {
        static_cast<uint16_t*>(panels)[to] = static_cast<const uint16_t*>(rows)[from];
      }
    }
    ++i;
  }
}

void unpack_weight_row(float* out, const void* panels, Format format, int64_t in_features,
                       int64_t row) {
  const int64_t base = row / kPanelWidth * in_features * kPanelWidth + row % kPanelWidth;
  for (int64_t k = 0; k < in_features; ++k) out[k] = load(panels, format, base + k * kPanelWidth);
}

}  // namespace qvl::kernels
