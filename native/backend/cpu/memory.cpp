#include "backend/cpu/memory.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "backend/cpu/cpu_features.h"
#include "common/error.h"

#if defined(__linux__) || defined(__APPLE__)
#define QVL_HAS_MMAP 1
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace qvl {
namespace {

constexpr size_t kAlignment = 64;
// Of x86-64, and of arm64 with base pages of 4 KiB.
constexpr size_t kHugePageBytes = size_t{2} << 20;
// Smaller requests are not worth the look at the system's free memory.
constexpr size_t kCheckedBytes = size_t{16} << 20;

[[noreturn]] void throw_out_of_memory(size_t bytes, const char* purpose, uint64_t available) {
  const auto required = static_cast<int64_t>(bytes);
  std::vector<Error::Detail> details = {{"required_bytes", required}};
  std::string message = "Not enough memory for " + std::string(purpose) + ": " +
                        std::to_string(bytes) + " bytes were needed";
  if (available != 0) {
    message += ", " + std::to_string(available) + " are available";
    details.emplace_back("available_bytes", static_cast<int64_t>(available));
  }
  throw Error("ERR_OUT_OF_MEMORY",
              message +
                  ". Close other programs, lower the context or batch size, or use a "
                  "smaller model.",
              std::move(details));
}

#ifdef QVL_HAS_MMAP

void* map_pages(size_t bytes, int extra_flags) {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1,
              0);
}

// Pages from a border of huge pages on: older kernels place a map anywhere, and its first and last
// part then have small pages only. MAP_FAILED when there is no memory.
void* map_huge_pages(size_t bytes, int flags) {
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugePageBytes && bytes <= std::numeric_limits<size_t>::max() - kHugePageBytes) {
    const size_t reserved = bytes + kHugePageBytes;
    void* const begin = map_pages(reserved, flags);
    if (begin == MAP_FAILED) return MAP_FAILED;
    const auto address = reinterpret_cast<uintptr_t>(begin);
    const size_t before = (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
    char* const data = static_cast<char*>(begin) + before;
    if (before != 0) munmap(begin, before);
    // Rounded up to whole pages, or the rest of the last one would be given back as well.
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t used = (bytes + page - 1) / page * page;
    if (before + used < reserved) munmap(data + used, reserved - before - used);
    // 4 KiB pages cost a fifth to a third of the bandwidth of a virtual machine. Only advice.
    madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }
#endif
  return map_pages(bytes, flags);
}

#endif

// Linux promises memory that it does not have and kills the process later; so ask first.
void check_available(size_t bytes, const char* purpose) {
  if (bytes < kCheckedBytes) return;
  const uint64_t available = available_memory_bytes();
  if (available != 0 && bytes > available) throw_out_of_memory(bytes, purpose, available);
}

}  // namespace

PageMemory::PageMemory(size_t bytes, PageUse use, const char* purpose) {
  if (bytes == 0) return;
  if (use == PageUse::kHuge) check_available(bytes, purpose);
#ifdef QVL_HAS_MMAP
  int flags = 0;
#ifdef MAP_NORESERVE
  if (use == PageUse::kLazy) flags = MAP_NORESERVE;
#endif
  void* data = map_huge_pages(bytes, flags);
  if (data == MAP_FAILED) throw_out_of_memory(bytes, purpose, 0);
#else
  void* data = ::operator new(bytes, std::align_val_t(kAlignment), std::nothrow);
  if (data == nullptr) throw_out_of_memory(bytes, purpose, 0);
  std::memset(data, 0, bytes);
#endif
  data_ = data;
  bytes_ = bytes;
}

PageMemory::~PageMemory() {
  if (data_ == nullptr) return;
#ifdef QVL_HAS_MMAP
  munmap(data_, bytes_);
#else
  ::operator delete(data_, std::align_val_t(kAlignment));
#endif
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void PageMemory::discard() {
#if defined(__linux__)
  if (data_ != nullptr) madvise(data_, bytes_, MADV_DONTNEED);
#elif defined(MADV_FREE)
  if (data_ != nullptr) madvise(data_, bytes_, MADV_FREE);
#endif
}

}  // namespace qvl
