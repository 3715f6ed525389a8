#include "model/positions.h"

#include <algorithm>
#include <limits>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

[[noreturn]] void mismatch(const std::string& message) {
  throw Error("ERR_PROMPT_VISION_MISMATCH",
              message + ": every image or video needs exactly its own run of placeholders");
}

const char* kind_name(bool is_video) { return is_video ? "video" : "image"; }

/// Walks the grids of one kind in order.
class GridCursor {
 public:
  GridCursor(std::span<const VisionGrid> grids, bool is_video)
      : grids_(grids), is_video_(is_video) {}

  const VisionGrid& next(size_t token) {
    while (index_ < grids_.size() && grids_[index_].is_video != is_video_) ++index_;
    if (index_ == grids_.size()) {
      mismatch("the prompt has a placeholder at token " + std::to_string(token) + " for " +
               kind_name(is_video_) + " " + std::to_string(used_ + 1) + ", but only " +
               std::to_string(used_) + " came with it");
    }
    ++used_;
    return grids_[index_++];
  }

  void require_all_used() const {
    const auto total = std::count_if(grids_.begin(), grids_.end(), [&](const VisionGrid& grid) {
      return grid.is_video == is_video_;
    });
    if (total == used_) return;
    mismatch("the prompt has placeholders for " + std::to_string(used_) + " of " +
             std::to_string(total) + " " + kind_name(is_video_) + "s");
  }

 private:
  std::span<const VisionGrid> grids_;
  bool is_video_;
  size_t index_ = 0;
  std::ptrdiff_t used_ = 0;
};

std::string grid_text(const VisionGrid& grid) {
  return std::string(kind_name(grid.is_video)) + " with the grid " + std::to_string(grid.t) +
         " x " + std::to_string(grid.h) + " x " + std::to_string(grid.w);
}

void check_grid(const VisionGrid& grid) {
  if (grid.t >= 1 && grid.h >= 2 && grid.w >= 2 && grid.h % 2 == 0 && grid.w % 2 == 0) return;
  mismatch("there is a " + grid_text(grid) + "; sides must be even and positive");
}

/// The tokens of a grid if there are at most `limit`, otherwise something greater than `limit`.
/// Divides instead of multiplying, so that no grid can overflow.
int64_t bounded_tokens(const VisionGrid& grid, int64_t limit) {
  const int64_t rows = grid.h / 2;
  const int64_t cols = grid.w / 2;
  if (rows > limit || cols > limit / rows || grid.t > limit / (rows * cols)) return limit + 1;
  return grid.t * rows * cols;
}

}  // namespace

MropePositions compute_positions(std::span<const int32_t> token_ids,
                                 std::span<const VisionGrid> grids, int32_t image_token_id,
                                 int32_t video_token_id) {
  if (token_ids.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error("ERR_INVALID_ARGUMENT",
                "a prompt of " + std::to_string(token_ids.size()) + " tokens has no positions");
  }
  const auto length = static_cast<int64_t>(token_ids.size());
  MropePositions positions;
  for (auto* axis : {&positions.t, &positions.h, &positions.w}) axis->reserve(token_ids.size());
  GridCursor images(grids, false);
  GridCursor videos(grids, true);

  int64_t next = 0;  // p of the specification: at most the number of tokens so far
  const auto push = [&](int64_t t, int64_t h, int64_t w) {
    positions.t.push_back(static_cast<int32_t>(t));
    positions.h.push_back(static_cast<int32_t>(h));
    positions.w.push_back(static_cast<int32_t>(w));
  };
  for (int64_t i = 0; i < length;) {
    const int32_t id = token_ids[static_cast<size_t>(i)];
    if (id != image_token_id && id != video_token_id) {
      push(next, next, next);
      ++next;
      ++i;
      continue;
    }
    const bool is_video = id == video_token_id;
    const VisionGrid& grid = (is_video ? videos : images).next(static_cast<size_t>(i));
    check_grid(grid);
    const int64_t count = bounded_tokens(grid, length - i);
    const auto own =
        token_ids.subspan(static_cast<size_t>(i), static_cast<size_t>(std::min(count, length - i)));
    const auto is_pad = [&](int32_t token) { return token == id; };
    const auto run = std::find_if_not(own.begin(), own.end(), is_pad) - own.begin();
    if (run < count) {
      const std::string needed =
          count > length - i ? "more than " + std::to_string(length - i) : std::to_string(count);
      mismatch("the prompt has " + std::to_string(run) + " placeholders at token " +
               std::to_string(i) + ", but a " + grid_text(grid) + " needs " + needed);
    }
    for (int64_t t = 0; t < grid.t; ++t) {
      for (int64_t h = 0; h < grid.h / 2; ++h) {
        for (int64_t w = 0; w < grid.w / 2; ++w) push(next + t, next + h, next + w);
      }
    }
    next += std::max({grid.t, grid.h / 2, grid.w / 2});
    i += count;
  }
  images.require_all_used();
  videos.require_all_used();
  positions.delta = static_cast<int32_t>(next - length);
  return positions;
}

}  // namespace qvl
