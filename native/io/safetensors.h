#pragma once

// Reader for the safetensors format (https://huggingface.co/docs/safetensors): 8 bytes of header
// length, a JSON header, then the tensors' bytes. Nothing that a file says is trusted.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace qvl {

struct TensorEntry {
  std::string name;
  std::string dtype;  // as written: "BF16", "F16", "F32", "I32", ...; any type of the format
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // byte range in the file, header included
  uint64_t end = 0;
  int file = 0;  // index in Checkpoint::files()
};

/// "[2, 3]", for messages.
std::string shape_text(const std::vector<int64_t>& shape);

/// Parses and checks one file's header. `header` is the JSON text, `data_size` the number of bytes
/// after it. The result is in the order of the data, and offsets in it are relative to the data
/// section: the ranges cover it from the first byte to the last without hole or overlap. Throws
/// Error with ERR_CHECKPOINT_HEADER, _OFFSETS, _TRUNCATED, _SHAPE, _DTYPE or _DUPLICATE_TENSOR.
/// This is what the fuzzer drives.
std::vector<TensorEntry> parse_safetensors_header(std::string_view header, uint64_t data_size,
                                                  const std::string& file_name);

/// The largest header accepted, as in the reference library.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// The opened weight files of a checkpoint: one table of tensors over all shards.
class Checkpoint {
 public:
  /// Opens the files and reads their headers. Throws Error(ERR_CHECKPOINT_*) with details
  /// `file` and `tensor`: missing or truncated file, bad header, a name that two files hold.
  static std::shared_ptr<const Checkpoint> open(const std::vector<std::string>& paths);

  const std::vector<std::string>& files() const { return paths_; }
  const std::map<std::string, TensorEntry, std::less<>>& tensors() const { return tensors_; }
  /// Null when there is no such tensor.
  const TensorEntry* find(std::string_view name) const;

  /// Reads bytes [offset, offset + size) of the tensor's data into `out`. Thread-safe (pread).
  /// Throws Error(ERR_CHECKPOINT_TRUNCATED / ERR_CHECKPOINT_READ).
  void read(const TensorEntry& tensor, uint64_t offset, uint64_t size, void* out) const;
  /// Tells the system that these bytes will be read soon. Only advice; thread-safe.
  void prefetch(const TensorEntry& tensor, uint64_t offset, uint64_t size) const;

 private:
  friend class CheckpointMapping;
  Checkpoint() = default;
  std::vector<std::string> paths_;
  std::vector<InputFile> inputs_;
  std::map<std::string, TensorEntry, std::less<>> tensors_;
};

/// A checkpoint's files as read-only memory; see FileMapping for what that asks of the files.
class CheckpointMapping {
 public:
  /// Throws Error(ERR_CHECKPOINT_READ), or as check_unchanged() when a file is no longer what its
  /// header was read from.
  explicit CheckpointMapping(std::shared_ptr<const Checkpoint> checkpoint);

  /// The tensor's bytes; of no alignment.
  const void* data(const TensorEntry& tensor) const;
  /// Throws Error(ERR_CHECKPOINT_TRUNCATED / ERR_CHECKPOINT_CHANGED) when a file is not what it
  /// was. Cheap enough for every step: what happens between two checks is all that can still be
  /// missed.
  void check_unchanged() const;

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;  // keeps the files open
  std::vector<FileMapping> mappings_;
  std::vector<InputFile::State> states_;
};

}  // namespace qvl
