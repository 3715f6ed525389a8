// The tower's pieces: what they compute does not depend on how they are cut, what they refuse.
// The numbers themselves are compared with the reference in golden_model_test and reference_test.

#include "model/vision_tower.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "backend/cpu/cpu_backend.h"
#include "check.h"
#include "model/formula_checkpoint.h"

namespace qvl {
namespace {

/// A tower with the weights of a formula.
struct Fixture {
  explicit Fixture(const ModelConfig& config = test::tiny_config(), int threads = 1)
      : backend(create_cpu_backend({threads, ""})) {
    const test::TempFolder folder;
    write_safetensors(folder.path("w.safetensors"), test::formula_tensors(config));
    const auto checkpoint = Checkpoint::open({folder.path("w.safetensors")});
    const ModelOptions options;
    WeightLoader loader(*checkpoint, *backend, options);
    tower = VisionTower::load(config, loader, backend);
    loader.run({}, nullptr);
  }

  std::shared_ptr<Backend> backend;
  VisionTower tower;
};

std::shared_ptr<const RgbImage> make_frame(int width, int height, int seed = 0) {
  RgbImage image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(7 * (x + seed) + 3 * y));
      image.pixels.push_back(static_cast<uint8_t>(5 * (x + seed) + 11 * y + 40));
      image.pixels.push_back(static_cast<uint8_t>((x + seed) * (x + seed) + y));
    }
  }
  return std::make_shared<const RgbImage>(std::move(image));
}

VisionItem make_item(int width, int height, int frames = 1) {
  VisionItem item;
  item.is_video = frames > 1;
  for (int i = 0; i < frames; ++i) item.frames.push_back(make_frame(width, height, 9 * i));
  return item;
}

std::vector<float> rows_of(const Tensor& rows) {
  CHECK_EQ(rows.row_stride, rows.cols);
  return {rows.f32(), rows.f32() + rows.rows * rows.cols};
}

/// Encodes with this much work an advance().
std::vector<float> encode(const VisionTower& tower, const VisionItem& item,
                          std::optional<double> work = {}, std::optional<double> piece_work = {}) {
  TowerEncoding encoding(tower, item, work, piece_work);
  while (!encoding.advance()) {
  }
  return rows_of(encoding.take_result().rows);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(one_token_for_four_patches) {
  const Fixture fixture;
  CHECK_EQ(encode(fixture.tower, make_item(84, 56)).size(), size_t{6 * 64});
  CHECK_EQ(encode(fixture.tower, make_item(84, 56, 5)).size(), size_t{3 * 6 * 64});
  CHECK_EQ(encode(fixture.tower, make_item(28, 28)).size(), size_t{64});
}

TEST(small_items_take_one_advance_and_pieces_can_be_had_one_by_one) {
  const Fixture fixture;
  TowerEncoding whole(fixture.tower, make_item(84, 56));
  CHECK(whole.advance());
  TowerEncoding pieces(fixture.tower, make_item(84, 56), 0);
  CHECK_EQ(pieces.num_pieces(), 1 + 2 * 3 + 1);  // embedding, two blocks of three, merger
  for (int64_t i = 1; i < pieces.num_pieces(); ++i) {
    CHECK(!pieces.advance());
    CHECK_EQ(pieces.next_piece(), i);
  }
  CHECK(pieces.advance());
  CHECK(same_bits(rows_of(whole.take_result().rows), rows_of(pieces.take_result().rows)));
}

// 2304 patches in one segment: several pieces of rows, attention over all of them.
TEST(a_large_image_is_cut_into_pieces_without_changing_a_bit) {
  const Fixture one_thread;
  const Fixture three_threads(test::tiny_config(), 3);
  const VisionItem item = make_item(672, 672);
  const std::vector<float> expected = encode(one_thread.tower, item);
  CHECK(same_bits(encode(one_thread.tower, item, 0), expected));
  CHECK(same_bits(encode(three_threads.tower, item), expected));
  // Two and a half pieces for the attention of one head: its queries are cut in three.
  const double head =
      4.0 * 2304 * 2304 * static_cast<double>(test::tiny_config().vision.head_dim());
  const TowerEncoding whole(one_thread.tower, item);
  const TowerEncoding cut(one_thread.tower, item, 0, head / 2.5);
  const int64_t attentions =
      test::tiny_config().vision.depth * test::tiny_config().vision.num_heads;
  CHECK_EQ(cut.num_pieces() - whole.num_pieces(),
           3 * attentions - test::tiny_config().vision.depth);
  CHECK(same_bits(encode(three_threads.tower, item, 0, head / 2.5), expected));
}

// 28 x 56 pixels are 8 patches a slice: 64 slices fill a group.
TEST(slices_of_a_video_do_not_see_each_other) {
  const Fixture fixture;
  VisionItem video = make_item(28, 56, 200);
  const std::vector<float> all = encode(fixture.tower, video);
  CHECK_EQ(all.size(), size_t{100 * 2 * 64});
  for (const size_t slice : {0, 1, 63, 64, 99}) {
    VisionItem alone;
    alone.is_video = true;
    alone.frames = {video.frames[2 * slice], video.frames[2 * slice + 1]};
    const std::vector<float> rows(all.begin() + static_cast<std::ptrdiff_t>(slice * 2 * 64),
                                  all.begin() + static_cast<std::ptrdiff_t>((slice + 1) * 2 * 64));
    CHECK(same_bits(encode(fixture.tower, alone), rows));
  }
}

TEST(an_odd_frame_at_the_end_is_repeated_and_an_image_is_a_frame_twice) {
  const Fixture fixture;
  VisionItem odd = make_item(84, 56, 3);
  VisionItem even = odd;
  even.frames.push_back(even.frames.back());
  CHECK(same_bits(encode(fixture.tower, odd), encode(fixture.tower, even)));
  VisionItem twice = make_item(84, 56);
  twice.frames.push_back(twice.frames.front());
  CHECK(same_bits(encode(fixture.tower, make_item(84, 56)), encode(fixture.tower, twice)));
}

TEST(patches_are_read_while_the_item_s_frames_live_on_in_the_encoding) {
  const Fixture fixture;
  const std::vector<float> expected = encode(fixture.tower, make_item(56, 56));
  VisionItem item = make_item(56, 56);
  const std::weak_ptr<const RgbImage> frame = item.frames.front();
  TowerEncoding encoding(fixture.tower, std::move(item), 0);
  CHECK(!frame.expired());
  encoding.advance();
  CHECK(frame.expired());  // the pixels are in the residual stream now
  while (!encoding.advance()) {
  }
  CHECK(same_bits(rows_of(encoding.take_result().rows), expected));
}

TEST(an_encode_may_be_dropped_at_any_piece) {
  const Fixture fixture;
  const std::vector<float> expected = encode(fixture.tower, make_item(84, 56));
  for (int64_t pieces = 0; pieces < 8; ++pieces) {
    TowerEncoding dropped(fixture.tower, make_item(112, 84), 0);
    for (int64_t i = 0; i < pieces; ++i) dropped.advance();
  }
  CHECK(same_bits(encode(fixture.tower, make_item(84, 56)), expected));
}

TEST(two_encodes_may_take_turns) {
  const Fixture fixture;
  TowerEncoding first(fixture.tower, make_item(84, 56), 0);
  TowerEncoding second(fixture.tower, make_item(56, 112), 0);
  for (bool done = false; !done;) {
    done = first.advance();
    CHECK_EQ(second.advance(), done);
  }
  CHECK(same_bits(rows_of(first.take_result().rows), encode(fixture.tower, make_item(84, 56))));
  CHECK(same_bits(rows_of(second.take_result().rows), encode(fixture.tower, make_item(56, 112))));
}

TEST(there_is_no_result_before_the_end) {
  const Fixture fixture;
  TowerEncoding encoding(fixture.tower, make_item(56, 56), 0);
  CHECK_ERROR("ERR_INTERNAL", encoding.take_result());
  encoding.advance();
  CHECK_ERROR("ERR_INTERNAL", encoding.take_result());
}

void check_refused(const Fixture& fixture, const VisionItem& item, const std::string& expected) {
  const std::string message =
      CHECK_ERROR("ERR_IMAGE_SIZE", TowerEncoding encoding(fixture.tower, item));
  if (message.find(expected) == std::string::npos) CHECK_EQ(message, expected);
}

TEST(items_that_are_not_ready_for_the_tower_are_refused) {
  const Fixture fixture;
  check_refused(fixture, {}, "without frames");
  check_refused(fixture, {{nullptr}, false}, "a frame is missing");
  check_refused(fixture, make_item(84, 57), "84x57 pixels; sides must be multiples of 28");
  check_refused(fixture, make_item(42, 56), "42x56 pixels; sides must be multiples of 28");
  check_refused(fixture, {{std::make_shared<RgbImage>()}, false}, "0x0 pixels");
  VisionItem mixed = make_item(84, 56);
  mixed.frames.push_back(make_frame(56, 84));
  check_refused(fixture, mixed, "frames of 84x56 and 56x84 pixels");
  RgbImage short_pixels = *make_frame(56, 56);
  short_pixels.pixels.pop_back();
  check_refused(fixture, {{std::make_shared<RgbImage>(short_pixels)}, false},
                "holds 9407 bytes, expected 9408");
}

TEST(an_item_with_more_patches_than_indices_is_refused_at_once) {
  const Fixture fixture;
  VisionItem item;
  item.is_video = true;
  item.frames.assign(400000, make_frame(140, 140));  // one picture, 400000 times
  check_refused(fixture, item, "at most 16777216");
}

}  // namespace
}  // namespace qvl
