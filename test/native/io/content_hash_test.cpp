#include "io/content_hash.h"

#include <memory>
#include <unordered_set>
#include <vector>

#include "check.h"
#include "io/image.h"

using namespace qvl;

namespace {

RgbImage grey(int width, int height, uint8_t value) {
  RgbImage image{width, height, {}};
  image.pixels.assign(static_cast<size_t>(width * height * 3), value);
  return image;
}

VisionItem item_of(const std::vector<RgbImage>& frames, bool is_video) {
  VisionItem item;
  item.is_video = is_video;
  for (const RgbImage& frame : frames) {
    item.frames.push_back(std::make_shared<const RgbImage>(frame));
  }
  return item;
}

}  // namespace

TEST(every_bit_of_the_bytes_counts_and_so_does_their_number) {
  std::unordered_set<ContentHash> seen;
  size_t count = 0;
  for (size_t length = 0; length <= 40; ++length) {
    std::vector<uint8_t> bytes(length, 0);
    const auto hash_of = [&] {
      ContentHasher hasher;
      hasher.add(std::span<const uint8_t>(bytes));
      return hasher.finish();
    };
    CHECK(hash_of() == hash_of());
    seen.insert(hash_of());
    ++count;
    for (size_t bit = 0; bit < 8 * length; ++bit) {
      bytes[bit / 8] = static_cast<uint8_t>(1u << (bit % 8));
      seen.insert(hash_of());
      ++count;
      bytes[bit / 8] = 0;
    }
  }
  CHECK_EQ(seen.size(), count);
}

TEST(the_order_of_values_counts) {
  const auto hash_of = [](std::vector<uint64_t> values) {
    ContentHasher hasher;
    for (const uint64_t value : values) hasher.add(value);
    return hasher.finish();
  };
  CHECK(hash_of({1, 2}) == hash_of({1, 2}));
  CHECK(!(hash_of({1, 2}) == hash_of({2, 1})));
  CHECK(!(hash_of({0}) == hash_of({0, 0})));
  CHECK(hash_of({}).known());
}

TEST(images_differ_by_pixels_and_shape) {
  CHECK(content_hash(grey(28, 56, 3)) == content_hash(grey(28, 56, 3)));
  CHECK(!(content_hash(grey(28, 56, 3)) == content_hash(grey(56, 28, 3))));
  CHECK(!(content_hash(grey(28, 56, 3)) == content_hash(grey(28, 56, 4))));
  RgbImage one_off = grey(28, 56, 3);
  one_off.pixels.back() = 2;
  CHECK(!(content_hash(grey(28, 56, 3)) == content_hash(one_off)));
}

TEST(items_differ_by_kind_frames_and_their_order) {
  const RgbImage a = grey(28, 28, 1), b = grey(28, 28, 2);
  const ContentHash hash = content_hash(item_of({a, b}, true));
  CHECK(hash == content_hash(item_of({a, b}, true)));
  CHECK(!(hash == content_hash(item_of({b, a}, true))));
  CHECK(!(hash == content_hash(item_of({a, b, b}, true))));
  CHECK(!(content_hash(item_of({a}, true)) == content_hash(item_of({a}, false))));
  // A hash that was worked out with the image is the one that is worked out now.
  RgbImage known = a;
  known.content = content_hash(a);
  CHECK(hash == content_hash(item_of({known, b}, true)));
}
