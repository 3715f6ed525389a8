// Which guesses a step verifies: rows and blocks that nobody else needs.

#include <string>
#include <vector>

#include "check.h"
#include "engine/scheduler.h"
#include "scheduler_harness.h"

using namespace qvl;
using namespace qvl::test;

namespace {

SchedulerOptions draft_options(int64_t max_draft_rows, int64_t max_step_tokens = 64) {
  SchedulerOptions options = options_of(8, 8, max_step_tokens);
  options.max_draft_rows = max_draft_rows;
  return options;
}

}  // namespace

TEST(a_decoding_sequence_has_its_guesses_verified) {
  Harness harness(100, draft_options(8));
  Sequence* a = harness.add(6);
  a->num_draft = 3;
  CHECK_EQ(harness.step(), "a p0+6!");  // a prompt has none
  CHECK_EQ(harness.step(3), "a d6+3!");
  CHECK_EQ(a->num_tokens, 11);
  CHECK_EQ(harness.step(1), "a d10+3!");
  CHECK_EQ(harness.step(0), "a d12+3!");
  a->num_draft = 0;
  CHECK_EQ(harness.step(), "a d13!");
}

TEST(guesses_are_shared_out_evenly_up_to_the_rows_of_a_step) {
  Harness harness(100, draft_options(8));
  Sequence* a = harness.add(2);
  Sequence* b = harness.add(2);
  Sequence* c = harness.add(2);
  harness.step();
  a->num_draft = 7;
  CHECK_EQ(harness.step(), "a d2+5!, b d2!, c d2!");
  b->num_draft = 1;
  c->num_draft = 7;
  CHECK_EQ(harness.step(), "a d3+2!, b d3+1!, c d3+2!");
}

TEST(many_decoding_sequences_leave_no_room_for_guesses) {
  Harness harness(100, draft_options(3));
  std::vector<Sequence*> all;
  for (int i = 0; i < 4; ++i) all.push_back(harness.add(2));
  harness.step();
  for (Sequence* sequence : all) sequence->num_draft = 4;
  CHECK_EQ(harness.step(), "a d2!, b d2!, c d2!, d d2!");
  harness.scheduler.remove(all[0]);
  CHECK_EQ(harness.step(), "b d3!, c d3!, d d3!");
  harness.scheduler.remove(all[1]);
  CHECK_EQ(harness.step(), "c d4+1!, d d4!");
}

TEST(guesses_count_toward_the_tokens_of_a_step_and_prompts_come_first) {
  Harness harness(100, draft_options(8, 10));
  Sequence* a = harness.add(2);
  harness.step();
  a->num_draft = 7;
  harness.add(20);
  CHECK_EQ(harness.step(), "a d2+1!, b p0+8");
  CHECK_EQ(harness.step(), "a d3+1!, b p8+8");
  CHECK_EQ(harness.step(), "a d4+5!, b p16+4!");
}

TEST(nobody_is_preempted_for_guesses) {
  Harness harness(3, draft_options(8));  // blocks of 4 tokens
  Sequence* a = harness.add(3, 9);
  Sequence* b = harness.add(3, 4);
  harness.step();
  // The third block may hold guesses of the one that comes first, while nobody needs it.
  a->num_draft = b->num_draft = 6;
  CHECK_EQ(harness.step(0), "a d3+4!, b d3!");
  harness.scheduler.remove(a);
  CHECK_EQ(harness.step(0), "b d4+6!");
}

TEST(guesses_give_way_to_tokens) {
  Harness harness(3, draft_options(8));
  Sequence* a = harness.add(3, 9);
  harness.add(2, 4);
  harness.step();
  a->num_draft = 6;
  CHECK_EQ(harness.step(0), "a d3+4!, b d2!");
  a->num_draft = 0;
  CHECK_EQ(harness.step(0), "a d4!, b d3!");
  // b is preempted when it would be without a's guesses, and not before.
  CHECK_EQ(harness.step(0), "-b, a d5!");
}

TEST(blocks_of_guesses_that_did_not_come_true_are_free_again) {
  Harness harness(4, draft_options(8));
  Sequence* a = harness.add(4, 13);
  harness.step();
  a->num_draft = 7;
  CHECK_EQ(harness.step(0), "a d4+7!");
  CHECK_EQ(harness.pool.num_used(), 3);
  // One more prompt of 4 tokens needs a block, and one for a to grow.
  harness.add(4, 1);
  CHECK_EQ(harness.step(0), "a d5+6!, b p0+4!");
}

TEST(a_wait_for_room_is_not_longer_for_guesses) {
  Harness harness(4, draft_options(8));
  Sequence* a = harness.add(4, 13);
  harness.step();
  a->num_draft = 7;
  const std::string first = harness.plan();
  CHECK_EQ(harness.plan(), first);
  harness.scheduler.remove(a);
  CHECK_EQ(harness.pool.num_used(), 0);
}

TEST(only_verified_tokens_are_found_again) {
  Harness harness(100, draft_options(8));
  Sequence* a = harness.add_text("abcdefg", "hijklmnopq");
  harness.step();
  a->num_draft = 7;
  CHECK_EQ(harness.step(1), "a d7+7!");  // h, i known; j is sampled
  CHECK_EQ(a->num_cached, 9);
  harness.scheduler.remove(a);
  CHECK_EQ(harness.pool.num_cached(), 2);  // abcd, efgh
  harness.add_text("abcdefghijklmnopq");
  CHECK_EQ(harness.step(), "b p8+8");
}
