#include "engine/scheduler.h"

#include <string>
#include <vector>

#include "check.h"
#include "scheduler_harness.h"

using namespace qvl;
using namespace qvl::test;

TEST(a_prompt_is_prefilled_in_chunks_and_then_decoded) {
  Harness harness(100, options_of(8, 4, 16));
  harness.add(10);
  check_steps(harness, {"a p0+4", "a p4+4", "a p8+2!", "a d10!", "a d11!"});
}

TEST(the_chunk_is_shared_in_order_of_arrival) {
  Harness harness(100, options_of(8, 8, 16));
  harness.add(5);
  harness.add(6);
  harness.add(3);
  check_steps(harness, {"a p0+5!, b p0+3", "a d5!, b p3+3!, c p0+3!", "a d6!, b d6!, c d3!"});
}

TEST(decoding_sequences_come_first_and_prefill_fills_what_is_left_of_the_step) {
  Harness harness(100, options_of(4, 8, 5));
  harness.add(2);
  harness.add(2);
  CHECK_EQ(harness.step(), "a p0+2!, b p0+2!");
  harness.add(20);
  check_steps(harness, {"a d2!, b d2!, c p0+3", "a d3!, b d3!, c p3+3"});
}

TEST(planning_twice_plans_the_same) {
  Harness harness(100, options_of(4, 8, 16));
  harness.add(10);
  harness.step();
  harness.add(3);
  const std::string first = harness.plan();
  CHECK_EQ(harness.plan(), first);
  CHECK_EQ(first, "a p8+2!, b p0+3!");
}

TEST(no_more_sequences_run_than_allowed_and_a_finished_one_makes_room) {
  Harness harness(100, options_of(2, 8, 16));
  Sequence* a = harness.add(2);
  harness.add(2);
  harness.add(2);
  check_steps(harness, {"a p0+2!, b p0+2!", "a d2!, b d2!"});
  CHECK_EQ(harness.scheduler.num_waiting(), 1);
  harness.scheduler.remove(a);
  check_steps(harness, {"b d3!, c p0+2!"});
}

TEST(sequences_are_never_more_than_tokens_of_a_step) {
  Harness harness(100, options_of(64, 8, 2));
  for (int i = 0; i < 3; ++i) harness.add(1);
  check_steps(harness, {"a p0+1!, b p0+1!", "a d1!, b d1!"});
  CHECK_EQ(harness.scheduler.num_running(), 2);
}

TEST(vision_goes_on_beside_the_steps_of_others_one_sequence_at_a_time) {
  Harness harness(100, options_of(8, 8, 16));
  Sequence* a = harness.add(4, 100, true);
  Sequence* b = harness.add(4, 100, true);
  harness.add(2);
  check_steps(harness, {"c p0+2!, a v", "c d2!, a v"});
  harness.finish_vision(a);
  check_steps(harness, {"c d3!, a p0+4!, b v"});
  harness.finish_vision(b);
  check_steps(harness, {"a d4!, c d4!, b p0+4!", "a d5!, b d4!, c d5!"});
}

TEST(admission_waits_for_room_and_keeps_the_order) {
  Harness harness(6, options_of(8, 64, 64));
  Sequence* a = harness.add(15, 2);  // 4 blocks
  harness.add(8, 2);                 // 2 blocks, and 1 for a to grow: does not fit beside a
  harness.add(1, 2);                 // would fit, but came later
  check_steps(harness, {"a p0+15!", "a d15!"});
  CHECK_EQ(harness.scheduler.num_waiting(), 2);
  harness.scheduler.remove(a);
  CHECK_EQ(harness.step(), "b p0+8!, c p0+1!");
  CHECK_EQ(harness.pool.num_used(), 3);
}

TEST(the_last_admitted_gives_way_and_is_computed_again_with_its_answer) {
  Harness harness(5, options_of(8, 64, 64));
  Sequence* a = harness.add(8, 13);  // 2 blocks, 5 at its longest
  Sequence* b = harness.add(4, 9);
  // Room for b at first: 1 block, and 1 for a to grow.
  check_steps(harness, {"a p0+8!, b p0+4!", "a d8!, b d4!", "a d9!, b d5!", "a d10!, b d6!",
                        "a d11!, b d7!"});
  CHECK_EQ(harness.pool.num_free(), 0);
  CHECK_EQ(b->num_tokens, 9);
  // Both need a block now; b came last. It waits until its 9 tokens fit beside a.
  check_steps(harness, {"-b, a d12!", "a d13!"});
  CHECK_EQ(b->num_cached, 0);
  harness.scheduler.remove(a);
  check_steps(harness, {"b p0+9!", "b d9!", "b d10!"});
  CHECK_EQ(harness.pool.num_used(), 3);
}

TEST(a_preempted_sequence_goes_to_the_front_of_the_queue) {
  Harness harness(4, options_of(2, 64, 64));
  Sequence* a = harness.add(4, 13);
  Sequence* b = harness.add(4, 13);
  harness.add(1, 2);  // waits: two run
  check_steps(harness, {"a p0+4!, b p0+4!", "a d4!, b d4!", "a d5!, b d5!", "a d6!, b d6!",
                        "a d7!, b d7!", "-b, a d8!"});
  // c would fit, but b came first; then c waits for its block and one for b to grow.
  CHECK_EQ(harness.step(), "a d9!");
  harness.scheduler.remove(a);
  CHECK_EQ(harness.step(), "b p0+9!");
  harness.scheduler.remove(b);
  CHECK_EQ(harness.step(), "c p0+1!");
}

TEST(the_oldest_is_never_preempted_and_everyone_ends) {
  Harness harness(6, options_of(8, 5, 9));
  std::vector<Sequence*> open;
  for (int i = 0; i < 8; ++i) open.push_back(harness.add(3 + i, 24 - 3 - i, i % 3 == 0));
  int steps = 0;
  while (!harness.scheduler.idle()) {
    CHECK(++steps < 2000);
    const StepPlan plan = harness.scheduler.plan();
    for (const Sequence* sequence : plan.preempted) CHECK(sequence != open.front());
    harness.compute(plan, open);
  }
  CHECK(open.empty());
  CHECK_EQ(harness.pool.num_used(), 0);
}

TEST(removing_works_in_every_phase) {
  Harness harness(100, options_of(3, 4, 16));
  Sequence* decoding = harness.add(2);
  harness.step();
  Sequence* prefilling = harness.add(20);
  Sequence* encoding = harness.add(8, 100, true);
  Sequence* waiting = harness.add(8);
  CHECK_EQ(harness.step(), "a d2!, b p0+4, c v");
  CHECK(waiting->phase == SequencePhase::kWaiting);
  for (Sequence* sequence : {waiting, encoding, prefilling, decoding}) {
    harness.scheduler.remove(sequence);
    CHECK(sequence->phase == SequencePhase::kFinished);
  }
  CHECK(harness.scheduler.idle());
  CHECK_EQ(harness.pool.num_used(), 0);
}

TEST(knows_who_can_never_be_preempted) {
  SchedulerOptions options = options_of(3, 64, 64);
  options.max_cached = 20;  // 5 blocks; two others may have 10 of the 14
  Harness harness(14, options);
  const Sequence* a = harness.add(4, 17);  // 5 blocks at its longest
  const Sequence* b = harness.add(4, 13);  // 4
  harness.step();
  CHECK(harness.scheduler.may_be_preempted(a));
  CHECK(!harness.scheduler.may_be_preempted(b));
}

TEST(who_runs_alone_is_never_preempted) {
  Harness harness(10, options_of(1, 64, 64));
  const Sequence* a = harness.add(4, 37);  // all blocks
  harness.step();
  CHECK(!harness.scheduler.may_be_preempted(a));
}

TEST(says_what_can_never_fit) {
  Harness harness(10, options_of(8, 64, 64));
  CHECK(harness.scheduler.can_ever_fit(40));
  CHECK(!harness.scheduler.can_ever_fit(41));
}

TEST(a_prompt_begins_where_known_blocks_end) {
  Harness harness(100, options_of(8, 100, 100));
  Sequence* a = harness.add_text("abcdefghij", "klmnop");
  check_steps(harness, {"a p0+10!", "a d10!", "a d11!"});
  harness.scheduler.remove(a);  // abcd, efgh and, of its answer, ijkl are full
  CHECK_EQ(harness.pool.num_used(), 0);
  CHECK_EQ(harness.pool.num_cached(), 3);

  harness.add_text("abcdefghijklm");  // all that is known, answer included
  harness.add_text("abcdXfgh");       // the first block
  harness.add_text("Xbcdefgh");       // nothing: what stands before counts
  harness.add_text("abcd");           // nothing: one token is computed for its logits
  harness.add_text("abcde");
  CHECK_EQ(harness.step(), "b p12+1!, c p4+4!, d p0+8!, e p0+4!, f p4+1!");
}

TEST(blocks_that_are_shared_are_counted_once_and_stay_until_their_last_owner_ends) {
  Harness harness(8, options_of(8, 100, 100));
  Sequence* a = harness.add_text("abcdefghij");
  harness.step();
  CHECK_EQ(harness.pool.num_used(), 3);
  Sequence* b = harness.add_text("abcdefghkl");
  CHECK_EQ(harness.step(), "a d10!, b p8+2!");
  CHECK_EQ(harness.pool.num_used(), 4);
  CHECK_EQ(a->blocks[1], b->blocks[1]);
  CHECK(a->blocks[2] != b->blocks[2]);
  harness.scheduler.remove(a);
  CHECK_EQ(harness.pool.num_used(), 3);
  CHECK_EQ(harness.step(), "b d10!");
  harness.scheduler.remove(b);
  CHECK_EQ(harness.pool.num_used(), 0);
  CHECK_EQ(harness.pool.num_cached(), 2);
}

TEST(a_prompt_takes_over_what_another_has_computed_meanwhile) {
  // Both are admitted before anything is known; the chunk is enough for one of them only.
  Harness harness(100, options_of(8, 10, 100));
  Sequence* a = harness.add_text("abcdefghij");
  Sequence* b = harness.add_text("abcdefghijkl");
  CHECK_EQ(harness.step(), "a p0+10!");
  CHECK_EQ(harness.pool.num_used(), 6);
  CHECK_EQ(harness.step(), "a d10!, b p8+4!");
  CHECK_EQ(harness.pool.num_used(), 4);  // b's own two first blocks are free again
  CHECK(a->blocks[0] == b->blocks[0] && a->blocks[1] == b->blocks[1]);
}

TEST(equal_blocks_computed_in_one_step_become_one) {
  Harness harness(100, options_of(8, 100, 100));
  Sequence* a = harness.add_text("abcdefghij");
  Sequence* b = harness.add_text("abcdefghxy");
  CHECK_EQ(harness.step(), "a p0+10!, b p0+10!");
  CHECK_EQ(harness.pool.num_used(), 4);
  CHECK(a->blocks[0] == b->blocks[0] && a->blocks[1] == b->blocks[1]);
}

TEST(cached_blocks_make_room_oldest_first_and_the_end_of_a_chain_before_its_begin) {
  Harness harness(6, options_of(1, 100, 100));
  const auto run = [&](const std::string& text) {
    Sequence* sequence = harness.add_text(text);
    const std::string step = harness.step();
    harness.scheduler.remove(sequence);
    return step;
  };
  CHECK_EQ(run("abcdefgh-"), "a p0+9!");
  CHECK_EQ(run("ABCDEFGH-"), "b p0+9!");
  CHECK_EQ(harness.pool.num_cached(), 4);
  CHECK_EQ(run("abcdefgh="), "c p8+1!");  // used again: now the newest
  CHECK_EQ(run("012345678"), "d p0+9!");  // takes the last free blocks and the end of b's
  CHECK_EQ(run("abcdefgh#"), "e p8+1!");
  CHECK_EQ(run("ABCDEFGH#"), "f p4+5!");
}

TEST(a_preempted_sequence_goes_on_from_what_is_still_known) {
  Harness harness(5, options_of(4, 100, 100));
  harness.add_text("abcd", "efghijkl");
  harness.add_text("ABCDEFGH", "IJKL");
  check_steps(harness, {"a p0+4!, b p0+8!", "a d4!, b d8!", "a d5!, b d9!", "a d6!, b d10!",
                        "a d7!, b d11!"});
  // a needs a third block, and there is none: b gives up three, of which one makes room.
  CHECK_EQ(harness.step(), "-b, a d8!");
  Sequence* b = nullptr;
  for (Sequence* sequence : harness.scheduler.running()) {
    CHECK(sequence->id == 1);
    b = sequence;
  }
  harness.scheduler.remove(b);  // a ends
  CHECK_EQ(harness.step(), "b p8+5!");
}

TEST(a_sequence_without_cache_neither_takes_nor_gives) {
  Harness harness(100, options_of(8, 100, 100));
  const auto private_text = [&](const std::string& text) {
    Sequence* sequence = harness.add_text(text);
    sequence->uses_cache = false;
    return sequence;
  };
  Sequence* a = private_text("abcdefghi");
  CHECK_EQ(harness.step(), "a p0+9!");
  harness.scheduler.remove(a);
  CHECK_EQ(harness.pool.num_cached(), 0);
  Sequence* b = harness.add_text("abcdefghi");
  CHECK_EQ(harness.step(), "b p0+9!");
  harness.scheduler.remove(b);
  private_text("abcdefghi");
  CHECK_EQ(harness.step(), "c p0+9!");
}

TEST(vision_is_skipped_when_known_blocks_hold_all_that_needs_it) {
  Harness harness(100, options_of(8, 100, 100));
  Sequence* a = harness.add_text("abcdefghij");
  harness.step();
  harness.scheduler.remove(a);
  harness.add_text("abcdefghij")->vision_end = 8;
  CHECK_EQ(harness.step(), "b p8+2!");
  harness.add_text("abcdefghij")->vision_end = 9;
  CHECK_EQ(harness.step(), "b d10!, c v");
}

TEST(forgotten_blocks_are_free_or_stay_with_their_owners) {
  Harness harness(100, options_of(8, 100, 100));
  harness.scheduler.remove([&] {
    Sequence* a = harness.add_text("abcdefghij");
    harness.step();
    return a;
  }());
  Sequence* b = harness.add_text("ABCDEFGHI", "JKLMNOPQ");
  harness.step();
  harness.prefixes.clear();
  CHECK_EQ(harness.pool.num_cached(), 0);
  CHECK_EQ(harness.pool.num_used(), 3);
  for (int i = 0; i < 8; ++i) harness.step();
  // What follows a forgotten block cannot be found, and is not kept.
  harness.scheduler.remove(b);
  CHECK_EQ(harness.pool.num_used() + harness.pool.num_cached(), 0);
}
