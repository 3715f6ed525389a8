// Conversion to RGB: the reference's integer arithmetic, for every input it can get.

#include <climits>

#include "check.h"
#include "io/image.h"

namespace qvl {
namespace {

using Bytes = std::vector<uint8_t>;

RgbImage convert(const Bytes& data, int width, int height, int channels, bool cmyk = false,
                 AlphaRule alpha = AlphaRule::kCompositeOnWhite) {
  return to_rgb({.data = data.data(),
                 .size_bytes = data.size(),
                 .width = width,
                 .height = height,
                 .channels = channels,
                 .cmyk = cmyk},
                alpha);
}

/// numerator / 255 to the nearest integer; 255 is odd, so there are no halves.
int nearest255(int numerator) { return (2 * numerator + 255) / 510; }

/// All 65,536 pairs (a, b) as 4-channel pixels (a, 0, 255, b).
Bytes all_pairs() {
  Bytes pixels;
  for (int i = 0; i < 65536; ++i) {
    for (int value : {i >> 8, 0, 255, i & 255}) pixels.push_back(static_cast<uint8_t>(value));
  }
  return pixels;
}

}  // namespace

TEST(rgb_stays_as_it_is) {
  const Bytes pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const RgbImage image = convert(pixels, 2, 2, 3);
  CHECK_EQ(image.width, 2);
  CHECK_EQ(image.height, 2);
  CHECK(image.pixels == pixels);
}

TEST(grey_is_replicated) {
  CHECK(convert({7, 250}, 1, 2, 1).pixels == (Bytes{7, 7, 7, 250, 250, 250}));
}

TEST(alpha_of_grey_is_dropped_under_both_rules) {
  const Bytes expected = {7, 7, 7, 250, 250, 250};
  CHECK(convert({7, 0, 250, 128}, 2, 1, 2).pixels == expected);
  CHECK(convert({7, 0, 250, 128}, 2, 1, 2, false, AlphaRule::kDrop).pixels == expected);
}

TEST(dropping_alpha_keeps_the_stored_colour) {
  CHECK(convert({1, 2, 3, 0, 4, 5, 6, 255}, 2, 1, 4, false, AlphaRule::kDrop).pixels ==
        (Bytes{1, 2, 3, 4, 5, 6}));
}

TEST(composites_on_white_exactly_for_all_colours_and_alphas) {
  const RgbImage image = convert(all_pairs(), 256, 256, 4);
  for (int i = 0; i < 65536; ++i) {
    const int color = i >> 8;
    const int alpha = i & 255;
    const uint8_t* rgb = &image.pixels[static_cast<size_t>(i) * 3];
    const int white = 255 * (255 - alpha);
    if (rgb[0] != nearest255(color * alpha + white)) CHECK_EQ(i, -1);
    if (rgb[1] != nearest255(white)) CHECK_EQ(i, -1);
    if (rgb[2] != 255) CHECK_EQ(i, -1);
  }
  // Opaque keeps the colour, transparent is white.
  CHECK(convert({9, 8, 7, 255, 9, 8, 7, 0}, 2, 1, 4).pixels == (Bytes{9, 8, 7, 255, 255, 255}));
}

TEST(converts_cmyk_without_a_profile) {
  CHECK(convert({10, 20, 30, 40}, 1, 1, 4, true).pixels == (Bytes{207, 198, 190}));
  const RgbImage image = convert(all_pairs(), 256, 256, 4, true);
  for (int i = 0; i < 65536; ++i) {
    const int light = 255 - (i & 255);
    const uint8_t* rgb = &image.pixels[static_cast<size_t>(i) * 3];
    if (rgb[0] != light - nearest255((i >> 8) * light)) CHECK_EQ(i, -1);
    if (rgb[1] != light) CHECK_EQ(i, -1);
    if (rgb[2] != 0) CHECK_EQ(i, -1);
  }
}

TEST(refuses_pixels_that_do_not_match_the_size) {
  const std::string message = CHECK_ERROR("ERR_IMAGE_PIXELS", convert(Bytes(11), 2, 2, 3));
  CHECK(message.find("11 bytes of pixels") != std::string::npos);
  CHECK(message.find("2x2 with 3 channels of 8 bits has 12") != std::string::npos);
  CHECK_ERROR("ERR_IMAGE_PIXELS", convert(Bytes(13), 2, 2, 3));
  CHECK_ERROR("ERR_IMAGE_PIXELS", convert({}, 1, 1, 1));
}

TEST(refuses_sizes_and_channels_that_no_image_has) {
  CHECK_ERROR("ERR_INVALID_ARGUMENT", convert({}, 0, 1, 3));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", convert({}, 1, -1, 3));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", convert({}, 1, 1, 0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", convert({}, 1, 1, 5));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", convert(Bytes(3), 1, 1, 3, true));
}

TEST(refuses_decompression_bombs_before_it_allocates) {
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", convert({}, INT_MAX, INT_MAX, 4));
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", convert({}, 32'769, 32'768, 3));
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", convert({}, kMaxImageSide + 1, 1, 3));
  // Within the limit the missing bytes are what is wrong.
  CHECK_ERROR("ERR_IMAGE_PIXELS", convert({}, 32'768, 32'768, 3));
}

}  // namespace qvl
