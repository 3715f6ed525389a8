#pragma once

// A regular file opened for reads at any offset from any thread.

#include <cstdint>
#include <string>

namespace qvl {

class InputFile {
 public:
  /// Throws Error(ERR_CHECKPOINT_MISSING_FILE) when the file is absent, unreadable or not regular.
  explicit InputFile(const std::string& path);  // UTF-8
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  /// Size in bytes when it was opened.
  uint64_t size() const { return size_; }

  /// Reads up to `size` bytes at `offset`; returns how many there were before the end of the file.
  /// Throws Error(ERR_CHECKPOINT_READ). Thread-safe.
  uint64_t read_at(uint64_t offset, uint64_t size, void* out) const;
  /// Tells the system that these bytes will be read soon; it may fetch them meanwhile.
  void prefetch(uint64_t offset, uint64_t size) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace qvl
