#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "io/image.h"

namespace qvl {

inline std::string size_text(int64_t width, int64_t height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

/// Throws unless both sides are positive and within the limits of image.h.
inline void check_image_size(int width, int height, const char* what) {
  std::vector<Error::Detail> details = {{"width", int64_t{width}}, {"height", int64_t{height}}};
  const std::string found = std::string(what) + " of " + size_text(width, height) + " pixels";
  if (width < 1 || height < 1) {
    throw Error("ERR_INVALID_ARGUMENT", found + "; both sides must be at least 1",
                std::move(details));
  }
  if (int64_t{width} * height > kMaxImagePixels || std::max(width, height) > kMaxImageSide) {
    throw Error("ERR_IMAGE_TOO_LARGE",
                found + "; at most " + std::to_string(kMaxImagePixels) + " in all and " +
                    std::to_string(kMaxImageSide) +
                    " a side are accepted. Shrink the picture first",
                std::move(details));
  }
}

/// Throws ERR_IMAGE_PIXELS unless `size_bytes` is what the sizes ask for.
inline void check_pixel_bytes(size_t size_bytes, int width, int height, int channels) {
  const size_t expected =
      static_cast<size_t>(width) * static_cast<size_t>(height) * static_cast<size_t>(channels);
  if (size_bytes == expected) return;
  throw Error("ERR_IMAGE_PIXELS",
              std::to_string(size_bytes) + " bytes of pixels; an image of " +
                  size_text(width, height) + " with " + std::to_string(channels) +
                  " channels of 8 bits has " + std::to_string(expected),
              {{"width", int64_t{width}}, {"height", int64_t{height}}});
}

}  // namespace qvl
