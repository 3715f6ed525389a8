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
  /// The same with the function's type; false when there is none.
  template <class Function>
  bool find(const char* symbol, Function** function) const {
    *function = reinterpret_cast<Function*>(find(symbol));
    return *function != nullptr;
  }

 private:
  void* handle_ = nullptr;
  std::string path_;
  std::string error_;
};

/// Defines find_functions(library, functions), which fills a table from a list of
/// X(member, symbol, parameters): it returns the symbol of the first function that is missing, or
/// null.
#define QVL_DEFINE_FIND_FUNCTIONS(list, Functions)                           \
  const char* find_functions(const Library& library, Functions* functions) { \
    list(QVL_FIND_FUNCTION) return nullptr;                                  \
  }
#define QVL_FIND_FUNCTION(member, symbol, parameters) \
  if (!library.find(#symbol, &functions->member)) return #symbol;

}  // namespace qvl::cuda
