// The worked cases of M-RoPE positions, and what is refused.

#include "model/positions.h"

#include <limits>

#include "check.h"

namespace qvl {
namespace {

constexpr int32_t kText = 5;
constexpr int32_t kVisionStart = 58;
constexpr int32_t kVisionEnd = 59;
constexpr int32_t kImage = 60;
constexpr int32_t kVideo = 61;

/// A prompt in the notation of the cases: '.' text, 'V' and 'v' vision_start and vision_end, 'i'
/// and 'f' a placeholder of an image or of a video's frames.
std::vector<int32_t> prompt(const std::string& notation) {
  std::vector<int32_t> ids;
  for (const char c : notation) {
    ids.push_back(c == '.'   ? kText
                  : c == 'V' ? kVisionStart
                  : c == 'v' ? kVisionEnd
                  : c == 'i' ? kImage
                             : kVideo);
  }
  return ids;
}

MropePositions positions_of(const std::string& notation, const std::vector<VisionGrid>& grids) {
  return compute_positions(prompt(notation), grids, kImage, kVideo);
}

std::string text_of(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!text.empty()) text += ' ';
    text += std::to_string(id);
  }
  return text;
}

#define CHECK_POSITIONS(positions, expected_t, expected_h, expected_w, expected_delta) \
  CHECK_EQ(text_of((positions).t), expected_t);                                        \
  CHECK_EQ(text_of((positions).h), expected_h);                                        \
  CHECK_EQ(text_of((positions).w), expected_w);                                        \
  CHECK_EQ((positions).delta, expected_delta)

TEST(text_counts_up_on_all_three_axes) {  // case a
  const MropePositions positions = positions_of(".....", {});
  CHECK_POSITIONS(positions, "0 1 2 3 4", "0 1 2 3 4", "0 1 2 3 4", 0);
}

TEST(an_image_spreads_over_height_and_width) {  // case b
  const MropePositions positions = positions_of("...Viiiiiiv..", {{1, 4, 6}});
  CHECK_POSITIONS(positions, "0 1 2 3 4 4 4 4 4 4 7 8 9", "0 1 2 3 4 4 4 5 5 5 7 8 9",
                  "0 1 2 3 4 5 6 4 5 6 7 8 9", -3);
}

TEST(two_images_of_different_sizes) {  // case c
  const MropePositions positions = positions_of("..Viiiiv.Viiiv..", {{1, 4, 4}, {1, 2, 6}});
  CHECK_POSITIONS(positions, "0 1 2 3 3 3 3 5 6 7 8 8 8 11 12 13",
                  "0 1 2 3 3 4 4 5 6 7 8 8 8 11 12 13", "0 1 2 3 4 3 4 5 6 7 8 9 10 11 12 13", -2);
}

TEST(a_video_advances_by_its_longest_axis) {  // case d
  const MropePositions positions = positions_of("..Vffffffffffffv...", {{3, 4, 4, true}});
  CHECK_POSITIONS(positions, "0 1 2 3 3 3 3 4 4 4 4 5 5 5 5 6 7 8 9",
                  "0 1 2 3 3 4 4 3 3 4 4 3 3 4 4 6 7 8 9", "0 1 2 3 4 3 4 3 4 3 4 3 4 3 4 6 7 8 9",
                  -9);
}

TEST(text_follows_a_long_thin_video_behind_its_last_slice) {  // case e
  const MropePositions positions = positions_of(".Vffffffffffv...", {{5, 2, 4, true}});
  CHECK_POSITIONS(positions, "0 1 2 2 3 3 4 4 5 5 6 6 7 8 9 10", "0 1 2 2 2 2 2 2 2 2 2 2 7 8 9 10",
                  "0 1 2 3 2 3 2 3 2 3 2 3 7 8 9 10", -5);
}

TEST(an_image_and_a_video_without_text_between) {  // case f
  const MropePositions positions =
      positions_of(".ViiiivVffffffffv..", {{1, 4, 4}, {2, 4, 4, true}});
  CHECK_POSITIONS(positions, "0 1 2 2 2 2 4 5 6 6 6 6 7 7 7 7 8 9 10",
                  "0 1 2 2 3 3 4 5 6 6 7 7 6 6 7 7 8 9 10",
                  "0 1 2 3 2 3 4 5 6 7 6 7 6 7 6 7 8 9 10", -8);
}

TEST(rows_of_a_batch_are_sequences_of_their_own) {  // case g, without its pads
  const MropePositions first = positions_of("....", {});
  CHECK_POSITIONS(first, "0 1 2 3", "0 1 2 3", "0 1 2 3", 0);
  const MropePositions second = positions_of("..Viiiiv.", {{1, 4, 4}});
  CHECK_POSITIONS(second, "0 1 2 3 3 3 3 5 6", "0 1 2 3 3 4 4 5 6", "0 1 2 3 4 3 4 5 6", -2);
}

TEST(images_in_different_rows_of_a_batch) {  // case h, without its pads
  const MropePositions first = positions_of(".Viv.", {{1, 2, 2}});
  CHECK_POSITIONS(first, "0 1 2 3 4", "0 1 2 3 4", "0 1 2 3 4", 0);
  const MropePositions second = positions_of(".ViiiivViv.", {{1, 4, 4}, {1, 2, 2}});
  CHECK_POSITIONS(second, "0 1 2 2 2 2 4 5 6 7 8", "0 1 2 2 3 3 4 5 6 7 8", "0 1 2 3 2 3 4 5 6 7 8",
                  -2);
}

TEST(a_prompt_may_end_in_an_image) {  // case i
  const MropePositions positions = positions_of("..Viiii", {{1, 4, 4}});
  CHECK_POSITIONS(positions, "0 1 2 3 3 3 3", "0 1 2 3 3 4 4", "0 1 2 3 4 3 4", -2);
  CHECK_EQ(static_cast<int32_t>(positions.t.size()) + positions.delta, 5);  // the next token's
}

TEST(images_and_videos_have_counters_of_their_own) {
  // The video's grid comes first in the list, the image first in the prompt.
  const MropePositions positions = positions_of("iff", {{2, 2, 2, true}, {1, 2, 2}});
  CHECK_POSITIONS(positions, "0 1 2", "0 1 1", "0 1 1", 0);
}

TEST(adjacent_images_without_markers_are_not_merged) {
  const MropePositions positions = positions_of("iii", {{1, 2, 4}, {1, 2, 2}});
  CHECK_POSITIONS(positions, "0 0 2", "0 0 2", "0 1 2", 0);
}

TEST(an_empty_prompt_has_no_positions) {
  const MropePositions positions = positions_of("", {});
  CHECK_EQ(positions.t.size(), size_t{0});
  CHECK_EQ(positions.delta, 0);
}

void check_mismatch(const std::string& notation, const std::vector<VisionGrid>& grids,
                    const std::string& expected) {
  const std::string message =
      CHECK_ERROR("ERR_PROMPT_VISION_MISMATCH", positions_of(notation, grids));
  if (message.find(expected) == std::string::npos) {
    CHECK_EQ(message, expected);
  }
}

TEST(a_run_that_is_too_short_is_refused_with_its_counts) {
  check_mismatch("..Viiiiiv.", {{1, 4, 6}}, "has 5 placeholders at token 3");
  check_mismatch("..Viiiiiv.", {{1, 4, 6}}, "1 x 4 x 6 needs 6");
  check_mismatch("Vii", {{1, 4, 6}}, "has 2 placeholders at token 1");
}

TEST(a_run_of_the_other_kind_does_not_count) {
  check_mismatch("Viiffv", {{1, 4, 4}}, "has 2 placeholders at token 1");
}

TEST(placeholders_without_an_item_are_refused) {
  check_mismatch("iii", {{1, 2, 2}}, "for image 2, but only 1 came with it");
  check_mismatch("f", {{1, 2, 2}}, "for video 1, but only 0 came with it");
}

TEST(items_without_placeholders_are_refused) {
  check_mismatch("i", {{1, 2, 2}, {1, 2, 2}}, "placeholders for 1 of 2 images");
  check_mismatch(".", {{1, 2, 2, true}}, "placeholders for 0 of 1 videos");
}

TEST(grids_that_are_none_are_refused) {
  for (const VisionGrid grid :
       {VisionGrid{0, 2, 2}, {1, 0, 2}, {1, 2, 3}, {1, -2, -2}, {-1, 2, 2}}) {
    check_mismatch("i", {grid}, "sides must be even and positive");
  }
}

TEST(no_grid_is_so_large_that_its_size_overflows) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max() - 1;
  check_mismatch("ii", {{kHuge, kHuge, kHuge}}, "needs more than 2");
  check_mismatch("ii", {{kHuge, 2, 2}}, "needs more than 2");
  check_mismatch("ii", {{int64_t{1} << 32, int64_t{1} << 17, int64_t{1} << 17}},
                 "needs more than 2");
}

}  // namespace
}  // namespace qvl
