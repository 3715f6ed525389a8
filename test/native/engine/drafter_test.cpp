#include "engine/drafter.h"

#include <string>
#include <vector>

#include "check.h"

using namespace qvl;

namespace {

/// Lets an answer come letter by letter behind a prompt; says what was drafted before each letter.
std::vector<std::string> drafts(int64_t max_tokens, const std::string& prompt,
                                const std::string& answer, int64_t room = 100) {
  Drafter drafter(max_tokens, '#', '%');
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  std::vector<std::string> result;
  for (const char letter : answer) {
    std::string draft;
    for (const int32_t token : drafter.guess(tokens, room)) {
      draft.push_back(static_cast<char>(token));
    }
    result.push_back(draft);
    tokens.push_back(letter);
    drafter.note(letter);
  }
  return result;
}

using Drafts = std::vector<std::string>;

}  // namespace

TEST(nothing_is_drafted_until_a_guess_came_true_then_drafts_double) {
  CHECK(drafts(8, "abcdefghijklmnopqrstuvwxyz-ab", "cdefghi") ==
        (Drafts{"", "d", "ef", "fghi", "ghijklmn", "hijklmno", "ijklmnop"}));
}

TEST(drafts_are_never_longer_than_allowed) {
  CHECK(drafts(3, "abcdefghijklmnop-ab", "cdefg") == (Drafts{"", "d", "ef", "fgh", "ghi"}));
  CHECK(drafts(1, "abcdefghijklmnop-ab", "cdef") == (Drafts{"", "d", "e", "f"}));
  CHECK(drafts(8, "abcdefghijklmnop-ab", "cdefgh", 2) == (Drafts{"", "d", "ef", "fg", "gh", "hi"}));
  CHECK(drafts(8, "abcdefghijklmnop-ab", "cde", 0) == (Drafts{"", "", ""}));
  CHECK(drafts(8, "abcdefghijklmnop-ab", "cde", -1) == (Drafts{"", "", ""}));
}

TEST(a_wrong_guess_halves_the_next_draft) {
  // "abcdefgh" is copied with an error at f; then "gh" is found again, and goes on as it did.
  CHECK(drafts(4, "abcdefghijkl-ab", "cdeXghijk") ==
        (Drafts{"", "d", "ef", "fghi", "", "", "ij", "jkl-", "kl-a"}));
}

TEST(text_that_does_not_repeat_is_not_drafted) {
  for (const std::string& draft : drafts(8, "the quick brown fox", "jumps over a lazy dog")) {
    CHECK_EQ(draft, "");
  }
  // Matches whose continuation is always another one are not worth a row either.
  for (const std::string& draft : drafts(8, "ab1", "ab2ab3ab4ab5ab6")) {
    CHECK(draft.size() <= 1u);
  }
}

TEST(several_tokens_of_one_step_are_all_noted) {
  Drafter drafter(8, '#', '%');
  std::vector<int32_t> tokens;
  for (const char letter : std::string("abcdefghijklmnopq-ab")) tokens.push_back(letter);
  CHECK_EQ(drafter.guess(tokens, 100).size(), 0u);
  for (const char letter : std::string("cde")) {
    tokens.push_back(letter);
    drafter.note(letter);
  }
  CHECK_EQ(drafter.length(), 4);
  CHECK_EQ(drafter.guess(tokens, 100).size(), 4u);
  drafter.note('f');
  drafter.note('X');  // behind it, nothing was guessed
  drafter.note('h');
  CHECK_EQ(drafter.length(), 4);
}
