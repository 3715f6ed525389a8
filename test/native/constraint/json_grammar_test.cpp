// A grammar as large as those that callers use, against texts that are and are not JSON.

#include "check.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

TEST(json_texts_are_read_to_the_end) {
  GrammarMatcher matcher(json_grammar(), byte_vocabulary());
  for (const std::string text : {"{}", "[]", "{\"a\": 1}", "[1, 2.5, -0, 1e9, -1.5E+10, 0.0e-0]",
                                 "\"\"", "{\"a\": {\"b\": [[], {}, [{}]]}, \"c\": null}",
                                 "[true, false, null]", "\"\\u00e9\\n\\\\\"", "\"猫と犬 😀 é\"",
                                 "{ \"a\" : [ 1 , 2 ] , \"b\" : \"x\" }", "[[[[[[[[[[]]]]]]]]]]"}) {
    const Reading reading = read(matcher, text);
    if (!reading.accepts) fail(__FILE__, __LINE__, "not read: " + text);
  }
}

TEST(what_is_no_json_is_refused_at_the_first_wrong_byte) {
  GrammarMatcher matcher(json_grammar(), byte_vocabulary());
  for (const auto& [good, bad] : std::vector<std::pair<std::string, std::string>>{
           {"{\"a\"", "}"},    {"[1,", "]"},   {"{\"a\": 1", "]"}, {"[1", "}"},
           {"0", "1"},         {"-", "a"},     {"1.", "e"},        {"\"\\", "x"},
           {"\"\\u12", "g"},   {"\"a", "\n"},  {"tru", "x"},       {"{", "1"},
           {"[[]", "}"},       {"{}", "{"},    {"\"", "\xff"},     {"\"\xe4", "a"},
           {"\"\xed", "\xa0"}, {"\"", "\x80"}, {"\"\xf4", "\x90"}, {"\"\xc3", "\xc3"},
           {"\"", "\xc0"}}) {
    if (!read(matcher, good).begins) fail(__FILE__, __LINE__, "not begun: " + good);
    CHECK(!read(matcher, good).accepts || good == "0" || good == "{}");
    if (read(matcher, good + bad).begins) fail(__FILE__, __LINE__, "read: " + good + bad);
  }
}

TEST(a_token_may_end_inside_a_character) {
  // 猫 is e7 8c ab: three tokens, or two, or one.
  const auto vocabulary =
      make_vocabulary({"\"", "\xe7", "\x8c\xab", "\xe7\x8c", "\xab", "\xab\"", "a", "\xff", "猫"});
  GrammarMatcher matcher(json_grammar(), vocabulary);
  const auto allowed = [&](GrammarMatcher::Cursor& cursor) {
    std::string ids;
    const TokenSet& tokens = cursor.allowed();
    for (int32_t id = 0; id < 9; ++id) ids += tokens.contains(id) ? std::to_string(id) : "";
    return ids;
  };
  GrammarMatcher::Cursor cursor(&matcher);
  CHECK_EQ(allowed(cursor), "0");
  CHECK(cursor.advance(0));
  CHECK_EQ(allowed(cursor), "01368");
  CHECK(cursor.advance(3));
  CHECK_EQ(allowed(cursor), "45");
  CHECK(cursor.advance(4));
  CHECK(cursor.advance(1));
  CHECK_EQ(allowed(cursor), "24");
  CHECK(!cursor.advance(6));  // and it stays where it is
  CHECK(cursor.advance(2));
  CHECK_EQ(allowed(cursor), "01368");
  CHECK(cursor.advance(3));
  CHECK(cursor.advance(5));
  CHECK(cursor.is_accepting());
  CHECK(cursor.is_complete());
  CHECK_EQ(allowed(cursor), "");
}
