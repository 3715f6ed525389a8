// Patch rows equal the pixel_values of the reference bit for bit.

#include <bit>
#include <cstring>
#include <limits>
#include <map>

#include "check.h"
#include "io/image.h"
#include "patterns.h"

namespace qvl {
namespace {

using test::picture;
using Triple = std::array<double, 3>;

constexpr Triple kClipMean = {0.48145466, 0.4578275, 0.40821073};
constexpr Triple kClipStd = {0.26862954, 0.26130258, 0.27577711};

// What rounding to eight decimals can do to a float that has more.
constexpr double kEightDecimals = 1e-8;

PixelTable clip_table() { return PixelTable::make(kClipMean, kClipStd); }

VisionItem make_item(std::vector<RgbImage> frames, bool is_video = true) {
  VisionItem item;
  item.is_video = is_video;
  for (RgbImage& frame : frames) {
    item.frames.push_back(std::make_shared<const RgbImage>(std::move(frame)));
  }
  return item;
}

std::vector<float> all_patches(const VisionItem& item, const PixelTable& table) {
  std::vector<float> out(static_cast<size_t>(item.num_patches()) * kPatchValues);
  extract_patches(item, table, 0, item.num_patches(), out.data());
  return out;
}

struct Spot {
  int row;
  int column;
  float expected;
};

void check_spots(const std::vector<float>& rows, double tolerance,
                 std::initializer_list<Spot> spots) {
  for (const Spot& spot : spots) {
    const float found =
        rows[static_cast<size_t>(spot.row) * kPatchValues + static_cast<size_t>(spot.column)];
    CHECK_CLOSE(&found, &spot.expected, 1, tolerance);
  }
}

/// `picture` rolled to the right by `columns`, wrapping around.
RgbImage rolled(const RgbImage& image, int columns) {
  RgbImage out = image;
  const auto row_bytes = static_cast<std::ptrdiff_t>(image.width) * 3;
  for (int y = 0; y < image.height; ++y) {
    auto row = out.pixels.begin() + y * row_bytes;
    std::rotate(row, row + row_bytes - columns * 3, row + row_bytes);
  }
  return out;
}

}  // namespace

TEST(normalises_as_the_worked_table_says) {
  const PixelTable table = clip_table();
  const std::pair<int, std::array<float, 3>> levels[] = {
      {0, {-1.79226255f, -1.7520971f, -1.48021984f}},
      {128, {0.07633615f, 0.16889732f, 0.33994877f}},
      {255, {1.93033612f, 2.07488370f, 2.14589691f}}};
  for (const auto& [level, expected] : levels) {
    for (int c = 0; c < 3; ++c) {
      CHECK_CLOSE(&table.value[c][level], &expected[static_cast<size_t>(c)], 1, kEightDecimals);
    }
  }
}

TEST(follows_the_constants_it_is_given) {
  const PixelTable table = PixelTable::make(Triple{0, 0.5, 1}, Triple{1, 0.5, -2}, 1.0);
  CHECK_EQ(table.value[0][200], 200.0f);
  CHECK_EQ(table.value[1][200], 399.0f);
  CHECK_EQ(table.value[2][0], 0.5f);
}

TEST(refuses_constants_that_give_no_numbers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(Triple{0, nan, 0}, kClipStd));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(kClipMean, Triple{1, 1, inf}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(kClipMean, Triple{1, 0, 1}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(kClipMean, Triple{1, 1e-60, 1}));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(Triple{1e60, 0, 0}, kClipStd));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", PixelTable::make(kClipMean, kClipStd, nan));
}

TEST(counts_patches_and_tokens_of_the_examples) {
  const auto grid = [](int width, int height) {
    return make_item({RgbImage{width, height, {}}}, false);
  };
  const VisionItem small = grid(224, 224);
  CHECK_EQ(small.num_patches(), int64_t{256});
  CHECK_EQ(small.num_tokens(), int64_t{64});
  const VisionItem demo = grid(2044, 1372);
  CHECK_EQ(demo.grid_t(), int64_t{1});
  CHECK_EQ(demo.grid_h(), int64_t{98});
  CHECK_EQ(demo.grid_w(), int64_t{146});
  CHECK_EQ(demo.num_patches(), int64_t{14308});
  CHECK_EQ(demo.num_tokens(), int64_t{3577});
  CHECK_EQ(grid(3584, 3584).num_tokens(), int64_t{16384});
}

TEST(puts_every_pixel_where_the_formula_says) {
  constexpr int kWidth = 84, kHeight = 56, kFrames = 4;
  std::vector<RgbImage> frames;
  for (uint64_t f = 0; f < kFrames; ++f) frames.push_back(picture("noise", kWidth, kHeight, f));
  const VisionItem item = make_item(std::move(frames));
  const PixelTable identity = PixelTable::make(Triple{0, 0, 0}, Triple{1, 1, 1}, 1.0);
  const std::vector<float> rows = all_patches(item, identity);

  for (int i = 0; i < kFrames * kHeight * kWidth * 3; ++i) {
    const int c = i % 3, x = i / 3 % kWidth, y = i / 3 / kWidth % kHeight;
    const int frame = i / 3 / kWidth / kHeight;
    const int block = (frame / 2 * (kHeight / 28) + y / 28) * (kWidth / 28) + x / 28;
    const int row = block * 4 + y / 14 % 2 * 2 + x / 14 % 2;
    const int column = ((c * 2 + frame % 2) * 14 + y % 14) * 14 + x % 14;
    const uint8_t sample = item.frames[static_cast<size_t>(frame)]
                               ->pixels[static_cast<size_t>((y * kWidth + x) * 3 + c)];
    CHECK_EQ(rows[static_cast<size_t>(row * kPatchValues + column)], static_cast<float>(sample));
  }
}

TEST(equals_the_golden_image) {
  const VisionItem item = make_item({picture("waves", 84, 56)}, false);
  const std::vector<float> rows = all_patches(item, clip_table());
  CHECK_EQ(rows.size(), size_t{24 * 1176});
  check_spots(rows, kEightDecimals,
              {{0, 0, -1.79226255f},
               {0, 14, -1.74846721f},
               {0, 196, -1.79226255f},
               {0, 392, -1.15178645f},
               {1, 0, -0.36161673f},
               {2, 0, -1.17912865f},
               {3, 0, 0.25151724f},
               {4, 0, 1.06902909f},
               {5, 0, -1.23752236f},
               {8, 0, 0.19312355f},
               {12, 0, -0.56599468f},
               {7, 588, 0.46905264f},
               {23, 1175, -1.02517760f}});
  double sum = 0, sum_abs = 0;
  for (float value : rows) sum += value, sum_abs += std::fabs(value);
  CHECK(std::fabs(sum - 3888.4154) < 1e-3);
  CHECK(std::fabs(sum_abs - 26075.4270) < 1e-3);
}

TEST(equals_the_golden_video) {
  const RgbImage first = picture("waves", 84, 56);
  const VisionItem item =
      make_item({first, rolled(first, 9), rolled(first, 18), rolled(first, 27)});
  CHECK_EQ(item.grid_t(), int64_t{2});
  const std::vector<float> rows = all_patches(item, clip_table());
  // These come from the reference's video path, which folds rescale and normalise into one step and
  // rounds differently in the last bit.
  check_spots(
      rows, 2.4e-7,
      {{0, 0, -1.79226255f}, {0, 196, -1.60248303f}, {0, 392, -1.15178645f}, {24, 0, 1.21501327f}});
}

TEST(repeats_the_last_of_an_odd_number_of_frames) {
  const RgbImage a = picture("noise", 56, 28, 1);
  const RgbImage b = picture("noise", 56, 28, 2);
  const RgbImage c = picture("noise", 56, 28, 3);
  const PixelTable table = clip_table();
  CHECK(all_patches(make_item({a, b, c}), table) == all_patches(make_item({a, b, c, c}), table));
  CHECK(all_patches(make_item({a}), table) == all_patches(make_item({a, a}), table));
}

TEST(equals_what_the_reference_made_of_the_recorded_cases) {
  const std::map<std::string, std::pair<Triple, Triple>> constants = {
      {"clip", {kClipMean, kClipStd}},
      {"half", {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}},
      {"imagenet", {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}}};
  std::vector<std::istringstream> cases = test::recorded_cases("patches/cases.txt");
  CHECK(cases.size() >= 16);
  for (std::istringstream& line : cases) {
    std::string kind, pattern, name;
    uint64_t seed = 0, frames = 0, hash = 0;
    int width = 0, height = 0, new_width = 0, new_height = 0;
    int64_t grid_t = 0, grid_h = 0, grid_w = 0;
    line >> kind >> pattern >> seed >> frames >> width >> height >> new_width >> new_height >>
        grid_t >> grid_h >> grid_w >> name >> std::hex >> hash >> std::dec;
    CHECK(static_cast<bool>(line));

    std::vector<RgbImage> clip;
    for (uint64_t f = 0; f < frames; ++f) {
      clip.push_back(
          resize_bicubic(picture(pattern, width, height, seed + f), new_width, new_height));
    }
    const VisionItem item = make_item(std::move(clip), kind == "video");
    CHECK_EQ(item.grid_t(), grid_t);
    CHECK_EQ(item.grid_h(), grid_h);
    CHECK_EQ(item.grid_w(), grid_w);
    const auto& [mean, std] = constants.at(name);
    const std::vector<float> rows = all_patches(item, PixelTable::make(mean, std));

    for (int i = 0; i < 5; ++i) {
      size_t row = 0, column = 0;
      uint32_t bits = 0;
      CHECK(static_cast<bool>(line >> row >> column >> std::hex >> bits >> std::dec));
      CHECK_EQ(rows[row * kPatchValues + column], std::bit_cast<float>(bits));
    }
    test::Fnv1a found;
    found.add(rows.data(), rows.size() * sizeof(float));
    CHECK_EQ(pattern + std::to_string(seed) + " " + std::to_string(found.value()),
             pattern + std::to_string(seed) + " " + std::to_string(hash));
  }
}

TEST(any_range_of_rows_is_a_part_of_the_whole) {
  const VisionItem item = make_item(
      {picture("noise", 84, 56, 5), picture("noise", 84, 56, 6), picture("noise", 84, 56, 7)});
  const PixelTable table = clip_table();
  const std::vector<float> whole = all_patches(item, table);
  for (const auto& [first, count] :
       {std::pair<int64_t, int64_t>{0, 1}, {3, 7}, {20, 28}, {47, 1}, {48, 0}}) {
    std::vector<float> part(static_cast<size_t>(count) * kPatchValues);
    extract_patches(item, table, first, count, part.data());
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + first * kPatchValues));
  }
}

TEST(refuses_items_that_are_not_ready_for_the_tower) {
  const PixelTable table = clip_table();
  float out[kPatchValues];
  const auto extract = [&](const VisionItem& item, int64_t first, int64_t count) {
    extract_patches(item, table, first, count, out);
  };
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(VisionItem{}, 0, 0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(VisionItem{{nullptr}, false}, 0, 0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(make_item({picture("noise", 28, 42)}), 0, 1));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(make_item({RgbImage{}}), 0, 0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT",
              extract(make_item({picture("noise", 28, 56), picture("noise", 56, 28)}), 0, 1));
  CHECK_ERROR("ERR_IMAGE_PIXELS", extract(make_item({RgbImage{28, 28, {}}}), 0, 1));

  const VisionItem item = make_item({picture("noise", 28, 28)});
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(item, 4, 1));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(item, -1, 1));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(item, 1, -1));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", extract(item, 1, std::numeric_limits<int64_t>::max()));
}

}  // namespace qvl
