// What the pool of device memory keeps, gives back and says is to be had.

#include "backend/cuda/memory.h"

#include <cstdlib>
#include <memory>

#include "check.h"

using namespace qvl;

namespace {

constexpr size_t kLarge = size_t{64} << 20;
/// What small blocks are cut from.
constexpr size_t kChunk = size_t{2} << 20;
/// Of the simulated device: enough for what is done here.
const int kLimited = setenv("QWEN2_VL_SIM_MEMORY", "500000000", 0);

struct PoolOnDevice {
  std::shared_ptr<cuda::Device> device = std::make_shared<cuda::Device>(cuda::Driver::open(), 0);
  std::shared_ptr<cuda::MemoryPool> pool = std::make_shared<cuda::MemoryPool>(device);

  PoolOnDevice() {
    CHECK_EQ(kLimited, 0);
    device->make_current();
  }
};

}  // namespace

TEST(memory_that_came_back_is_kept_and_counts_as_available) {
  const PoolOnDevice at;
  const size_t before = at.pool->available_bytes();
  CHECK_EQ(before, at.device->free_bytes());
  void* const first = at.pool->take(kLarge, "a test");
  CHECK_EQ(at.pool->available_bytes(), before - kLarge);
  at.pool->give_back(first);
  CHECK_EQ(at.pool->available_bytes(), before);
  CHECK_EQ(at.device->free_bytes(), before - kLarge);
  CHECK_EQ(at.pool->take(kLarge, "a test"), first);
  at.pool->give_back(first);
}

TEST(trimming_returns_to_the_driver_what_nobody_uses) {
  const PoolOnDevice at;
  const size_t before = at.device->free_bytes();
  void* const kept = at.pool->take(kLarge, "a test");
  void* const other = at.pool->take(kLarge, "a test");
  void* const small = at.pool->take(100, "a test");
  at.pool->give_back(other);
  at.pool->trim();
  // Blocks below half a mebibyte share one of two, which stays.
  CHECK(at.device->free_bytes() >= before - kLarge - kChunk);
  CHECK(at.device->free_bytes() <= before - kLarge);
  at.pool->give_back(small);
  at.pool->give_back(kept);
  at.pool->trim();
  CHECK(at.device->free_bytes() >= before - kChunk);
}

TEST(what_does_not_fit_takes_the_place_of_what_is_kept) {
  const PoolOnDevice at;
  // More than half of what there is, so that two of it are too much.
  const size_t bytes = at.pool->available_bytes() / 5 * 3;
  at.pool->give_back(at.pool->take(bytes, "a test"));
  const size_t more = bytes + bytes / 2;
  CHECK_ERROR("ERR_OUT_OF_MEMORY", at.pool->take(more + bytes, "the second"));
  void* const larger = at.pool->take(more, "the second");
  at.pool->give_back(larger);
}
