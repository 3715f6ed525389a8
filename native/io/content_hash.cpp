#include "io/content_hash.h"

#include <bit>
#include <cstring>
#include <random>

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

#include "io/image.h"

namespace qvl {
namespace {

struct Keys {
  uint64_t start_a, start_b, a, b, c, d;
};

const Keys& keys() {
  static const Keys drawn = [] {
    std::random_device device;
    const auto draw = [&] {
      const uint64_t high = device();
      return (high << 32 | device()) | 1;  // odd: never a factor of zero
    };
    return Keys{draw(), draw(), draw(), draw(), draw(), draw()};
  }();
  return drawn;
}

/// The high half of x * y xor the low half.
uint64_t fold(uint64_t x, uint64_t y) {
#if defined(__SIZEOF_INT128__)
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(x) * y;
  return static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
#elif defined(_MSC_VER) && defined(_M_X64)
  uint64_t high = 0;
  const uint64_t low = _umul128(x, y, &high);
  return high ^ low;
#else
  const uint64_t x0 = x & 0xffffffff, x1 = x >> 32, y0 = y & 0xffffffff, y1 = y >> 32;
  const uint64_t middle = x1 * y0 + (x0 * y0 >> 32);
  const uint64_t other = x0 * y1 + (middle & 0xffffffff);
  return (x1 * y1 + (middle >> 32) + (other >> 32)) ^ (x * y);
#endif
}

}  // namespace

ContentHasher::ContentHasher() : a_(keys().start_a), b_(keys().start_b) {}

void ContentHasher::mix(uint64_t first, uint64_t second) {
  a_ = fold(a_ ^ first, second ^ keys().a);
  b_ = fold(b_ ^ std::rotl(second, 29), first ^ keys().b);
}

void ContentHasher::add(std::span<const uint8_t> bytes) {
  uint64_t words[2];
  size_t at = 0;
  for (; at + sizeof(words) <= bytes.size(); at += sizeof(words)) {
    std::memcpy(words, bytes.data() + at, sizeof(words));
    mix(words[0], words[1]);
  }
  words[0] = words[1] = 0;
  if (at < bytes.size()) std::memcpy(words, bytes.data() + at, bytes.size() - at);
  mix(words[0], words[1]);
  mix(bytes.size(), 0);
}

ContentHash ContentHasher::finish() const {
  const ContentHash hash{fold(a_ ^ keys().c, b_ ^ keys().d), fold(b_ ^ keys().c, a_ ^ keys().d)};
  return hash.known() ? hash : ContentHash{1, 1};
}

ContentHash content_hash(const RgbImage& image) {
  ContentHasher hasher;
  hasher.add(static_cast<uint64_t>(image.width));
  hasher.add(static_cast<uint64_t>(image.height));
  hasher.add(std::span<const uint8_t>(image.pixels));
  return hasher.finish();
}

ContentHash content_hash(const VisionItem& item) {
  ContentHasher hasher;
  hasher.add(item.is_video ? 1 : 0);
  hasher.add(item.frames.size());
  for (const auto& frame : item.frames) {
    hasher.add(frame->content.known() ? frame->content : content_hash(*frame));
  }
  return hasher.finish();
}

}  // namespace qvl
