#include "io/json.h"

#include <charconv>
#include <unordered_set>
#include <utility>

#include "common/error.h"

namespace qvl {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

void append_utf8(std::string& out, uint32_t code_point) {
  const auto push = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
    push(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    push(0xE0 | (code_point >> 12));
    push(0x80 | ((code_point >> 6) & 0x3F));
    push(0x80 | (code_point & 0x3F));
  } else {
    push(0xF0 | (code_point >> 18));
    push(0x80 | ((code_point >> 12) & 0x3F));
    push(0x80 | ((code_point >> 6) & 0x3F));
    push(0x80 | (code_point & 0x3F));
  }
}

/// Length in bytes of the well-formed UTF-8 sequence at the front of `s` (Unicode table 3-7: no
/// overlong forms, no surrogates, nothing above U+10FFFF), or 0.
size_t utf8_sequence_length(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(byte(i))) return 0;
  }
  const unsigned char second = byte(1);
  if (lead == 0xE0 && second < 0xA0) return 0;
  if (lead == 0xED && second > 0x9F) return 0;
  if (lead == 0xF0 && second < 0x90) return 0;
  if (lead == 0xF4 && second > 0x8F) return 0;
  return length;
}

}  // namespace

JsonReader::JsonReader(std::string_view text, JsonOptions options)
    : text_(text), options_(std::move(options)) {}

void JsonReader::fail(const std::string& what) const {
  throw Error(options_.error_code,
              options_.source + ": invalid JSON at byte " + std::to_string(at_) + ": " + what,
              {{"file", options_.source}});
}

void JsonReader::skip_space() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
    ++at_;
  }
}

char JsonReader::peek() {
  skip_space();
  if (at_ >= text_.size()) fail("the text ends where more was expected");
  return text_[at_];
}

bool JsonReader::consume(char c) {
  if (peek() != c) return false;
  ++at_;
  return true;
}

void JsonReader::expect(char c) {
  if (!consume(c)) fail(std::string("expected '") + c + "'");
}

void JsonReader::expect_word(std::string_view word) {
  skip_space();
  if (text_.substr(at_, word.size()) != word) fail("expected '" + std::string(word) + "'");
  at_ += word.size();
}

void JsonReader::enter() {
  if (++depth_ > options_.max_depth) {
    fail("nested deeper than " + std::to_string(options_.max_depth) + " levels");
  }
}

JsonKind JsonReader::kind() {
  const char c = peek();
  switch (c) {
    case '{':
      return JsonKind::kObject;
    case '[':
      return JsonKind::kArray;
    case '"':
      return JsonKind::kString;
    case 't':
    case 'f':
      return JsonKind::kBool;
    case 'n':
      return JsonKind::kNull;
    default:
      if (c == '-' || is_digit(c)) return JsonKind::kNumber;
      fail("expected a value");
  }
}

void JsonReader::read_object(const OnMember& on_member, const OnMember& on_duplicate) {
  expect('{');
  enter();
  std::unordered_set<std::string> keys;
  if (!consume('}')) {
    do {
      const auto [key, is_new] = keys.insert(read_string());
      if (!is_new) {
        if (on_duplicate) on_duplicate(*key);
        fail("a key occurs twice in one object");
      }
      expect(':');
      on_member(*key);
    } while (consume(','));
    expect('}');
  }
  --depth_;
}

void JsonReader::read_array(const OnElement& on_element) {
  expect('[');
  enter();
  if (!consume(']')) {
    do {
      on_element();
    } while (consume(','));
    expect(']');
  }
  --depth_;
}

std::string JsonReader::read_string() {
  expect('"');
  std::string out;
  while (true) {
    if (at_ >= text_.size()) fail("a string is not closed");
    const char c = text_[at_];
    if (c == '"') break;
    if (static_cast<unsigned char>(c) < 0x20) fail("a control character inside a string");
    if (c == '\\') {
      ++at_;
      read_escape(out);
    } else {
      copy_utf8(out);
    }
  }
  ++at_;
  return out;
}

void JsonReader::copy_utf8(std::string& out) {
  const size_t length = utf8_sequence_length(text_.substr(at_));
  if (length == 0) fail("invalid UTF-8");
  out.append(text_.substr(at_, length));
  at_ += length;
}

uint32_t JsonReader::read_hex4() {
  const std::string_view digits = text_.substr(at_, 4);
  uint32_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value, 16);
  if (digits.size() != 4 || error != std::errc() || stop != end) {
    fail("\\u needs four hexadecimal digits");
  }
  at_ += 4;
  return value;
}

/// The characters after a backslash.
void JsonReader::read_escape(std::string& out) {
  if (at_ >= text_.size()) fail("a string is not closed");
  const char c = text_[at_++];
  static constexpr std::string_view kEscapes = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (const size_t i = kEscapes.find(c); i != std::string_view::npos) {
    out.push_back(kMeanings[i]);
    return;
  }
  if (c != 'u') fail("unknown escape");
  uint32_t code_point = read_hex4();
  if (code_point >= 0xDC00 && code_point <= 0xDFFF) fail("a low surrogate without a high one");
  if (code_point >= 0xD800 && code_point <= 0xDBFF) {
    if (text_.substr(at_, 2) != "\\u") fail("a high surrogate without a low one");
    at_ += 2;
    const uint32_t low = read_hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("a high surrogate without a low one");
    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(out, code_point);
}

size_t JsonReader::skip_digits() {
  const size_t start = at_;
  while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
  return at_ - start;
}

std::string_view JsonReader::read_number() {
  skip_space();
  const size_t start = at_;
  const auto next_is = [&](std::string_view any) {
    return at_ < text_.size() && any.find(text_[at_]) != std::string_view::npos;
  };
  if (next_is("-")) ++at_;
  const bool leading_zero = next_is("0");
  const size_t digits = skip_digits();
  if (digits == 0) fail("expected a number");
  if (leading_zero && digits > 1) fail("a number starts with a superfluous 0");
  if (next_is(".")) {
    ++at_;
    if (skip_digits() == 0) fail("a number ends with its decimal point");
  }
  if (next_is("eE")) {
    ++at_;
    if (next_is("+-")) ++at_;
    if (skip_digits() == 0) fail("an exponent has no digits");
  }
  return text_.substr(start, at_ - start);
}

bool JsonReader::read_bool() {
  const bool value = peek() == 't';
  expect_word(value ? "true" : "false");
  return value;
}

void JsonReader::read_null() { expect_word("null"); }

void JsonReader::skip_value() {
  switch (kind()) {
    case JsonKind::kObject:
      return read_object([&](const std::string&) { skip_value(); });
    case JsonKind::kArray:
      return read_array([&] { skip_value(); });
    case JsonKind::kString:
      read_string();
      return;
    case JsonKind::kNumber:
      read_number();
      return;
    case JsonKind::kBool:
      read_bool();
      return;
    case JsonKind::kNull:
      return read_null();
  }
}

void JsonReader::finish() {
  skip_space();
  if (at_ != text_.size()) fail("more text after the end of the value");
}

std::optional<int64_t> json_int64(std::string_view number) {
  int64_t value = 0;
  const char* end = number.data() + number.size();
  const auto [stop, error] = std::from_chars(number.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace qvl
