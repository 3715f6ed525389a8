#include <array>

#include "io/image.h"
#include "suite.h"

namespace qvl::bench {
namespace {

struct Sizes {
  int width, height, new_width, new_height;
};

RgbImage noise(int width, int height) {
  RgbImage image{width, height, {}};
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  uint32_t state = 1;
  for (uint8_t& value : image.pixels) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

void run_sizes(Suite& suite, const Sizes& sizes) {
  const RgbImage image = noise(sizes.width, sizes.height);
  const auto source_bytes = static_cast<double>(image.pixels.size());
  const double resized_bytes = 3.0 * sizes.new_width * sizes.new_height;
  RgbImage resized = resize_bicubic(image, sizes.new_width, sizes.new_height);
  const std::string to = text(sizes.new_width, "×", sizes.new_height);
  suite.run({text("resize ", sizes.width, "×", sizes.height, " to ", to, ", one thread"),
             source_bytes + resized_bytes, 0},
            [&] { resized = resize_bicubic(image, sizes.new_width, sizes.new_height); });

  constexpr std::array<double, 3> kMean = {0.48145466, 0.4578275, 0.40821073};
  constexpr std::array<double, 3> kStd = {0.26862954, 0.26130258, 0.27577711};
  const PixelTable table = PixelTable::make(kMean, kStd);
  VisionItem item;
  item.frames = {std::make_shared<const RgbImage>(std::move(resized))};
  std::vector<float> rows(static_cast<size_t>(item.num_patches()) * kPatchValues);
  suite.run({text("patches ", to, ", one thread"),
             resized_bytes + static_cast<double>(rows.size()) * sizeof(float), 0},
            [&] { extract_patches(item, table, 0, item.num_patches(), rows.data()); });
}

}  // namespace

void run_images(Suite& suite) {
  for (const Sizes& sizes : {Sizes{1024, 768, 1036, 756}, Sizes{4000, 3000, 1148, 868}}) {
    run_sizes(suite, sizes);
  }
}

}  // namespace qvl::bench
