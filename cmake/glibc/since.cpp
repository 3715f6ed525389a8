// What newer versions of glibc added and this build would take from there, for glibc back to 2.25.
// Linked into portable builds alone. Nothing of it is seen outside the addon.
#include <sys/random.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>

extern "C" {

// Since 2.32: whether the process has one thread. A service has several; false is right for all.
__attribute__((visibility("hidden"))) extern char __libc_single_threaded;
char __libc_single_threaded = 0;

int __fxstat(int version, int file, struct stat* status) noexcept;

// Since 2.33: before, an inline function that called __fxstat.
__attribute__((visibility("hidden"))) int fstat(int file, struct stat* status) noexcept {
#if defined(__x86_64__)
  constexpr int kVersion = 1;
#else
  constexpr int kVersion = 0;
#endif
  return __fxstat(kVersion, file, status);
}

// The same where off_t has 64 bits anyway.
static_assert(sizeof(off_t) == 8);
__attribute__((visibility("hidden"), alias("fstat"))) int fstat64(int file,
                                                                  struct stat64* status) noexcept;

// Since 2.36: std::random_device of GCC 12 reads it.
__attribute__((visibility("hidden"))) std::uint32_t arc4random() noexcept {
  std::uint32_t value;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}
}
