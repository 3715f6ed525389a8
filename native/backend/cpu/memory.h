#pragma once

#include <cstddef>
#include <cstdint>

namespace qvl {

/// How the pages of a PageMemory come into being; huge ones where the system has them.
enum class PageUse : uint8_t {
  kHuge,  // used in full soon
  kLazy,  // a pool that is used bit by bit: nothing is promised, pages are committed when touched
};

/// Zeroed, page-aligned memory straight from the system, given back by the destructor.
class PageMemory {
 public:
  PageMemory() = default;
  /// Throws Error(ERR_OUT_OF_MEMORY); `purpose` is for its message ("a weight of 3 GB").
  PageMemory(size_t bytes, PageUse use, const char* purpose);
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;

  void* data() const { return data_; }
  size_t size_bytes() const { return bytes_; }
  /// Gives the pages back to the system; the memory stays usable and is then zero or unchanged.
  void discard();

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace qvl
