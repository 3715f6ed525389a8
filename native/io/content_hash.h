#pragma once

// 128-bit hashes by which pixels and KV blocks are found again. The keys are drawn once a process,
// so that nobody outside can make two contents collide; a hash means nothing to another process.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace qvl {

/// The hash of some content. All zeros: not known.
struct ContentHash {
  uint64_t a = 0, b = 0;

  bool known() const { return (a | b) != 0; }
  bool operator==(const ContentHash&) const = default;
};

/// Two independent lanes of folded 64 x 64 -> 128-bit products over all that is added.
class ContentHasher {
 public:
  ContentHasher();

  void add(uint64_t value) { mix(value, 0); }
  void add(const ContentHash& hash) { mix(hash.a, hash.b); }
  /// The bytes and their number.
  void add(std::span<const uint8_t> bytes);
  /// Never all zeros.
  ContentHash finish() const;

 private:
  void mix(uint64_t first, uint64_t second);

  uint64_t a_, b_;
};

}  // namespace qvl

template <>
struct std::hash<qvl::ContentHash> {
  size_t operator()(const qvl::ContentHash& content) const noexcept {
    return static_cast<size_t>(content.a);
  }
};
