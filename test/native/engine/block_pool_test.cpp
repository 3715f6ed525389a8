#include "engine/block_pool.h"

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

TEST(refuses_an_impossible_size) {
  CHECK_ERROR("ERR_INVALID_ARGUMENT", BlockPool(0));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", BlockPool(int64_t{1} << 31));
}
