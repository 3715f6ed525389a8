#include "constraint/vocabulary.h"

#include <algorithm>
#include <limits>
#include <string>

#include "common/error.h"

namespace qvl {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error("ERR_INVALID_ARGUMENT", message, {{"path", std::string("vocabulary")}});
}

size_t common_length(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  const size_t shorter = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < shorter && a[i] == b[i]) ++i;
  return i;
}

}  // namespace

bool TokenSet::empty() const {
  return std::all_of(words_.begin(), words_.end(), [](uint64_t word) { return word == 0; });
}

Vocabulary::Vocabulary(std::span<const uint8_t> bytes, std::span<const int32_t> lengths,
                       int64_t vocab_size)
    : bytes_(bytes.begin(), bytes.end()), textless_(static_cast<size_t>(vocab_size)) {
  if (lengths.size() > static_cast<size_t>(vocab_size)) {
    refuse("the tokenizer has " + std::to_string(lengths.size()) + " ids; the model's vocabulary " +
           "has " + std::to_string(vocab_size) + ": use the tokenizer of the same checkpoint");
  }
  if (bytes.size() > std::numeric_limits<uint32_t>::max()) refuse("the tokens exceed 4 GiB");
  offsets_.reserve(static_cast<size_t>(vocab_size) + 1);
  uint64_t end = 0;
  for (int32_t id = 0; id < vocab_size; ++id) {
    const bool has_token = static_cast<size_t>(id) < lengths.size();
    const int32_t length = has_token ? lengths[static_cast<size_t>(id)] : 0;
    if (length < 0 || length > std::numeric_limits<uint16_t>::max()) {
      refuse("token " + std::to_string(id) + " has " + std::to_string(length) +
             " bytes; it may have 0 to 65535");
    }
    if (length == 0) textless_.insert(id);
    offsets_.push_back(static_cast<uint32_t>(std::min<uint64_t>(end, bytes.size())));
    end += static_cast<uint64_t>(length);
    max_length_ = std::max(max_length_, static_cast<uint32_t>(length));
  }
  if (end != bytes.size()) {
    refuse("the tokens have " + std::to_string(bytes.size()) + " bytes; their lengths say " +
           std::to_string(end));
  }
  offsets_.push_back(static_cast<uint32_t>(end));
  build_trie();
}

void Vocabulary::build_trie() {
  std::vector<int32_t> sorted;
  for (int32_t id = 0; id < static_cast<int32_t>(size()); ++id) {
    if (!bytes(id).empty()) sorted.push_back(id);
  }
  std::sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
    const auto order = std::lexicographical_compare_three_way(bytes(a).begin(), bytes(a).end(),
                                                              bytes(b).begin(), bytes(b).end());
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<uint32_t> path;  // the nodes of the bytes of `before`
  std::span<const uint8_t> before;
  const auto leave = [&](size_t depth) {
    while (path.size() > depth) {
      trie_[path.back()].skip = static_cast<uint32_t>(trie_.size());
      path.pop_back();
    }
  };
  for (const int32_t id : sorted) {
    const auto token = bytes(id);
    leave(common_length(before, token));
    if (path.size() == token.size()) {
      twins_.push_back({trie_[path.back()].token, id});
      continue;
    }
    while (path.size() < token.size()) {
      const uint8_t byte = token[path.size()];
      path.push_back(static_cast<uint32_t>(trie_.size()));
      trie_.push_back({0, -1, static_cast<uint16_t>(path.size()), byte});
    }
    trie_.back().token = id;
    before = token;
  }
  leave(0);
}

}  // namespace qvl
