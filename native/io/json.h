#pragma once

// Strict, bounded JSON reader (RFC 8259) for text that nobody vouches for: a pull parser that
// builds no tree, so its memory is the caller's choice. UTF-8 is checked, nesting is limited,
// duplicate keys are found, and integers never overflow.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace qvl {

enum class JsonKind : uint8_t { kObject, kArray, kString, kNumber, kBool, kNull };

struct JsonOptions {
  std::string error_code;  ///< `code` of the Error thrown for invalid text
  std::string source;      ///< file name (or the like) that opens every message
  int max_depth = 32;      ///< nesting of objects and arrays
};

/// Reads values one after the other in the order of the text. Each read_* call consumes exactly one
/// value; callbacks must consume the member's or element's value (skip_value() when it is of no
/// interest). After an Error the reader is not to be used any more.
class JsonReader {
 public:
  /// `text` must outlive the reader.
  JsonReader(std::string_view text, JsonOptions options);

  /// Kind of the value that comes next, without consuming it.
  JsonKind kind();

  using OnMember = std::function<void(const std::string& key)>;
  using OnElement = std::function<void()>;
  /// A key that occurs twice goes to `on_duplicate` where one is given (it may throw its own error,
  /// and if it returns, the text is refused all the same).
  void read_object(const OnMember& on_member, const OnMember& on_duplicate = {});
  void read_array(const OnElement& on_element);

  /// The string's characters as UTF-8, escapes resolved.
  std::string read_string();
  /// The number as written; its grammar is checked. See json_int64().
  std::string_view read_number();
  bool read_bool();
  void read_null();
  /// Checks one value of any kind and drops it.
  void skip_value();

  /// Expects the end of the text: nothing but white space is left.
  void finish();

  /// Throws Error(error_code) that names the source and the current position.
  [[noreturn]] void fail(const std::string& what) const;

 private:
  char peek();
  void skip_space();
  bool consume(char c);
  void expect(char c);
  void expect_word(std::string_view word);
  void enter();
  uint32_t read_hex4();
  void read_escape(std::string& out);
  void copy_utf8(std::string& out);
  size_t skip_digits();

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  JsonOptions options_;
};

/// Value of a number token if it is written as an integer and fits; empty for fractions, exponents
/// and anything outside int64.
std::optional<int64_t> json_int64(std::string_view number);

}  // namespace qvl
