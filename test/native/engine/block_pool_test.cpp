#include "engine/block_pool.h"

#include <vector>

#include "check.h"

using qvl::BlockPool;

TEST(gives_the_lowest_free_block_and_counts) {
  BlockPool pool(130);  // crosses two words of the bitmap
  for (int32_t i = 0; i < 130; ++i) CHECK_EQ(pool.allocate(), i);
  CHECK_EQ(pool.allocate(), -1);
  CHECK_EQ(pool.num_used(), 130);
  CHECK_EQ(pool.num_free(), 0);

  for (const int32_t block : {129, 64, 3, 70}) pool.release(block);
  CHECK_EQ(pool.num_used(), 126);
  for (const int32_t expected : {3, 64, 70, 129, -1}) CHECK_EQ(pool.allocate(), expected);
}

TEST(a_shared_block_is_free_after_its_last_owner) {
  BlockPool pool(4);
  const int32_t block = pool.allocate();
  pool.retain(block);
  CHECK_EQ(pool.num_owners(block), 2);
  pool.release(block);
  CHECK_EQ(pool.num_used(), 1);
  CHECK_EQ(pool.allocate(), 1);
  pool.release(block);
  CHECK_EQ(pool.num_used(), 1);
  CHECK_EQ(pool.allocate(), 0);
}

TEST(a_kept_block_stays_until_room_is_needed_longest_unused_first) {
  BlockPool pool(4);
  std::vector<int32_t> evicted;
  pool.on_evict([&](int32_t block) { evicted.push_back(block); });
  for (int32_t i = 0; i < 4; ++i) CHECK_EQ(pool.allocate(), i);
  for (const int32_t block : {0, 1, 2}) pool.keep(block);
  for (const int32_t block : {2, 0, 1, 3}) pool.release(block);
  CHECK_EQ(pool.num_used(), 0);
  CHECK_EQ(pool.num_cached(), 3);
  CHECK_EQ(pool.num_free(), 1);
  CHECK_EQ(pool.num_available(), 4);

  pool.retain(2);  // found again: used, and then the newest
  CHECK_EQ(pool.num_cached(), 2);
  CHECK_EQ(pool.num_used(), 1);
  pool.release(2);
  CHECK_EQ(pool.allocate(), 3);  // a free one first
  CHECK(evicted.empty());
  for (const int32_t expected : {0, 1, 2, -1}) CHECK_EQ(pool.allocate(), expected);
  CHECK(evicted == std::vector<int32_t>({0, 1, 2}));
  pool.release(0);  // not kept any more
  CHECK_EQ(pool.num_free(), 1);
  CHECK_EQ(pool.num_cached(), 0);
}

TEST(a_forgotten_block_is_free_at_once_or_after_its_last_owner) {
  BlockPool pool(3);
  const int32_t cached = pool.allocate(), used = pool.allocate();
  pool.keep(cached);
  pool.keep(used);
  pool.release(cached);
  pool.forget(cached);
  pool.forget(cached);  // a no-op
  pool.forget(used);
  CHECK_EQ(pool.num_cached(), 0);
  CHECK_EQ(pool.num_free(), 2);
  pool.release(used);
  CHECK_EQ(pool.num_free(), 3);
}

TEST(refuses_an_impossible_size) {
  CHECK_ERROR("ERR_INVALID_ARGUMENT", BlockPool(0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", BlockPool(int64_t{1} << 31));
}
