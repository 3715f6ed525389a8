// Time of the exact image preprocessing on one core: resize and patch extraction, for sizes that
// smart_resize gives. Prints the best of several runs.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>

#include "io/image.h"

namespace {

double best_ms(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  constexpr int kMinRuns = 5;
  constexpr std::chrono::milliseconds kMinTime(500);
  double best = 1e30;
  const Clock::time_point start = Clock::now();
  for (int run = 0; run < kMinRuns || Clock::now() - start < kMinTime; ++run) {
    const Clock::time_point before = Clock::now();
    body();
    const std::chrono::duration<double, std::milli> time = Clock::now() - before;
    best = std::min(best, time.count());
  }
  return best;
}

qvl::RgbImage noise(int width, int height) {
  qvl::RgbImage image{width, height, {}};
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  uint32_t state = 1;
  for (uint8_t& value : image.pixels) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(state >> 24);
  }
  return image;
}

struct Case {
  int width, height, new_width, new_height;
};

}  // namespace

int main() {
  constexpr std::array<double, 3> kMean = {0.48145466, 0.4578275, 0.40821073};
  constexpr std::array<double, 3> kStd = {0.26862954, 0.26130258, 0.27577711};
  const qvl::PixelTable table = qvl::PixelTable::make(kMean, kStd);
  constexpr Case kCases[] = {
      {640, 480, 644, 476},    {1024, 768, 1036, 756},   {2048, 1365, 2044, 1372},
      {4000, 3000, 1148, 868}, {4000, 3000, 4004, 2996}, {320, 240, 644, 476},
  };
  std::printf("%-12s %-12s %10s %10s %12s\n", "from", "to", "resize ms", "patches ms",
              "MP/s (out)");
  for (const Case& c : kCases) {
    const qvl::RgbImage image = noise(c.width, c.height);
    qvl::RgbImage resized;
    const double resize_ms =
        best_ms([&] { resized = qvl::resize_bicubic(image, c.new_width, c.new_height); });
    qvl::VisionItem item;
    item.frames = {std::make_shared<const qvl::RgbImage>(std::move(resized))};
    std::vector<float> rows(static_cast<size_t>(item.num_patches()) * qvl::kPatchValues);
    const double patches_ms =
        best_ms([&] { qvl::extract_patches(item, table, 0, item.num_patches(), rows.data()); });
    char from[32], to[32];
    std::snprintf(from, sizeof from, "%dx%d", c.width, c.height);
    std::snprintf(to, sizeof to, "%dx%d", c.new_width, c.new_height);
    std::printf("%-12s %-12s %10.2f %10.2f %12.1f\n", from, to, resize_ms, patches_ms,
                1e-3 * c.new_width * c.new_height / resize_ms);
  }
}
