#include "engine/prefix_cache.h"

#include <vector>

#include "check.h"

using namespace qvl;

namespace {

constexpr int32_t kNone = PrefixCache::kNone;

/// A pool of blocks, all in use.
struct Harness {
  explicit Harness(int32_t count) : pool(count), cache(&pool) {
    for (int32_t i = 0; i < count; ++i) pool.allocate();
  }
  BlockPool pool;
  PrefixCache cache;
};

BlockContent content_of(const std::vector<int32_t>& tokens, std::vector<VisualPart> visual = {}) {
  return {tokens, std::move(visual)};
}

const std::vector<int32_t> kA = {1, 2, 3}, kB = {4, 5, 6}, kPads = {9, 9, 9};

}  // namespace

TEST(a_block_is_found_behind_its_parent_only) {
  Harness harness(4);
  harness.cache.insert(kNone, content_of(kA), 0);
  harness.cache.insert(0, content_of(kB), 1);
  harness.cache.insert(1, content_of(kA), 2);
  CHECK_EQ(harness.cache.find(kNone, content_of(kA)), 0);
  CHECK_EQ(harness.cache.find(0, content_of(kB)), 1);
  CHECK_EQ(harness.cache.find(1, content_of(kA)), 2);
  CHECK_EQ(harness.cache.find(kNone, content_of(kB)), kNone);
  CHECK_EQ(harness.cache.find(1, content_of(kB)), kNone);
  CHECK_EQ(harness.cache.find(3, content_of(kA)), kNone);  // a block that is not in the index
}

TEST(visual_tokens_are_told_apart_by_pixels_place_and_grid) {
  Harness harness(2);
  const VisualPart part{0, 3, {7, 8}, 1, 2, 6, 0};
  harness.cache.insert(kNone, content_of(kPads, {part}), 0);
  CHECK_EQ(harness.cache.find(kNone, content_of(kPads, {part})), 0);
  CHECK_EQ(harness.cache.find(kNone, content_of(kPads)), kNone);
  for (const auto change :
       {+[](VisualPart& p) { p.first_token = 1; }, +[](VisualPart& p) { p.count = 2; },
        +[](VisualPart& p) { p.item.a = 6; }, +[](VisualPart& p) { p.item.b = 6; },
        +[](VisualPart& p) { p.grid_t = 3; }, +[](VisualPart& p) { p.grid_h = 6; },
        +[](VisualPart& p) { p.grid_w = 2; }, +[](VisualPart& p) { p.first_row = 3; }}) {
    VisualPart other = part;
    change(other);
    CHECK_EQ(harness.cache.find(kNone, content_of(kPads, {other})), kNone);
  }
}

TEST(the_first_of_equal_blocks_stays_and_an_unreachable_one_is_not_kept) {
  Harness harness(4);
  harness.cache.insert(kNone, content_of(kA), 0);
  harness.cache.insert(kNone, content_of(kA), 1);
  harness.cache.insert(2, content_of(kA), 3);  // behind a block that is not in the index
  CHECK_EQ(harness.cache.find(kNone, content_of(kA)), 0);
  CHECK_EQ(harness.cache.size(), 1);
  for (int32_t block = 0; block < 4; ++block) harness.pool.release(block);
  CHECK_EQ(harness.pool.num_cached(), 1);
}

TEST(what_stood_behind_an_evicted_block_is_never_found_behind_its_successor) {
  Harness harness(2);
  harness.cache.insert(kNone, content_of(kA), 0);
  harness.cache.insert(0, content_of(kB), 1);
  harness.pool.release(0);  // against the order of the scheduler: the parent goes first
  CHECK_EQ(harness.pool.allocate(), 0);
  CHECK_EQ(harness.cache.find(kNone, content_of(kA)), kNone);
  CHECK_EQ(harness.cache.find(0, content_of(kB)), kNone);
  harness.cache.insert(kNone, content_of(kPads), 0);  // other contents in the same block
  CHECK_EQ(harness.cache.find(0, content_of(kB)), kNone);
}

TEST(a_cleared_cache_knows_nothing_and_gives_the_blocks_back) {
  Harness harness(2);
  harness.cache.insert(kNone, content_of(kA), 0);
  harness.cache.insert(0, content_of(kB), 1);
  harness.pool.release(1);
  harness.cache.clear();
  CHECK_EQ(harness.cache.size(), 0);
  CHECK_EQ(harness.cache.find(kNone, content_of(kA)), kNone);
  CHECK_EQ(harness.pool.num_free(), 1);
  CHECK_EQ(harness.pool.num_used(), 1);
  harness.cache.insert(kNone, content_of(kA), 0);
  CHECK_EQ(harness.cache.find(kNone, content_of(kA)), 0);
}
