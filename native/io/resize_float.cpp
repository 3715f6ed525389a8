// The separable antialiased bicubic of torch.nn.functional.interpolate on float32 samples, as
// torchvision's functional resize() applies it to frames of 8-bit video: the horizontal pass first,
// no rounding between the passes, then clamp and round to 8 bits. Everything that rounds is done in
// the order of torch's CPU kernel as built for processors with AVX2.
//
// As in resize.cpp, rows go through the horizontal pass when the vertical one first needs them.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/error.h"
#include "io/image.h"
#include "io/image_size.h"

// The fused multiply-add is an instruction where the processor has it and a library call elsewhere;
// both give the same bits.
#if defined(__x86_64__) && defined(__GNUC__)
#define QVL_FMA_TARGET __attribute__((target("avx2,fma")))
#define QVL_INLINE inline __attribute__((always_inline))
#define QVL_FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define QVL_INLINE inline
#define QVL_FMA(a, b, c) std::fma(a, b, c)
#endif

namespace qvl {
namespace {

constexpr size_t kMaxRingBytes = size_t{256} << 20;

/// For every output position: the input positions [first, first + count) and their weights.
struct FloatTaps {
  int stride = 0;              // weights per output position
  std::vector<int> first;      // [out]
  std::vector<int> count;      // [out]
  std::vector<float> weights;  // [out, stride], zero behind count

  const float* weights_of(int position) const {
    return &weights[static_cast<size_t>(position) * static_cast<size_t>(stride)];
  }
};

float bicubic(float x) {
  constexpr float a = -0.5F;
  x = std::fabs(x);
  if (x < 1.0F) {
    const float inner = std::fma(a + 2.0F, x, -(a + 3.0F));
    return std::fma(inner * x, x, 1.0F);
  }
  if (x < 2.0F) {
    float sum = std::fma(a, x, -5.0F * a);
    sum = std::fma(sum, x, 8.0F * a);
    return std::fma(sum, x, -4.0F * a);
  }
  return 0.0F;
}

FloatTaps make_taps(int in, int out) {
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  const float support = scale >= 1.0F ? 2.0F * scale : 2.0F;  // shrinking widens the filter
  const float inverse = scale >= 1.0F ? static_cast<float>(1.0 / scale) : 1.0F;
  FloatTaps taps;
  taps.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<size_t>(out));
  taps.count.resize(static_cast<size_t>(out));
  taps.weights.resize(static_cast<size_t>(out) * static_cast<size_t>(taps.stride));
  for (int position = 0; position < out; ++position) {
    const auto center = static_cast<float>(scale * (position + 0.5));
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), in);
    const int count = std::clamp(end - first, 0, taps.stride);
    float* weights =
        &taps.weights[static_cast<size_t>(position) * static_cast<size_t>(taps.stride)];
    float sum = 0.0F;
    for (int i = 0; i < count; ++i) {
      const float distance = static_cast<float>(i + first) - center;
      weights[i] = bicubic(static_cast<float>((distance + 0.5) * inverse));
      sum += weights[i];
    }
    if (sum != 0.0F) {
      for (int i = 0; i < count; ++i) weights[i] /= sum;
    }
    taps.first[static_cast<size_t>(position)] = first;
    taps.count[static_cast<size_t>(position)] = count;
  }
  return taps;
}

// A sum over taps begins with the product of the first. Those of the others are rounded and then
// added in groups of 4, which is what the compiler of torch made of its loop; up to 3 that remain
// are fused multiply-adds.
constexpr int kGroup = 4;

/// One row: in [in_width, 3] -> out [out_width, 3].
QVL_INLINE void resize_row_body(const uint8_t* in, const FloatTaps& taps, float* out) {
  const size_t width = taps.first.size();
  for (size_t x = 0; x < width; ++x, out += 3) {
    const float* weights = taps.weights_of(static_cast<int>(x));
    const uint8_t* p = in + static_cast<size_t>(taps.first[x]) * 3;
    const int count = taps.count[x];
    const int grouped = (count - 1) / kGroup * kGroup;
    float r = static_cast<float>(p[0]) * weights[0];
    float g = static_cast<float>(p[1]) * weights[0];
    float b = static_cast<float>(p[2]) * weights[0];
    int i = 1;
    for (; i <= grouped; ++i) {
      p += 3;
      r += static_cast<float>(p[0]) * weights[i];
      g += static_cast<float>(p[1]) * weights[i];
      b += static_cast<float>(p[2]) * weights[i];
    }
    for (; i < count; ++i) {
      p += 3;
      r = QVL_FMA(static_cast<float>(p[0]), weights[i], r);
      g = QVL_FMA(static_cast<float>(p[1]), weights[i], g);
      b = QVL_FMA(static_cast<float>(p[2]), weights[i], b);
    }
    out[0] = r;
    out[1] = g;
    out[2] = b;
  }
}

/// sums[i] = sum over k of weights[k] * rows[k][i], i < size.
QVL_INLINE void blend_rows_body(const std::vector<const float*>& rows, const float* weights,
                                size_t size, float* sums) {
  const size_t grouped = (rows.size() - 1) / kGroup * kGroup;
  const float* row = rows[0];
  for (size_t i = 0; i < size; ++i) sums[i] = row[i] * weights[0];
  for (size_t k = 1; k < rows.size(); ++k) {
    row = rows[k];
    const float weight = weights[k];
    if (k <= grouped) {
      for (size_t i = 0; i < size; ++i) sums[i] += row[i] * weight;
    } else {
      for (size_t i = 0; i < size; ++i) sums[i] = QVL_FMA(row[i], weight, sums[i]);
    }
  }
}

using ResizeRow = void (*)(const uint8_t*, const FloatTaps&, float*);
using BlendRows = void (*)(const std::vector<const float*>&, const float*, size_t, float*);

void resize_row_plain(const uint8_t* in, const FloatTaps& taps, float* out) {
  resize_row_body(in, taps, out);
}

void blend_rows_plain(const std::vector<const float*>& rows, const float* weights, size_t size,
                      float* sums) {
  blend_rows_body(rows, weights, size, sums);
}

#ifdef QVL_FMA_TARGET
QVL_FMA_TARGET void resize_row_fma(const uint8_t* in, const FloatTaps& taps, float* out) {
  resize_row_body(in, taps, out);
}

QVL_FMA_TARGET void blend_rows_fma(const std::vector<const float*>& rows, const float* weights,
                                   size_t size, float* sums) {
  blend_rows_body(rows, weights, size, sums);
}
#endif

struct Loops {
  ResizeRow resize_row = resize_row_plain;
  BlendRows blend_rows = blend_rows_plain;
};

Loops best_loops() {
#ifdef QVL_FMA_TARGET
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {resize_row_fma, blend_rows_fma};
  }
#endif
  return {};
}

/// Rows of the source after the horizontal pass, made once each in increasing order and kept as
/// long as the vertical pass can ask for them.
class FloatRows {
 public:
  FloatRows(const RgbImage& image, int width, int max_rows, const Loops& loops)
      : image_(image),
        row_size_(static_cast<size_t>(width) * 3),
        rows_(static_cast<size_t>(std::min(max_rows, image.height))),
        loops_(loops) {
    if (rows_ > kMaxRingBytes / sizeof(float) / row_size_) {
      throw Error("ERR_IMAGE_TOO_LARGE",
                  "resizing " + size_text(image.width, image.height) + " pixels to a width of " +
                      std::to_string(width) +
                      " needs too much memory; choose a size closer to the picture's shape",
                  {{"width", int64_t{image.width}}, {"height", int64_t{image.height}}});
    }
    if (width != image.width) taps_ = make_taps(image.width, width);
    ring_.resize(rows_ * row_size_);
  }

  /// Row y, [width, 3]. Rows asked for are at most max_rows behind the last one asked for.
  const float* row(int y) {
    for (next_ = std::max(next_, skip_to_); next_ <= y; ++next_) make(next_);
    return slot(y);
  }

  /// Rows before y will not be asked for.
  void skip_to(int y) { skip_to_ = y; }

 private:
  void make(int y) {
    const uint8_t* in =
        &image_.pixels[static_cast<size_t>(y) * static_cast<size_t>(image_.width) * 3];
    if (taps_.first.empty()) {
      std::copy(in, in + row_size_, slot(y));
    } else {
      loops_.resize_row(in, taps_, slot(y));
    }
  }

  float* slot(int y) { return &ring_[static_cast<size_t>(y) % rows_ * row_size_]; }

  const RgbImage& image_;
  size_t row_size_;
  size_t rows_;
  Loops loops_;
  FloatTaps taps_;
  std::vector<float> ring_;  // [rows_, width, 3], row y in slot y mod rows_
  int next_ = 0;             // first row that is not made yet
  int skip_to_ = 0;
};

/// Halves go to the even neighbour, as the default rounding mode has it.
void round_row(const float* sums, size_t size, uint8_t* out) {
  for (size_t i = 0; i < size; ++i) {
    out[i] = static_cast<uint8_t>(std::nearbyint(std::clamp(sums[i], 0.0F, 255.0F)));
  }
}

}  // namespace

RgbImage resize_bicubic_float(const RgbImage& image, int width, int height) {
  check_image_size(image.width, image.height, "an image");
  check_image_size(width, height, "a target size");
  check_pixel_bytes(image.pixels.size(), image.width, image.height, 3);
  if (width == image.width && height == image.height) return image;

  const size_t row_size = static_cast<size_t>(width) * 3;
  RgbImage result{width, height, std::vector<uint8_t>(row_size * static_cast<size_t>(height))};
  uint8_t* out = result.pixels.data();
  const Loops loops = best_loops();
  if (height == image.height) {
    FloatRows source(image, width, 1, loops);
    for (int y = 0; y < height; ++y, out += row_size) round_row(source.row(y), row_size, out);
    return result;
  }

  const FloatTaps taps = make_taps(image.height, height);
  FloatRows source(image, width, taps.stride, loops);
  std::vector<const float*> rows;
  std::vector<float> sums(row_size);
  for (int y = 0; y < height; ++y, out += row_size) {
    const int first = taps.first[static_cast<size_t>(y)];
    source.skip_to(first);
    rows.clear();
    for (int k = 0; k < taps.count[static_cast<size_t>(y)]; ++k)
      rows.push_back(source.row(first + k));
    loops.blend_rows(rows, taps.weights_of(y), row_size, sums.data());
    round_row(sums.data(), row_size, out);
  }
  return result;
}

}  // namespace qvl
