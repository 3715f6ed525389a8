#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace qvl {

/// A set of token ids, one bit each.
class TokenSet {
 public:
  TokenSet() = default;
  explicit TokenSet(size_t vocab_size) : words_((vocab_size + 63) / 64) {}

  void insert(int32_t id) { words_[index(id)] |= bit(id); }
  void erase(int32_t id) { words_[index(id)] &= ~bit(id); }
  bool contains(int32_t id) const { return (words_[index(id)] & bit(id)) != 0; }
  void insert_all(const TokenSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  bool empty() const;
  size_t size_bytes() const { return words_.size() * sizeof(uint64_t); }
  /// Bit id % 64 of word id / 64.
  std::span<const uint64_t> words() const { return words_; }

  bool operator==(const TokenSet&) const = default;

 private:
  static size_t index(int32_t id) { return static_cast<size_t>(id) / 64; }
  static uint64_t bit(int32_t id) { return uint64_t{1} << (id % 64); }

  std::vector<uint64_t> words_;
};

/// A node of the trie of all tokens. Nodes stand in depth-first order: what follows a node, up to
/// `skip`, begins with its bytes.
struct TrieNode {
  uint32_t skip = 0;
  int32_t token = -1;  // whose last byte this is; the smallest id if several have these bytes
  uint16_t depth = 0;  // 1 for a first byte
  uint8_t byte = 0;
};

/// The bytes that the tokens of a model stand for. Immutable: shared by all its grammars.
class Vocabulary {
 public:
  /// `bytes` has the tokens' bytes in order of id, `lengths[id]` of them each. 0 bytes: not text (a
  /// special token, an id without a token). Ids from lengths.size() to `vocab_size` have none.
  /// Throws Error(ERR_INVALID_ARGUMENT) when the arguments do not fit together.
  Vocabulary(std::span<const uint8_t> bytes, std::span<const int32_t> lengths, int64_t vocab_size);

  size_t size() const { return offsets_.size() - 1; }
  std::span<const uint8_t> bytes(int32_t id) const {
    const auto index = static_cast<size_t>(id);
    return {bytes_.data() + offsets_[index], offsets_[index + 1] - offsets_[index]};
  }
  /// Of the longest token.
  uint32_t max_length() const { return max_length_; }
  std::span<const TrieNode> trie() const { return trie_; }
  /// Ids with the bytes of another token, behind the id that stands in the trie.
  struct Twin {
    int32_t in_trie, other;
  };
  std::span<const Twin> twins() const { return twins_; }
  /// The ids without bytes.
  const TokenSet& textless() const { return textless_; }

 private:
  void build_trie();

  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> offsets_;  // V + 1
  std::vector<TrieNode> trie_;
  std::vector<Twin> twins_;
  TokenSet textless_;
  uint32_t max_length_ = 0;
};

}  // namespace qvl
