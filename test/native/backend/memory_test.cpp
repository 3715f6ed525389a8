#include "backend/cpu/memory.h"

#include <cstring>
#include <utility>
#include <vector>

#include "check.h"

namespace qvl {

TEST(memory_is_zeroed_aligned_and_usable_to_its_end) {
  for (const PageUse use : {PageUse::kHuge, PageUse::kLazy}) {
    for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{3} << 20}) {
      const PageMemory memory(bytes, use, "a test");
      auto* data = static_cast<char*>(memory.data());
      CHECK_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
      CHECK_EQ(memory.size_bytes(), bytes);
      CHECK_EQ(data[0] + data[bytes - 1], 0);
      std::memset(data, 1, bytes);
    }
  }
}

TEST(memory_for_huge_pages_begins_at_one) {
  for (const size_t bytes : {size_t{2} << 20, (size_t{2} << 20) + 1, size_t{5} << 20}) {
    // Several at once, so that chance does not align them all.
    std::vector<PageMemory> maps;
    for (int i = 0; i < 4; ++i) maps.emplace_back(bytes, PageUse::kHuge, "a test");
    for (const PageMemory& memory : maps) {
      auto* data = static_cast<char*>(memory.data());
#ifdef __linux__
      CHECK_EQ(reinterpret_cast<uintptr_t>(data) % (size_t{2} << 20), 0u);
#endif
      std::memset(data, 1, bytes);
    }
  }
}

TEST(memory_can_be_moved_and_discarded) {
  PageMemory a(1 << 16, PageUse::kLazy, "a test");
  void* const data = a.data();
  std::memset(data, 7, 1 << 16);
  PageMemory b = std::move(a);
  CHECK_EQ(b.data(), data);
  CHECK(a.data() == nullptr);  // NOLINT(bugprone-use-after-move): empty by contract
  b.discard();
  CHECK(static_cast<char*>(b.data())[100] == 0 || static_cast<char*>(b.data())[100] == 7);
  std::memset(data, 3, 1 << 16);
  b = PageMemory();
  CHECK(b.data() == nullptr);
}

TEST(a_pool_may_be_larger_than_what_is_ever_used) {
  const PageMemory memory(size_t{64} << 30, PageUse::kLazy, "a test");
  static_cast<char*>(memory.data())[size_t{63} << 30] = 1;
}

TEST(more_than_the_machine_has_is_refused_with_the_bytes_needed) {
  constexpr size_t kTooMuch = size_t{1} << 46;
  const std::string message =
      CHECK_ERROR("ERR_OUT_OF_MEMORY", PageMemory(kTooMuch, PageUse::kHuge, "the test's wish"));
  CHECK(message.find("the test's wish") != std::string::npos);
  CHECK(message.find("70368744177664") != std::string::npos);
  try {
    const PageMemory memory(kTooMuch, PageUse::kHuge, "x");
  } catch (const Error& error) {
    CHECK_EQ(error.details().front().first, "required_bytes");
    CHECK_EQ(std::get<int64_t>(error.details().front().second), int64_t{1} << 46);
  }
}

}  // namespace qvl
