#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "host_kernels.h"

namespace qvl::sim {
namespace {

constexpr size_t kArenaBytes = size_t{1} << 36;
constexpr size_t kGap = 4096;  // at least this lies between two allocations

void* reserve(size_t bytes, void* where = nullptr) {
  const int fixed = where == nullptr ? 0 : MAP_FIXED_NOREPLACE;
  void* at = mmap(where, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return at;
}

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static auto* memory = new DeviceMemory;  // outlives every other static
  return *memory;
}

DeviceMemory::DeviceMemory()
    : arena_(static_cast<unsigned char*>(reserve(
          kArenaBytes, uses_host_kernels() ? reinterpret_cast<void*>(kGlobalWindow) : nullptr))),
      shadow_(static_cast<GlobalShadow*>(reserve(kArenaBytes / 2 * sizeof(GlobalShadow)))),
      sectors_(static_cast<uint32_t*>(reserve(kArenaBytes / 32 * sizeof(uint32_t)))),
      details_(static_cast<uint32_t*>(reserve(kArenaBytes / 2 * sizeof(uint32_t)))) {}

size_t DeviceMemory::capacity() const {
  const char* text = std::getenv("QWEN2_VL_SIM_MEMORY");
  return text ? std::strtoull(text, nullptr, 10) : size_t{2} << 30;
}

size_t DeviceMemory::free() const {
  const size_t all = capacity();
  return all - std::min(used(), all);
}

size_t DeviceMemory::used() const {
  std::lock_guard lock(mutex_);
  return used_;
}

uint64_t DeviceMemory::allocate(size_t bytes) {
  std::lock_guard lock(mutex_);
  // As on a device, an allocation occupies multiples of 512 bytes.
  const size_t rounded = (bytes + 511) / 512 * 512;
  if (bytes == 0 || rounded < bytes || rounded > capacity() - std::min(used_, capacity())) return 0;
  const size_t span = (rounded + 2 * kGap + 4095) / 4096 * 4096;
  if (next_ + span > kArenaBytes) {  // start over behind the last of those that still live
    next_ = 0;
    for (const auto& [address, size] : live_) {
      const uint64_t begin = address - kGlobalWindow;
      if (begin >= next_ + span) break;
      next_ = (begin + size + 2 * kGap) / 4096 * 4096;
    }
    if (next_ + span > kArenaBytes) return 0;
  }
  const uint64_t address = kGlobalWindow + next_ + kGap;
  next_ += span;
  live_[address] = bytes;
  used_ += rounded;
  std::memset(host(address), 0xff, bytes);
  return address;
}

bool DeviceMemory::release(uint64_t address) {
  std::lock_guard lock(mutex_);
  const auto it = live_.find(address);
  if (it == live_.end()) return false;
  const size_t rounded = (it->second + 511) / 512 * 512;
  used_ -= rounded;
  // Pages given back are zero when touched again: nobody is known to have written or read them.
  const size_t pages = (rounded + 4095) / 4096 * 4096;
  madvise(host(address), pages, MADV_DONTNEED);
  madvise(shadow(address), pages / 2 * sizeof(GlobalShadow), MADV_DONTNEED);
  madvise(writer_detail(address), pages / 2 * sizeof(uint32_t), MADV_DONTNEED);
  live_.erase(it);
  return true;
}

Allocation DeviceMemory::find(uint64_t at, size_t bytes) const {
  std::lock_guard lock(mutex_);
  auto it = live_.upper_bound(at);
  if (it == live_.begin()) return {};
  --it;
  const Allocation found{it->first, it->second};
  return found.contains(at, bytes) ? found : Allocation{};
}

std::string DeviceMemory::describe(uint64_t at) const {
  std::lock_guard lock(mutex_);
  char text[160];
  auto it = live_.upper_bound(at);
  if (it == live_.begin()) {
    std::snprintf(text, sizeof text, "address 0x%llx, before every allocation",
                  static_cast<unsigned long long>(at));
    return text;
  }
  --it;
  const uint64_t end = it->first + it->second;
  std::snprintf(text, sizeof text,
                "address 0x%llx, %lld bytes after the end of an allocation of %zu bytes",
                static_cast<unsigned long long>(at), static_cast<long long>(at - end), it->second);
  return text;
}

std::vector<Allocation> DeviceMemory::live() const {
  std::lock_guard lock(mutex_);
  std::vector<Allocation> all;
  for (const auto& [address, bytes] : live_) all.push_back({address, bytes});
  return all;
}

}  // namespace qvl::sim
