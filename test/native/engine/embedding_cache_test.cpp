#include "engine/embedding_cache.h"

#include <memory>
#include <vector>

#include "check.h"

using namespace qvl;

namespace {

struct Bytes : Buffer {
  explicit Bytes(size_t count) : values(count) {}
  void* data() const override { return const_cast<char*>(values.data()); }
  size_t size_bytes() const override { return values.size(); }
  std::vector<char> values;
};

VisionEmbedding embedding_of(size_t bytes) {
  auto buffer = std::make_shared<Bytes>(bytes);
  return {buffer, {buffer->data(), 1, 1, 1, DType::kF32}};
}

ContentHash item(uint64_t i) { return {i, i}; }

/// Which of the items 1 ... 9 are there; looking does not count as use.
std::vector<uint64_t> contents(EmbeddingCache& cache) {
  std::vector<uint64_t> found;
  for (uint64_t i = 9; i >= 1; --i) {
    if (cache.find(item(i))) found.push_back(i);
  }
  return found;
}

using Items = std::vector<uint64_t>;

}  // namespace

TEST(gives_back_what_was_stored_and_counts) {
  EmbeddingCache cache(1000);
  CHECK(!cache.find(item(1)));
  const VisionEmbedding stored = embedding_of(10);
  cache.insert(item(1), stored);
  cache.insert(item(1), embedding_of(20));  // known already
  CHECK(cache.find(item(1))->buffer == stored.buffer);
  const EmbeddingCacheMetrics metrics = cache.metrics();
  CHECK_EQ(metrics.hits, 1);
  CHECK_EQ(metrics.misses, 1);
  CHECK_EQ(metrics.images, 1);
  CHECK_EQ(metrics.bytes, 10);
}

TEST(the_least_recently_used_ones_make_room) {
  EmbeddingCache cache(100);
  for (uint64_t i = 1; i <= 3; ++i) cache.insert(item(i), embedding_of(30));
  CHECK(cache.find(item(1)).has_value());
  cache.insert(item(4), embedding_of(50));
  CHECK(contents(cache) == Items({4, 1}));
  CHECK_EQ(cache.metrics().bytes, 80);
  cache.insert(item(5), embedding_of(101));  // fits never: drives nobody out
  CHECK(contents(cache) == Items({4, 1}));
}

TEST(a_budget_of_nothing_keeps_nothing) {
  EmbeddingCache cache(0);
  cache.insert(item(1), embedding_of(1));
  CHECK(!cache.find(item(1)));
}

TEST(pinned_ones_stay_whatever_the_budget_until_the_last_pin_is_gone) {
  EmbeddingCache cache(100);
  cache.pin(item(1));
  cache.pin(item(1));
  cache.insert(item(1), embedding_of(150));
  cache.insert(item(2), embedding_of(10));  // no room beside it
  CHECK(contents(cache) == Items({1}));
  cache.clear();
  cache.unpin(item(1));
  CHECK(contents(cache) == Items({1}));
  cache.unpin(item(1));
  cache.unpin(item(1));  // one too many: a no-op
  CHECK(contents(cache).empty());
  cache.insert(item(2), embedding_of(10));
  cache.clear();
  CHECK_EQ(cache.metrics().bytes, 0);
}

TEST(a_closed_cache_holds_nothing) {
  EmbeddingCache cache(100);
  const VisionEmbedding stored = embedding_of(10);
  cache.pin(item(1));
  cache.insert(item(1), stored);
  cache.close();
  CHECK_EQ(stored.buffer.use_count(), 1);
  cache.insert(item(2), embedding_of(10));
  CHECK_EQ(cache.metrics().images, 0);
}
