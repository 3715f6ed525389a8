// Pillow's separable resample with the bicubic filter. Everything that rounds is done in the
// reference's order: weights in double, then 22-bit fixed point; sums in int32; an 8-bit image
// between the horizontal and the vertical pass. A pass whose size does not change is skipped.
//
// The passes are interleaved: rows go through the horizontal pass when the vertical one first needs
// them, into a ring of just as many rows as one output row takes in.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "common/error.h"
#include "io/image.h"
#include "io/image_size.h"

namespace qvl {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // a weight below 2 times 255 must fit int32
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

// An output row far wider than the source is high would need this many bytes of ring for no picture
// that the model accepts.
constexpr size_t kMaxRingBytes = size_t{256} << 20;

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

uint8_t clip8(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

/// For every output position: the input positions [first, first + count) and their weights.
struct Taps {
  int stride = 0;                // weights per output position
  std::vector<int> first;        // [out]
  std::vector<int> count;        // [out]
  std::vector<int32_t> weights;  // [out, stride], zero behind count

  const int32_t* weights_of(int position) const {
    return &weights[static_cast<size_t>(position) * static_cast<size_t>(stride)];
  }
};

int32_t to_fixed(double weight) {
  const double scaled = weight * (1 << kPrecisionBits);
  return static_cast<int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

Taps make_taps(int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);  // shrinking widens the filter
  const double support = 2.0 * filter_scale;
  const double inverse = 1.0 / filter_scale;

  Taps taps;
  taps.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<size_t>(out));
  taps.count.resize(static_cast<size_t>(out));
  taps.weights.resize(static_cast<size_t>(out) * static_cast<size_t>(taps.stride));
  std::vector<double> exact(static_cast<size_t>(taps.stride));
  for (int position = 0; position < out; ++position) {
    const double center = (position + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), in);
    const auto count = static_cast<size_t>(end - first);
    double sum = 0.0;
    for (size_t i = 0; i < count; ++i) {
      exact[i] = bicubic((static_cast<double>(i) + first - center + 0.5) * inverse);
      sum += exact[i];
    }
    int32_t* weights =
        &taps.weights[static_cast<size_t>(position) * static_cast<size_t>(taps.stride)];
    for (size_t i = 0; i < count; ++i)
      weights[i] = to_fixed(sum != 0.0 ? exact[i] / sum : exact[i]);
    taps.first[static_cast<size_t>(position)] = first;
    taps.count[static_cast<size_t>(position)] = end - first;
  }
  return taps;
}

/// One row: in [in_width, 3] -> out [out_width, 3].
void resize_row(const uint8_t* in, const Taps& taps, uint8_t* out) {
  const size_t width = taps.first.size();
  for (size_t x = 0; x < width; ++x, out += 3) {
    const int32_t* weights = taps.weights_of(static_cast<int>(x));
    const uint8_t* p = in + static_cast<size_t>(taps.first[x]) * 3;
    const int count = taps.count[x];
    int32_t r = kHalf;
    int32_t g = kHalf;
    int32_t b = kHalf;
    for (int i = 0; i < count; ++i, p += 3) {
      r += p[0] * weights[i];
      g += p[1] * weights[i];
      b += p[2] * weights[i];
    }
    out[0] = clip8(r);
    out[1] = clip8(g);
    out[2] = clip8(b);
  }
}

/// out[i] = sum over k of weights[k] * rows[k][i], i < size. Blocks keep the sums in the
/// first-level cache, and the inner loops are plain enough for the compiler to vectorise.
void blend_rows(const std::vector<const uint8_t*>& rows, const int32_t* weights, size_t size,
                uint8_t* out) {
  constexpr size_t kBlock = 1024;
  std::array<int32_t, kBlock> sums;
  for (size_t start = 0; start < size; start += kBlock) {
    const size_t count = std::min(kBlock, size - start);
    sums.fill(kHalf);
    for (size_t k = 0; k < rows.size(); ++k) {
      const uint8_t* row = rows[k] + start;
      const int32_t weight = weights[k];
      for (size_t i = 0; i < count; ++i) sums[i] += weight * row[i];
    }
    for (size_t i = 0; i < count; ++i) out[start + i] = clip8(sums[i]);
  }
}

/// Rows of the source after the horizontal pass, made once each in increasing order and kept as
/// long as the vertical pass can ask for them.
class RowWindow {
 public:
  RowWindow(const RgbImage& image, int width, int max_rows)
      : image_(image), row_bytes_(static_cast<size_t>(width) * 3), resized_(width != image.width) {
    if (!resized_) return;  // rows of the source serve as they are
    rows_ = static_cast<size_t>(std::min(max_rows, image.height));
    if (rows_ > kMaxRingBytes / row_bytes_) {
      throw Error("ERR_IMAGE_TOO_LARGE",
                  "resizing " + size_text(image.width, image.height) + " pixels to a width of " +
                      std::to_string(width) +
                      " needs too much memory; choose a size closer to the picture's shape",
                  {{"width", int64_t{image.width}}, {"height", int64_t{image.height}}});
    }
    taps_ = make_taps(image.width, width);
    ring_.resize(rows_ * row_bytes_);
  }

  /// Row y, [width, 3]. Rows asked for are at most max_rows behind the last one asked for.
  const uint8_t* row(int y) {
    const size_t source_bytes = static_cast<size_t>(image_.width) * 3;
    if (!resized_) return &image_.pixels[static_cast<size_t>(y) * source_bytes];
    for (next_ = std::max(next_, skip_to_); next_ <= y; ++next_) {
      resize_row(&image_.pixels[static_cast<size_t>(next_) * source_bytes], taps_, slot(next_));
    }
    return slot(y);
  }

  /// Rows before y will not be asked for.
  void skip_to(int y) { skip_to_ = y; }

 private:
  uint8_t* slot(int y) { return &ring_[static_cast<size_t>(y) % rows_ * row_bytes_]; }

  const RgbImage& image_;
  size_t row_bytes_;
  bool resized_;
  size_t rows_ = 0;
  Taps taps_;
  std::vector<uint8_t> ring_;  // [rows_, width, 3], row y in slot y mod rows_
  int next_ = 0;               // first row that is not made yet
  int skip_to_ = 0;
};

/// The horizontal pass, then the vertical one.
RgbImage resize_passes(const RgbImage& image, int width, int height) {
  const size_t row_bytes = static_cast<size_t>(width) * 3;
  RgbImage result{width, height, std::vector<uint8_t>(row_bytes * static_cast<size_t>(height))};
  uint8_t* out = result.pixels.data();
  if (height == image.height) {
    RowWindow window(image, width, 1);
    for (int y = 0; y < height; ++y, out += row_bytes) std::memcpy(out, window.row(y), row_bytes);
    return result;
  }

  const Taps taps = make_taps(image.height, height);
  RowWindow window(image, width, taps.stride);
  std::vector<const uint8_t*> rows;
  for (int y = 0; y < height; ++y, out += row_bytes) {
    const int first = taps.first[static_cast<size_t>(y)];
    const int count = taps.count[static_cast<size_t>(y)];
    window.skip_to(first);
    rows.clear();
    for (int k = 0; k < count; ++k) rows.push_back(window.row(first + k));
    blend_rows(rows, taps.weights_of(y), row_bytes, out);
  }
  return result;
}

}  // namespace

RgbImage resize_bicubic(const RgbImage& image, int width, int height) {
  check_image_size(image.width, image.height, "an image");
  check_image_size(width, height, "a target size");
  check_pixel_bytes(image.pixels.size(), image.width, image.height, 3);
  if (width == image.width && height == image.height) return image;
  const bool vertical_first =
      image.height > int64_t{image.width} * 100 && height < image.height && width != image.width;
  if (!vertical_first) return resize_passes(image, width, height);
  return resize_passes(resize_passes(image, image.width, height), width, height);
}

}  // namespace qvl
