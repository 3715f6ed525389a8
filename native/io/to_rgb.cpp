// Conversion of decoded samples to RGB, with the integer arithmetic of the reference.

#include <algorithm>
#include <cstddef>

#include "common/error.h"
#include "io/image.h"
#include "io/image_size.h"

namespace qvl {
namespace {

/// x / 255 rounded, for x in [0, 255 * 255].
int div255(int x) {
  x += 128;
  return ((x >> 8) + x) >> 8;
}

using Convert = void (*)(const uint8_t* in, uint8_t* out);

void from_grey(const uint8_t* in, uint8_t* out) { out[0] = out[1] = out[2] = in[0]; }

void from_rgb(const uint8_t* in, uint8_t* out) { std::copy_n(in, 3, out); }

void from_rgba_on_white(const uint8_t* in, uint8_t* out) {
  const int alpha = in[3];
  for (int c = 0; c < 3; ++c) {
    out[c] = static_cast<uint8_t>(div255(in[c] * alpha + 255 * (255 - alpha)));
  }
}

// No colour profile: each ink takes its share of what black leaves.
void from_cmyk(const uint8_t* in, uint8_t* out) {
  const int light = 255 - in[3];
  for (int c = 0; c < 3; ++c) out[c] = static_cast<uint8_t>(light - div255(in[c] * light));
}

template <int kChannels, Convert kConvert>
void convert_all(const uint8_t* in, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i, in += kChannels, out += 3) kConvert(in, out);
}

}  // namespace

RgbImage to_rgb(const RawPixels& pixels, AlphaRule alpha) {
  const int channels = pixels.channels;
  if (channels < 1 || channels > 4 || (pixels.cmyk && channels != 4)) {
    throw Error("ERR_INVALID_ARGUMENT",
                std::to_string(channels) + (pixels.cmyk ? " CMYK" : "") +
                    " channels; expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA, CMYK)");
  }
  check_image_size(pixels.width, pixels.height, "an image");
  check_pixel_bytes(pixels.size_bytes, pixels.width, pixels.height, channels);

  const size_t count = static_cast<size_t>(pixels.width) * static_cast<size_t>(pixels.height);
  RgbImage image{pixels.width, pixels.height, std::vector<uint8_t>(count * 3)};
  uint8_t* out = image.pixels.data();
  if (channels == 1) {
    convert_all<1, from_grey>(pixels.data, count, out);
  } else if (channels == 2) {
    convert_all<2, from_grey>(pixels.data, count, out);
  } else if (channels == 3) {
    std::copy_n(pixels.data, count * 3, out);
  } else if (pixels.cmyk) {
    convert_all<4, from_cmyk>(pixels.data, count, out);
  } else if (alpha == AlphaRule::kDrop) {
    convert_all<4, from_rgb>(pixels.data, count, out);
  } else {
    convert_all<4, from_rgba_on_white>(pixels.data, count, out);
  }
  return image;
}

}  // namespace qvl
