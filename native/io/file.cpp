#include "io/file.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "common/error.h"

#ifdef _WIN32
#define NOMINMAX
#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <sys/stat.h>
#include <windows.h>

#include <filesystem>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace qvl {
namespace {

// Linux transfers at most 0x7ffff000 bytes a call, macOS refuses more than INT_MAX.
constexpr uint64_t kMaxBytesPerRead = uint64_t{1} << 30;

[[noreturn]] void fail_open(const std::string& path, const std::string& reason) {
  throw Error("ERR_CHECKPOINT_MISSING_FILE",
              path + ": " + reason +
                  "; expected a readable weight file. Check the folder, or download the file again",
              {{"file", path}});
}

[[noreturn]] void fail_read(const std::string& path, const std::string& reason) {
  throw Error("ERR_CHECKPOINT_READ", path + ": read failed: " + reason, {{"file", path}});
}

[[noreturn]] void fail_map(const std::string& path, const std::string& reason) {
  throw Error("ERR_CHECKPOINT_READ",
              path + ": cannot be mapped into memory: " + reason +
                  ". Load with weights: 'packed', which reads the file",
              {{"file", path}});
}

std::string errno_text(int error) { return std::generic_category().message(error); }

#ifdef _WIN32

int open_file(const std::string& path, uint64_t& size) {
  int descriptor = -1;
  const std::wstring wide =
      std::filesystem::path(std::u8string(path.begin(), path.end())).wstring();
  const int error =
      _wsopen_s(&descriptor, wide.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT, _SH_DENYNO, 0);
  if (error != 0) fail_open(path, errno_text(error));
  struct _stat64 info;
  if (_fstat64(descriptor, &info) != 0 || (info.st_mode & _S_IFREG) == 0) {
    _close(descriptor);
    fail_open(path, "is not a regular file");
  }
  size = static_cast<uint64_t>(info.st_size);
  return descriptor;
}

void close_file(int descriptor) { _close(descriptor); }

uint64_t read_some(int descriptor, uint64_t offset, uint64_t size, char* out,
                   const std::string& path) {
  OVERLAPPED position = {};
  position.Offset = static_cast<DWORD>(offset);
  position.OffsetHigh = static_cast<DWORD>(offset >> 32);
  const auto handle = reinterpret_cast<HANDLE>(_get_osfhandle(descriptor));
  DWORD count = 0;
  if (!ReadFile(handle, out, static_cast<DWORD>(size), &count, &position)) {
    const DWORD error = GetLastError();
    if (error == ERROR_HANDLE_EOF) return 0;
    fail_read(path, std::system_category().message(static_cast<int>(error)));
  }
  return count;
}

InputFile::State state_of(int descriptor, const std::string& path) {
  struct _stat64 info;
  if (_fstat64(descriptor, &info) != 0) fail_read(path, errno_text(errno));
  return {static_cast<uint64_t>(info.st_size), int64_t{info.st_mtime} * 1'000'000'000};
}

void* map_file(int descriptor, size_t size, const std::string& path) {
  const auto handle = reinterpret_cast<HANDLE>(_get_osfhandle(descriptor));
  const HANDLE mapping = CreateFileMappingW(handle, nullptr, PAGE_READONLY, 0, 0, nullptr);
  void* const data =
      mapping == nullptr ? nullptr : MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, size);
  const DWORD error = GetLastError();
  if (mapping != nullptr) CloseHandle(mapping);  // the view keeps it
  if (data == nullptr) {
    fail_map(path, std::system_category().message(static_cast<int>(error)));
  }
  return data;
}

void unmap_file(void* data, size_t) { UnmapViewOfFile(data); }

// Windows reads ahead by itself, as it sees how a file is read.
void advise_read(int, uint64_t, uint64_t) {}

#else

int open_file(const std::string& path, uint64_t& size) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer. It means nothing for regular files.
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) fail_open(path, errno_text(errno));
  struct stat info;
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    fail_open(path, "is not a regular file");
  }
  size = static_cast<uint64_t>(info.st_size);
  return descriptor;
}

void close_file(int descriptor) { ::close(descriptor); }

uint64_t read_some(int descriptor, uint64_t offset, uint64_t size, char* out,
                   const std::string& path) {
  ssize_t count = 0;
  do {
    count = ::pread(descriptor, out, static_cast<size_t>(size), static_cast<off_t>(offset));
  } while (count < 0 && errno == EINTR);
  if (count < 0) fail_read(path, errno_text(errno));
  return static_cast<uint64_t>(count);
}

InputFile::State state_of(int descriptor, const std::string& path) {
  struct stat info;
  if (::fstat(descriptor, &info) != 0) fail_read(path, errno_text(errno));
#ifdef __APPLE__
  const timespec& modified = info.st_mtimespec;
#else
  const timespec& modified = info.st_mtim;
#endif
  return {static_cast<uint64_t>(info.st_size),
          int64_t{modified.tv_sec} * 1'000'000'000 + int64_t{modified.tv_nsec}};
}

void* map_file(int descriptor, size_t size, const std::string& path) {
  void* const data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) fail_map(path, errno_text(errno));
  return data;
}

void unmap_file(void* data, size_t size) { ::munmap(data, size); }

void advise_read(int descriptor, uint64_t offset, uint64_t size) {
#if defined(__APPLE__)
  radvisory advice = {};
  advice.ra_offset = static_cast<off_t>(offset);
  advice.ra_count = static_cast<int>(std::min<uint64_t>(size, kMaxBytesPerRead));
  ::fcntl(descriptor, F_RDADVISE, &advice);
#elif defined(POSIX_FADV_WILLNEED)
  ::posix_fadvise(descriptor, static_cast<off_t>(offset), static_cast<off_t>(size),
                  POSIX_FADV_WILLNEED);
#else
  static_cast<void>(descriptor), static_cast<void>(offset), static_cast<void>(size);
#endif
}

#endif

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // An embedded NUL would silently open another file.
  if (path.empty() || path.find('\0') != std::string::npos) {
    fail_open(path.substr(0, path.find('\0')), "is not a file name");
  }
  descriptor_ = open_file(path, size_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(other.descriptor_), size_(other.size_) {
  other.descriptor_ = -1;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) close_file(descriptor_);
}

uint64_t InputFile::read_at(uint64_t offset, uint64_t size, void* out) const {
  char* to = static_cast<char*>(out);
  uint64_t done = 0;
  while (done < size) {
    const uint64_t want = std::min(size - done, kMaxBytesPerRead);
    const uint64_t got = read_some(descriptor_, offset + done, want, to + done, path_);
    if (got == 0) break;  // end of file
    done += got;
  }
  return done;
}

void InputFile::prefetch(uint64_t offset, uint64_t size) const {
  advise_read(descriptor_, offset, size);
}

InputFile::State InputFile::state() const { return state_of(descriptor_, path_); }

FileMapping::FileMapping(const InputFile& file) {
  if (file.size_ == 0) return;  // an empty file cannot be mapped
  if (file.size_ > std::numeric_limits<size_t>::max()) {
    fail_map(file.path_, "it is larger than the address space");
  }
  size_ = static_cast<size_t>(file.size_);
  data_ = map_file(file.descriptor_, size_, file.path_);
}

FileMapping::FileMapping(FileMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FileMapping::~FileMapping() {
  if (data_ != nullptr) unmap_file(data_, size_);
}

}  // namespace qvl
