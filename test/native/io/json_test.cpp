// The JSON reader takes exactly the texts of RFC 8259 and refuses everything else.

#include "io/json.h"

#include "check.h"

namespace qvl {
namespace {

JsonReader reader(std::string_view text) {
  return JsonReader(text, {.error_code = "ERR_TEST", .source = "x.json", .max_depth = 8});
}

void accept(std::string_view text) {
  JsonReader json = reader(text);
  json.skip_value();
  json.finish();
}

void refuse(std::string_view text, std::string_view reason) {
  const std::string message = CHECK_ERROR("ERR_TEST", accept(text));
  CHECK_EQ(message.substr(0, 29), "x.json: invalid JSON at byte ");
  if (message.find(reason) == std::string::npos) CHECK_EQ(message, std::string(reason));
}

std::string string_of(std::string_view text) {
  JsonReader json = reader(text);
  std::string value = json.read_string();
  json.finish();
  return value;
}

}  // namespace

TEST(accepts_every_kind_of_value) {
  for (const char* text :
       {"{}", "[]", " [ ] ", "\"\"", "0", "-0", "-1.5e+10", "1E5", "0.25", "true", "false", "null",
        "\t{\"a\" : [1, {\"b\": null}],\r\n\"\": \"c\"}\n"}) {
    accept(text);
  }
}

TEST(visits_members_and_elements_in_order) {
  std::string seen;
  JsonReader json = reader(R"({"b": [1, -22], "a": true, "c": "x"})");
  json.read_object([&](const std::string& key) {
    seen += key + "=";
    if (key == "b") {
      CHECK(json.kind() == JsonKind::kArray);
      json.read_array([&] { seen += std::string(json.read_number()) + ","; });
    } else if (key == "a") {
      CHECK(json.kind() == JsonKind::kBool);
      seen += json.read_bool() ? "yes," : "no,";
    } else {
      CHECK(json.kind() == JsonKind::kString);
      seen += json.read_string();
    }
  });
  json.finish();
  CHECK_EQ(seen, "b=1,-22,a=yes,c=x");
}

TEST(refuses_what_is_not_json) {
  refuse("", "ends where more was expected");
  refuse("{", "ends where more was expected");
  refuse("{\"a\":1", "ends where more was expected");
  refuse("{\"a\" 1}", "expected ':'");
  refuse("{\"a\":1,}", "expected '\"'");
  refuse("{a:1}", "expected '\"'");
  refuse("[1 2]", "expected ']'");
  refuse("[1,]", "expected a value");
  refuse("'a'", "expected a value");
  refuse("NaN", "expected a value");
  refuse("nul", "expected 'null'");
  refuse("True", "expected a value");
  refuse("1 1", "more text after the end");
  refuse("// comment\n1", "expected a value");
  refuse("\xEF\xBB\xBF{}", "expected a value");
  refuse(std::string_view("1\0", 2), "more text after the end");
}

TEST(refuses_numbers_that_only_look_like_numbers) {
  for (const char* text : {"01", "-", "+1", ".5", "1.", "1.e5", "1e", "1e+", "0x10", "-a", "00"}) {
    CHECK_ERROR("ERR_TEST", accept(text));
  }
}

TEST(resolves_escapes) {
  CHECK_EQ(string_of(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  CHECK_EQ(string_of(R"("\u0041\u00e9\u20AC")"), "A\xC3\xA9\xE2\x82\xAC");
  CHECK_EQ(string_of(R"("\ud83d\ude00")"), "\xF0\x9F\x98\x80");
  CHECK_EQ(string_of(R"("a\u0000b")"), std::string("a\0b", 3));
}

TEST(refuses_broken_escapes_and_strings) {
  refuse(R"("\x41")", "unknown escape");
  refuse(R"("\u12")", "four hexadecimal digits");
  refuse(R"("\u-123")", "four hexadecimal digits");
  refuse(R"("\u12g4")", "four hexadecimal digits");
  refuse(R"("\ud83d")", "high surrogate");
  refuse(R"("\ud83dx")", "high surrogate");
  refuse(R"("\ud83d\u0041")", "high surrogate");
  refuse(R"("\ude00")", "low surrogate");
  refuse("\"a", "not closed");
  refuse("\"a\\", "not closed");
  refuse("\"a\nb\"", "control character");
}

TEST(checks_utf8) {
  // One character at each border of the encoding, two to four bytes long.
  for (const char* text : {"\"\xC2\x80\"", "\"\xDF\xBF\"", "\"\xE0\xA0\x80\"", "\"\xED\x9F\xBF\"",
                           "\"\xEE\x80\x80\"", "\"\xF0\x90\x80\x80\"", "\"\xF4\x8F\xBF\xBF\""}) {
    const std::string_view whole = text;
    CHECK_EQ(string_of(whole), std::string(whole.substr(1, whole.size() - 2)));
  }
  // Lone continuation, overlong, cut short, surrogate, above U+10FFFF.
  for (const char* text : {"\"\x80\"", "\"\xC0\xAF\"", "\"\xC1\xBF\"", "\"\xE0\x9F\xBF\"",
                           "\"\xE2\x82\"", "\"\xE2\x82", "\"\xED\xA0\x80\"", "\"\xF0\x8F\xBF\xBF\"",
                           "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\"\xFF\""}) {
    refuse(text, "invalid UTF-8");
  }
}

TEST(limits_nesting) {
  accept("[[[[[[[[]]]]]]]]");
  refuse("[[[[[[[[[]]]]]]]]]", "nested deeper than 8 levels");
  refuse(std::string(1'000'000, '['), "nested deeper than 8 levels");
  refuse(R"({"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}})", "nested deeper");
  // Siblings are not nested.
  accept("[[],[],[],[],[],[],[],[],[],[],[]]");
}

TEST(finds_duplicate_keys) {
  refuse(R"({"a":1,"b":2,"a":3})", "a key occurs twice");
  refuse(R"({"a":1,"\u0061":3})", "a key occurs twice");
  accept(R"({"a":{"a":1},"b":{"a":1}})");

  std::string reported;
  JsonReader json = reader(R"({"a":1,"a":2})");
  CHECK_ERROR("ERR_TEST", json.read_object([&](const std::string&) { json.skip_value(); },
                                           [&](const std::string& key) { reported = key; }));
  CHECK_EQ(reported, "a");
}

TEST(converts_integers_without_overflow) {
  CHECK(json_int64("0") == 0);
  CHECK(json_int64("-0") == 0);
  CHECK(json_int64("9223372036854775807") == INT64_MAX);
  CHECK(json_int64("-9223372036854775808") == INT64_MIN);
  for (const char* number : {"9223372036854775808", "-9223372036854775809", "1.0", "1e3", "", "-",
                             "123456789012345678901234567890"}) {
    CHECK(!json_int64(number));
  }
}

}  // namespace qvl
