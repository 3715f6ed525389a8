// What a scheduler does for higher priorities, and what it does not.

#include <string>
#include <vector>

#include "check.h"
#include "engine/scheduler.h"
#include "scheduler_harness.h"

using namespace qvl;
using namespace qvl::test;

TEST(waiting_sequences_are_admitted_by_priority_and_then_in_order_of_arrival) {
  Harness harness(100, options_of(1, 64, 64));
  std::vector<Sequence*> added{harness.add_at(0, 2)};  // runs, and goes on
  CHECK_EQ(harness.step(), "a p0+2!");
  for (const int32_t priority : {-3, 0, 7, 0, 7, -1000, 1000}) {
    added.push_back(harness.add_at(priority, 2));
  }
  std::string order;
  for (size_t ended = 0; ended < added.size(); ++ended) {
    Sequence* running = harness.scheduler.running().front();
    order += static_cast<char>('a' + running->id - 1);
    harness.scheduler.remove(running);
    harness.step();
  }
  CHECK_EQ(order, "ahdfcebg");
}

TEST(prompt_chunks_go_to_higher_priorities_first) {
  Harness harness(100, options_of(8, 4, 16));
  harness.add_at(0, 9);
  CHECK_EQ(harness.step(), "a p0+4");
  harness.add_at(5, 6);
  harness.add_at(5, 3);
  harness.add_at(6, 1);
  check_steps(harness, {"d p0+1!, b p0+3", "d d1!, b p3+3!, c p0+1",
                        "d d2!, b d6!, c p1+2!, a p4+2", "d d3!, b d7!, c d3!, a p6+3!"});
}

TEST(encodings_go_by_priority_but_one_that_has_begun_goes_on) {
  Harness harness(100, options_of(8, 64, 64));
  Sequence* a = harness.add(4, 100, true, 0);
  Sequence* b = harness.add(4, 100, true, 0);
  CHECK_EQ(harness.step(), "a v");
  Sequence* c = harness.add(4, 100, true, 1);
  check_steps(harness, {"a v", "a v"});
  harness.finish_vision(a);
  CHECK_EQ(harness.step(), "a p0+4!, c v");
  harness.scheduler.remove(c);  // in the middle of its encoding
  CHECK_EQ(harness.step(), "a d4!, b v");
  harness.finish_vision(b);
  CHECK_EQ(harness.step(), "a d5!, b p0+4!");
}

TEST(a_preempted_encoding_gives_way_to_others) {
  Harness harness(5, options_of(8, 64, 64));
  Sequence* a = harness.add(11, 10);  // 3 blocks
  harness.add(4, 2, true, -1);        // 1 block, and 1 for a to grow
  check_steps(harness, {"a p0+11!, b v", "a d11!, b v", "a d12!, b v", "a d13!, b v", "a d14!, b v",
                        "a d15!, b v", "-b, a d16!"});
  harness.scheduler.remove(a);
  harness.add(4, 2, true, 1);
  CHECK_EQ(harness.step(), "c v");
}

TEST(nobody_is_preempted_for_a_higher_priority_that_waits_and_nobody_passes_it) {
  Harness harness(4, options_of(8, 64, 64));
  Sequence* a = harness.add_at(0, 8, 2);  // 2 blocks, 3 at its longest
  CHECK_EQ(harness.step(), "a p0+8!");
  harness.add_at(0, 1, 2);   // would fit
  harness.add_at(9, 12, 2);  // does not
  check_steps(harness, {"a d8!", "a d9!"});
  CHECK_EQ(harness.scheduler.num_waiting(), 2);
  harness.scheduler.remove(a);
  CHECK_EQ(harness.step(), "c p0+12!");
}

TEST(the_last_admitted_of_the_lowest_priority_gives_way) {
  struct Case {
    std::vector<int32_t> priorities;  // of four sequences that grow together
    std::string expected;             // who is preempted, one after another
  };
  const Case cases[] = {{{0, 0, 0, 0}, "-d-c"},   {{0, 1, 0, 1}, "-c-a"},
                        {{3, 2, 1, 0}, "-d-c"},   {{0, 1, 2, 3}, "-a-b"},
                        {{5, -1, 5, -1}, "-d-b"}, {{-1, -1, -1, 0}, "-c-b"}};
  for (const Case& one : cases) {
    // Each has one of 7 blocks at first; three find a second one, and two of them a third.
    Harness harness(7, options_of(4, 64, 64));
    for (const int32_t priority : one.priorities) harness.add_at(priority, 1, 14);
    std::string preempted;
    for (int i = 0; i < 10; ++i) {
      const std::string step = harness.step();
      if (step.starts_with('-')) preempted += step.substr(0, 2);
    }
    CHECK_EQ(preempted, one.expected);
    CHECK_EQ(harness.scheduler.num_running(), 2);
  }
}

TEST(a_preempted_sequence_goes_to_the_front_of_its_priority) {
  Harness harness(4, options_of(2, 64, 64));
  Sequence* a = harness.add_at(1, 4, 13);
  Sequence* b = harness.add_at(0, 4, 13);
  check_steps(harness, {"a p0+4!, b p0+4!", "a d4!, b d4!", "a d5!, b d5!", "a d6!, b d6!"});
  harness.add_at(0, 1, 2);
  Sequence* d = harness.add_at(1, 13, 2);  // before b: nothing is left to b beside it
  check_steps(harness, {"a d7!, b d7!", "-b, a d8!"});
  harness.scheduler.remove(a);
  CHECK_EQ(harness.step(), "d p0+13!");
  harness.scheduler.remove(d);
  CHECK_EQ(harness.step(), "b p0+9!");  // beside it, c finds no room
  harness.scheduler.remove(b);
  CHECK_EQ(harness.step(), "c p0+1!");
}

TEST(the_oldest_of_the_highest_priority_is_never_preempted_and_everyone_ends) {
  Harness harness(6, options_of(8, 5, 9));
  const int32_t priorities[] = {0, -2, 3, 0, 3, 1};
  std::vector<Sequence*> open;
  int steps = 0;
  for (int i = 0; i < 24 || !harness.scheduler.idle(); ++i) {
    CHECK(++steps < 5000);
    if (i < 24) {
      open.push_back(harness.add(3 + i % 8, 21 - i % 8, i % 3 == 0, priorities[i % 6]));
    }
    const Sequence* first = nullptr;
    for (const Sequence* sequence : harness.scheduler.running()) {
      if (first == nullptr || sequence->priority > first->priority ||
          (sequence->priority == first->priority && sequence->id < first->id)) {
        first = sequence;
      }
    }
    const StepPlan plan = harness.scheduler.plan();
    for (const Sequence* sequence : plan.preempted) CHECK(sequence != first);
    harness.compute(plan, open);
  }
  CHECK(open.empty());
  CHECK_EQ(harness.pool.num_used(), 0);
}
