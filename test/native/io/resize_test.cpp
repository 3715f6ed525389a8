// Resizing equals Pillow bit for bit.

#include <climits>
#include <numeric>

#include "check.h"
#include "io/image.h"
#include "patterns.h"

namespace qvl {
namespace {

using test::picture;

const uint8_t* pixel(const RgbImage& image, int row, int column) {
  return &image.pixels[(static_cast<size_t>(row) * static_cast<size_t>(image.width) +
                        static_cast<size_t>(column)) *
                       3];
}

void check_pixel(const RgbImage& image, int row, int column, std::initializer_list<int> expected) {
  const uint8_t* found = pixel(image, row, column);
  for (int value : expected) CHECK_EQ(int{*found++}, value);
}

int64_t sum_of(const RgbImage& image) {
  return std::accumulate(image.pixels.begin(), image.pixels.end(), int64_t{0});
}

struct ResizeCase {
  std::string pattern;
  uint64_t seed;
  int width, height, new_width, new_height;
};

std::string describe(const ResizeCase& c) {
  return c.pattern + " " + std::to_string(c.width) + "x" + std::to_string(c.height) + " -> " +
         std::to_string(c.new_width) + "x" + std::to_string(c.new_height);
}

}  // namespace

TEST(equals_the_worked_example) {
  // R = 7x + 3y, G = 5x + 11y + 40, B = x * x + y, 70 columns and 50 rows.
  const RgbImage out = resize_bicubic(picture("waves", 70, 50), 56, 56);
  check_pixel(out, 0, 0, {1, 41, 0});
  check_pixel(out, 0, 1, {10, 47, 2});
  check_pixel(out, 10, 20, {203, 18, 128});
  check_pixel(out, 37, 41, {203, 148, 118});
  check_pixel(out, 55, 55, {117, 155, 170});
  CHECK_EQ(sum_of(out), int64_t{1160969});
}

TEST(equals_what_pillow_made_of_the_recorded_cases) {
  std::vector<std::istringstream> cases = test::recorded_cases("resample/cases.txt");
  CHECK(cases.size() >= 30);
  for (std::istringstream& line : cases) {
    ResizeCase c;
    uint64_t hash = 0;
    int64_t sum = 0;
    line >> c.pattern >> c.seed >> c.width >> c.height >> c.new_width >> c.new_height >> std::hex >>
        hash >> std::dec >> sum;
    const RgbImage out =
        resize_bicubic(picture(c.pattern, c.width, c.height, c.seed), c.new_width, c.new_height);
    const std::string name = describe(c);
    CHECK_EQ(name + " sum " + std::to_string(sum_of(out)), name + " sum " + std::to_string(sum));
    const std::pair<int, int> spots[] = {
        {0, 0}, {c.new_height / 3, c.new_width / 2}, {c.new_height - 1, c.new_width - 1}};
    for (const auto& [row, column] : spots) {
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

TEST(keeps_a_flat_colour_flat) {
  RgbImage flat{37, 19, {}};
  for (int i = 0; i < 37 * 19; ++i) {
    flat.pixels.insert(flat.pixels.end(), {0, 255, 77});
  }
  for (const auto& [width, height] : {std::pair{56, 84}, {5, 3}, {37, 4}, {1000, 19}}) {
    const RgbImage out = resize_bicubic(flat, width, height);
    CHECK_EQ(out.pixels.size(), static_cast<size_t>(width * height * 3));
    for (size_t i = 0; i < out.pixels.size(); i += 3) {
      CHECK(out.pixels[i] == 0 && out.pixels[i + 1] == 255 && out.pixels[i + 2] == 77);
    }
  }
}

TEST(the_same_size_is_a_copy) {
  const RgbImage image = picture("noise", 30, 20, 3);
  CHECK(resize_bicubic(image, 30, 20).pixels == image.pixels);
}

TEST(refuses_sizes_that_cannot_be) {
  const RgbImage image = picture("noise", 8, 8);
  CHECK_ERROR("ERR_INVALID_ARGUMENT", resize_bicubic(image, 0, 28));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", resize_bicubic(image, 28, INT_MIN));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", resize_bicubic(RgbImage{}, 28, 28));
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", resize_bicubic(image, INT_MAX, INT_MAX));
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", resize_bicubic(image, INT_MAX, 1));
  RgbImage torn = image;
  torn.pixels.pop_back();
  CHECK_ERROR("ERR_IMAGE_PIXELS", resize_bicubic(torn, 28, 28));
}

TEST(refuses_a_shape_change_that_memory_cannot_hold) {
  // A tower into a row: one output row takes in all 20,000 rows, each a million pixels wide.
  const RgbImage tower{200, 20'000, std::vector<uint8_t>(12'000'000)};
  CHECK_ERROR("ERR_IMAGE_TOO_LARGE", resize_bicubic(tower, 1'000'000, 1));
}

}  // namespace qvl
