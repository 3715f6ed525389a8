#pragma once

#include <span>
#include <string>

namespace qvl::cuda {

/// A shared library opened at run time. It stays open until the process ends: libraries that start
/// threads of their own do not survive being closed.
class Library {
 public:
  /// Opens the first of `names` that can be opened. When none can, is_open() is false and error()
  /// holds what the system said of each.
  static Library open(std::span<const std::string> names);

  bool is_open() const { return handle_ != nullptr; }
  const std::string& error() const { return error_; }
  /// The file, with its folder where the system tells.
  const std::string& path() const { return path_; }
  /// Null when the library has no such function.
  void* find(const char* symbol) const;

 private:
  void* handle_ = nullptr;
  std::string path_;
  std::string error_;
};

}  // namespace qvl::cuda
