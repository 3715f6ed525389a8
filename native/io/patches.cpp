// Normalised patch rows in the order that the vision tower takes them in.

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "common/error.h"
#include "io/image.h"
#include "io/image_size.h"

namespace qvl {
namespace {

constexpr size_t kPatch = kPatchSize;
constexpr size_t kPlane = kPatch * kPatch;  // values of one channel of one frame
constexpr int kSideUnit = kPatchSize * kMergeSize;

[[noreturn]] void fail(const std::string& what) { throw Error("ERR_INVALID_ARGUMENT", what); }

float finite_float(double value, const char* name) {
  if (!(std::fabs(value) <= std::numeric_limits<float>::max())) {
    fail(std::string(name) + " is " + std::to_string(value) +
         "; expected a finite number. Check preprocessor_config.json");
  }
  return static_cast<float>(value);
}

void check_item(const VisionItem& item) {
  if (item.frames.empty()) fail("an image or video without frames");
  for (const auto& frame : item.frames) {
    if (frame == nullptr) fail("a frame is missing");
    const RgbImage& first = *item.frames.front();
    if (frame->width != first.width || frame->height != first.height) {
      fail("frames of " + size_text(frame->width, frame->height) + " and " +
           size_text(first.width, first.height) + " pixels in one video; expected one size");
    }
    if (frame->width < kSideUnit || frame->height < kSideUnit || frame->width % kSideUnit != 0 ||
        frame->height % kSideUnit != 0) {
      fail("a frame of " + size_text(frame->width, frame->height) +
           " pixels; expected sides that are multiples of 28, as smart resize gives them");
    }
    check_pixel_bytes(frame->pixels.size(), frame->width, frame->height, 3);
  }
}

/// Where patch row `row` lies: the pair of frames and its upper left pixel.
struct PatchPlace {
  size_t pair;
  size_t x;
  size_t y;
};

PatchPlace place_of(int64_t row, int64_t grid_h, int64_t grid_w) {
  // row = ((pair * blocks_h + block_y) * blocks_w + block_x) * 4 + inner_y * 2 + inner_x
  const int64_t inner_x = row % kMergeSize;
  const int64_t inner_y = row / kMergeSize % kMergeSize;
  const int64_t block = row / (kMergeSize * kMergeSize);
  const int64_t blocks_w = grid_w / kMergeSize;
  const int64_t blocks_h = grid_h / kMergeSize;
  const int64_t block_x = block % blocks_w;
  const int64_t block_y = block / blocks_w % blocks_h;
  return {static_cast<size_t>(block / blocks_w / blocks_h),
          static_cast<size_t>((block_x * kMergeSize + inner_x) * kPatchSize),
          static_cast<size_t>((block_y * kMergeSize + inner_y) * kPatchSize)};
}

/// One frame's share of a patch row: for channel c the values [14, 14] at out + c * 2 * 14 * 14.
void write_frame(const RgbImage& frame, const PixelTable& table, const PatchPlace& place,
                 float* out) {
  const size_t row_bytes = static_cast<size_t>(frame.width) * 3;
  const uint8_t* pixels = frame.pixels.data() + place.y * row_bytes + place.x * 3;
  for (size_t c = 0; c < 3; ++c) {
    float* plane = out + c * kTemporalPatchSize * kPlane;
    for (size_t y = 0; y < kPatch; ++y) {
      const uint8_t* in = pixels + y * row_bytes + c;
      for (size_t x = 0; x < kPatch; ++x) plane[y * kPatch + x] = table.value[c][in[x * 3]];
    }
  }
}

}  // namespace

PixelTable PixelTable::make(std::span<const double, 3> mean, std::span<const double, 3> std,
                            double rescale_factor) {
  finite_float(rescale_factor * 255.0, "rescale_factor");
  PixelTable table;
  for (size_t c = 0; c < 3; ++c) {
    const float mean_c = finite_float(mean[c], "image_mean");
    const float std_c = finite_float(std[c], "image_std");
    if (std_c == 0.0f)
      fail("image_std is 0; expected another number. Check preprocessor_config.json");
    for (int level = 0; level < 256; ++level) {
      const auto scaled = static_cast<float>(level * rescale_factor);
      table.value[c][level] = (scaled - mean_c) / std_c;
    }
  }
  return table;
}

void extract_patches(const VisionItem& item, const PixelTable& table, int64_t first, int64_t count,
                     float* out) {
  check_item(item);
  const int64_t rows = item.num_patches();
  if (first < 0 || count < 0 || first > rows || count > rows - first) {
    fail("patch rows " + std::to_string(first) + " + " + std::to_string(count) +
         " were asked of an item that has " + std::to_string(rows));
  }
  for (int64_t row = first; row < first + count; ++row, out += kPatchValues) {
    const PatchPlace place = place_of(row, item.grid_h(), item.grid_w());
    const size_t frame = place.pair * kTemporalPatchSize;
    write_frame(*item.frames[frame], table, place, out);
    if (frame + 1 < item.frames.size()) {
      write_frame(*item.frames[frame + 1], table, place, out + kPlane);
      continue;
    }
    for (size_t c = 0; c < 3; ++c) {  // the last frame stands in for the one that is not there
      float* plane = out + c * kTemporalPatchSize * kPlane;
      std::memcpy(plane + kPlane, plane, kPlane * sizeof(float));
    }
  }
}

}  // namespace qvl
