#include "constraint/vocabulary.h"

#include "check.h"
#include "vocabularies.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// The texts of the trie, found by walking it; "text:id" each.
std::vector<std::string> walk(const Vocabulary& vocabulary) {
  std::vector<std::string> found;
  std::string path;
  for (const TrieNode& node : vocabulary.trie()) {
    path.resize(node.depth - size_t{1});
    path.push_back(static_cast<char>(node.byte));
    if (node.token >= 0) found.push_back(path + ":" + std::to_string(node.token));
  }
  return found;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string result;
  for (const std::string& part : parts) result += part + " ";
  return result;
}

}  // namespace

TEST(the_trie_has_every_token_once_in_order_of_bytes) {
  const auto vocabulary = make_vocabulary({"b", "abc", "", "a", "abd", "\xff", "ab"});
  CHECK_EQ(joined(walk(*vocabulary)), "a:3 ab:6 abc:1 abd:4 b:0 \xff:5 ");
  CHECK_EQ(vocabulary->max_length(), 3u);
}

TEST(a_node_skips_all_that_begins_with_its_bytes) {
  const auto vocabulary = make_vocabulary({"abc", "abd", "ac", "b"});
  const auto trie = vocabulary->trie();
  CHECK_EQ(trie.size(), 6u);  // a b c d c b
  CHECK_EQ(trie[0].skip, 5u);
  CHECK_EQ(trie[1].skip, 4u);
  CHECK_EQ(trie[2].skip, 3u);
  CHECK_EQ(trie[5].skip, 6u);
}

TEST(ids_with_equal_bytes_are_twins_of_the_smallest) {
  const auto vocabulary = make_vocabulary({"x", "ab", "ab", "a", "ab"});
  CHECK_EQ(joined(walk(*vocabulary)), "a:3 ab:1 x:0 ");
  CHECK_EQ(vocabulary->twins().size(), 2u);
  for (const auto& [in_trie, other] : vocabulary->twins()) {
    CHECK_EQ(in_trie, 1);
    CHECK(other == 2 || other == 4);
  }
}

TEST(ids_without_bytes_are_textless_up_to_the_models_vocabulary) {
  const auto vocabulary = make_vocabulary({"a", "", "b"}, 70);
  CHECK_EQ(vocabulary->size(), 70u);
  for (int32_t id = 0; id < 70; ++id) {
    CHECK_EQ(vocabulary->textless().contains(id), id != 0 && id != 2);
    CHECK_EQ(vocabulary->bytes(id).size(), id == 0 || id == 2 ? 1u : 0u);
  }
}

TEST(a_vocabulary_without_text_has_no_trie) {
  const auto vocabulary = make_vocabulary({"", ""});
  CHECK(vocabulary->trie().empty());
  CHECK_EQ(vocabulary->max_length(), 0u);
}

TEST(arguments_that_do_not_fit_together_are_refused) {
  const std::vector<uint8_t> bytes = {'a', 'b', 'c'};
  const auto make = [&](std::vector<int32_t> lengths, int64_t size) {
    Vocabulary(bytes, lengths, size);
  };
  CHECK_EQ(CHECK_ERROR("ERR_INVALID_ARGUMENT", make({1, 1}, 2)),
           "the tokens have 3 bytes; their lengths say 2");
  CHECK_EQ(CHECK_ERROR("ERR_INVALID_ARGUMENT", make({4, 4}, 2)),
           "the tokens have 3 bytes; their lengths say 8");
  CHECK_EQ(CHECK_ERROR("ERR_INVALID_ARGUMENT", make({4, -1}, 2)),
           "token 1 has -1 bytes; it may have 0 to 65535");
  CHECK_ERROR("ERR_INVALID_ARGUMENT", make({INT32_MAX, INT32_MAX, INT32_MAX}, 3));
  CHECK_EQ(CHECK_ERROR("ERR_INVALID_ARGUMENT", make({1, 1, 1}, 2)),
           "the tokenizer has 3 ids; the model's vocabulary has 2: use the tokenizer of the same "
           "checkpoint");
}
