#pragma once

// A regular file opened for reads at any offset from any thread, or as memory.

#include <cstddef>
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

  /// What tells whether a file is still the one that was opened.
  struct State {
    uint64_t size = 0;
    int64_t modified_ns = 0;  // since 1970
    bool operator==(const State&) const = default;
  };
  /// The file's state now. Throws Error(ERR_CHECKPOINT_READ).
  State state() const;

 private:
  friend class FileMapping;
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// A file as read-only memory: its pages come when they are first touched, are shared with other
/// processes, and may go when memory is short. Touching what is no longer in the file, or on a disk
/// that fails, ends the process (SIGBUS), so nobody may shorten the file meanwhile.
class FileMapping {
 public:
  /// The file may be closed afterwards. Throws Error(ERR_CHECKPOINT_READ).
  explicit FileMapping(const InputFile& file);
  ~FileMapping();
  FileMapping(FileMapping&& other) noexcept;
  FileMapping& operator=(FileMapping&&) = delete;

  /// [size] bytes; null when the file is empty.
  const char* data() const { return static_cast<const char*>(data_); }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace qvl
