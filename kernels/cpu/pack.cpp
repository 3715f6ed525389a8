// Weights into panels [ceil(N / 32)][K][32] and rows back out of them.

#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/transpose.h"

namespace qvl::kernels {
namespace {

// k of a panel that are converted at once: 32 rows of them stay in the first-level cache.
constexpr int64_t kConvertedK = 64;

// panel [count][32] of k [first, first + count) of 32 rows that have the panel's format.
template <class T>
void transpose_rows(T* panel, const void* const* rows, int64_t first, int64_t count) {
  constexpr int kSide = kSquareSide<T>;
  int64_t k = 0;
  for (; k + kSide <= count; k += kSide) {
    for (int lane = 0; lane < kPanelWidth; lane += kSide) {
      transpose_square(panel + k * kPanelWidth + lane, int64_t{kPanelWidth}, rows + lane,
                       first + k);
    }
  }
  for (; k < count; ++k) {
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const auto* row = static_cast<const char*>(rows[lane]);
      std::memcpy(panel + k * kPanelWidth + lane,
                  row + (first + k) * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  }
}

void transpose_rows(void* panel, Format format, const void* const* rows, int64_t first,
                    int64_t count) {
  if (format == Format::kF32) {
    transpose_rows(static_cast<uint32_t*>(panel), rows, first, count);
  } else {
    transpose_rows(static_cast<uint16_t*>(panel), rows, first, count);
  }
}

// to [count] = numbers [first, first + count) of a row, which need not be aligned; at most
// kConvertedK where the formats differ.
void convert_row(void* to, Format to_format, const void* row, Format row_format, int64_t first,
                 int64_t count) {
  const auto size = static_cast<int64_t>(format_size(row_format));
  const char* from = static_cast<const char*>(row) + first * size;
  if (to_format == row_format) {
    std::memcpy(to, from, static_cast<size_t>(count * size));
    return;
  }
  alignas(float) char aligned[kConvertedK * sizeof(float)];
  std::memcpy(aligned, from, static_cast<size_t>(count * size));
  for (int64_t i = 0; i < count; ++i) store(to, to_format, i, load(aligned, row_format, i));
}

}  // namespace

void pack_panel(void* panel, Format format, const void* const* rows, Format rows_format,
                int64_t first_k, int64_t count) {
  bool is_full = true;
  for (int lane = 0; lane < kPanelWidth; ++lane) is_full = is_full && rows[lane] != nullptr;
  if (is_full && format == rows_format) {
    return transpose_rows(panel, format, rows, first_k, count);
  }
  alignas(16) char converted[kPanelWidth][kConvertedK * sizeof(float)];
  const void* converted_rows[kPanelWidth];
  for (int lane = 0; lane < kPanelWidth; ++lane) {
    if (rows[lane] == nullptr) std::memset(converted[lane], 0, sizeof(converted[lane]));
    converted_rows[lane] = converted[lane];
  }
  const int64_t step_bytes = static_cast<int64_t>(format_size(format)) * kPanelWidth;
  for (int64_t k = 0; k < count; k += kConvertedK) {
    const int64_t length = count - k < kConvertedK ? count - k : kConvertedK;
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      if (rows[lane] == nullptr) continue;
      convert_row(converted[lane], format, rows[lane], rows_format, first_k + k, length);
    }
    transpose_rows(static_cast<char*>(panel) + k * step_bytes, format, converted_rows, 0, length);
  }
}

void pack_weight(void* panels, Format format, int64_t in_features, int64_t first_row,
                 int64_t num_rows, const void* rows, Format rows_format) {
  const int64_t row_bytes = in_features * static_cast<int64_t>(format_size(rows_format));
  const auto element = static_cast<int64_t>(format_size(format));
  const auto row_at = [&](int64_t i) { return static_cast<const char*>(rows) + i * row_bytes; };
  for (int64_t i = 0; i < num_rows;) {
    const int64_t lane = (first_row + i) % kPanelWidth;
    const int64_t panel_index = (first_row + i) / kPanelWidth;
    char* panel = static_cast<char*>(panels) + panel_index * in_features * kPanelWidth * element;
    if (lane == 0 && num_rows - i >= kPanelWidth) {
      const void* panel_rows[kPanelWidth];
      for (int r = 0; r < kPanelWidth; ++r) panel_rows[r] = row_at(i + r);
      pack_panel(panel, format, panel_rows, rows_format, 0, in_features);
      i += kPanelWidth;
      continue;
    }
    // A row of a panel whose others are written by other calls.
    for (int64_t k = 0; k < in_features; ++k) {
      char* to = panel + (k * kPanelWidth + lane) * element;
      convert_row(to, format, row_at(i), rows_format, k, 1);
    }
    ++i;
  }
}

void widen(float* out, const void* numbers, Format format, int64_t count) {
  for (int64_t i = 0; i < count; i += kConvertedK) {
    const int64_t length = count - i < kConvertedK ? count - i : kConvertedK;
    convert_row(out + i, Format::kF32, numbers, format, i, length);
  }
}

void unpack_weight_row(float* out, const void* panels, Format format, int64_t in_features,
                       int64_t row) {
  const int64_t base = row / kPanelWidth * in_features * kPanelWidth + row % kPanelWidth;
  for (int64_t k = 0; k < in_features; ++k) out[k] = load(panels, format, base + k * kPanelWidth);
}

}  // namespace qvl::kernels
