// Resizing of video frames equals torchvision's bit for bit, after its rounding to 8 bits.

#include <climits>
#include <numeric>

#include "check.h"
#include "io/image.h"
#include "patterns.h"

namespace qvl {
namespace {

using test::picture;

int64_t sum_of(const RgbImage& image) {
  return std::accumulate(image.pixels.begin(), image.pixels.end(), int64_t{0});
}

void check_pixel(const RgbImage& image, int row, int column, std::initializer_list<int> expected) {
  size_t i =
      (static_cast<size_t>(row) * static_cast<size_t>(image.width) + static_cast<size_t>(column)) *
      3;
  for (int value : expected) CHECK_EQ(int{image.pixels[i++]}, value);
}

}  // namespace

TEST(equals_the_worked_example) {
  const RgbImage out = resize_bicubic_float(picture("waves", 70, 50), 56, 56);
  check_pixel(out, 0, 0, {1, 40, 0});
  check_pixel(out, 0, 1, {9, 47, 2});
  check_pixel(out, 55, 55, {117, 156, 170});
  CHECK_EQ(sum_of(out), int64_t{1160829});
}

TEST(equals_what_torch_made_of_the_recorded_cases) {
  std::vector<std::istringstream> cases = test::recorded_cases("video/resize.txt");
  CHECK(cases.size() >= 30);
  for (std::istringstream& line : cases) {
    std::string pattern;
    uint64_t seed = 0, hash = 0;
    int width = 0, height = 0, new_width = 0, new_height = 0;
    int64_t sum = 0;
    line >> pattern >> seed >> width >> height >> new_width >> new_height >> std::hex >> hash >>
        std::dec >> sum;
    const RgbImage out =
        resize_bicubic_float(picture(pattern, width, height, seed), new_width, new_height);
    const std::string name = pattern + " " + std::to_string(width) + "x" + std::to_string(height) +
                             " -> " + std::to_string(new_width) + "x" + std::to_string(new_height);
    CHECK_EQ(name + " sum " + std::to_string(sum_of(out)), name + " sum " + std::to_string(sum));
    for (const auto& [row, column] :
         {std::pair{0, 0}, {new_height / 3, new_width / 2}, {new_height - 1, new_width - 1}}) {
      int r = -1, g = -1, b = -1;
      CHECK(static_cast<bool>(line >> r >> g >> b));
      check_pixel(out, row, column, {r, g, b});
    }
    test::Fnv1a found;
    found.add(out.pixels.data(), out.pixels.size());
    CHECK_EQ(name + " hash " + std::to_string(found.value()),
             name + " hash " + std::to_string(hash));
  }
}

TEST(the_same_size_is_a_copy) {
  const RgbImage image = picture("noise", 30, 20, 3);
  CHECK(resize_bicubic_float(image, 30, 20).pixels == image.pixels);
}

TEST(refuses_sizes_that_cannot_be) {
  const RgbImage image = picture("noise", 8, 8);
  CHECK_ERROR("ERR_INVALID_ARGUMENT", resize_bicubic_float(image, 0, 28));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", resize_bicubic_float(RgbImage{}, 28, 28));
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", resize_bicubic_float(image, INT_MAX, 1));
  RgbImage torn = image;
  torn.pixels.pop_back();
  CHECK_ERROR("ERR_IMAGE_PIXELS", resize_bicubic_float(torn, 28, 28));
}

TEST(refuses_a_shape_change_that_memory_cannot_hold) {
  const RgbImage tower{200, 20'000, std::vector<uint8_t>(12'000'000)};
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", resize_bicubic_float(tower, 1'000'000, 1));
}

}  // namespace qvl
