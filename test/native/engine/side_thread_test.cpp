#include "engine/side_thread.h"

#include "check.h"

using namespace qvl;

TEST(a_task_is_done_when_wait_returns) {
  SideThread side;
  side.wait();  // nothing to wait for
  int value = 0;
  for (int i = 1; i <= 1000; ++i) {
    side.start([&, i] { value = value + i; });
    if (i % 3 != 0) side.wait();  // start() waits for the task before
  }
  side.wait();
  CHECK_EQ(value, 500'500);
}

TEST(the_task_runs_beside_its_owner) {
  SideThread side;
  std::thread::id id;
  side.start([&] { id = std::this_thread::get_id(); });
  side.wait();
  CHECK(id != std::this_thread::get_id());
}

TEST(the_end_waits_for_the_task) {
  bool done = false;
  {
    SideThread side;
    side.start([&] { done = true; });
  }
  CHECK(done);
}
