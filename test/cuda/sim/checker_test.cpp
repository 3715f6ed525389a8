// Kernels with one mistake each: every mistake must be found, whatever the order of warps and
// blocks, and the same kernel without it must pass.

#include "check.h"
#include "ptx_kernel.h"

using namespace qvl::sim;

namespace {

std::vector<Options> all_orders() {
  std::vector<Options> all;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom})
    for (const bool early : {false, true}) {
      Options o;
      o.order = order;
      o.copies_early = early;
      all.push_back(o);
    }
  return all;
}

struct Shape {
  uint32_t threads = 64;
  size_t shared_bytes = 1024;
  uint32_t blocks = 1;
};

void check_passes(const std::string& body, Shape s = {}) {
  for (const Options& o : all_orders()) {
    DeviceValues<uint32_t> in(std::vector<uint32_t>(256, 1)), out(std::vector<uint32_t>(256, 0));
    CHECK_EQ(
        failure_of(body, {in.address(), out.address()}, s.threads, s.shared_bytes, s.blocks, o),
        std::string());
  }
}
void check_found(const std::string& body, const std::string& words, Shape s = {},
                 bool early_too = true) {
  for (const Options& o : all_orders()) {
    if (o.copies_early && !early_too) continue;
    DeviceValues<uint32_t> in(std::vector<uint32_t>(256, 1)), out(std::vector<uint32_t>(256, 0));
    const std::string message =
        failure_of(body, {in.address(), out.address()}, s.threads, s.shared_bytes, s.blocks, o);
    if (message.find(words) != std::string::npos) continue;
    throw qvl::test::Failure("expected '" + words + "', got '" + message + "'");
  }
}

std::string without(std::string text, const std::string& part) {
  const size_t at = text.find(part);
  if (at == std::string::npos) throw qvl::test::Failure("the kernel has no " + part);
  return text.erase(at, part.size());
}

// Every thread writes its word of shared memory and reads the word of the thread 32 further on.
const std::string kExchange =
    "mov.u32 %r0, %tid.x;\nmul.lo.s32 %r1, %r0, 4;\nst.shared.u32 [%r1], %r0;\n"
    "bar.sync 0;\n"
    "add.s32 %r2, %r0, 32;\nand.b32 %r2, %r2, 63;\nmul.lo.s32 %r3, %r2, 4;\nld.shared.u32 %r4, "
    "[%r3];\n"
    "bar.sync 1;\n"
    "st.shared.u32 [%r1], %r4;\ncvt.u64.u32 %d2, %r1;\nadd.s64 %d3, %d1, %d2;\nst.global.u32 "
    "[%d3], %r4;\n";

TEST(a_missing_barrier_is_a_race) {
  check_passes(kExchange);
  check_found(without(kExchange, "bar.sync 0;\n"), "shared");
  check_found(without(kExchange, "bar.sync 1;\n"), "on shared byte");
}

// The same within a warp, where bar.warp.sync is enough.
TEST(a_missing_warp_barrier_is_a_race) {
  const std::string exchange =
      "mov.u32 %r0, %tid.x;\nmul.lo.s32 %r1, %r0, 4;\nst.shared.u32 [%r1], %r0;\nbar.warp.sync "
      "0xffffffff;\n"
      "xor.b32 %r3, %r1, 4;\nld.shared.u32 %r4, [%r3];\n";
  check_passes(exchange, {32});
  check_found(without(exchange, "bar.warp.sync 0xffffffff;\n"), "read after write", {32});
}

TEST(a_shuffle_orders_no_memory) {
  check_found(
      "mov.u32 %r0, %tid.x;\nmul.lo.s32 %r1, %r0, 4;\nst.shared.u32 [%r1], %r0;\n"
      "shfl.sync.bfly.b32 %r5|%p1, %r0, 1, 31, 0xffffffff;\n"
      "xor.b32 %r3, %r1, 4;\nld.shared.u32 %r4, [%r3];\n",
      "read after write", {32});
}

TEST(atomics_do_not_race_with_each_other) {
  const std::string count =
      "mov.u32 %r0, %tid.x;\nsetp.eq.s32 %p1, %r0, 0;\nmov.u32 %r9, 0;\n@%p1 st.shared.u32 [0], "
      "%r9;\nbar.sync 0;\n"
      "atom.shared.add.u32 %r1, [0], 1;\nbar.sync 1;\nld.shared.u32 %r2, [0];\n";
  check_passes(count);
  check_found(without(count, "bar.sync 1;\n"), "read after write");
  check_found(without(count, "bar.sync 0;\n"), "shared");
}

TEST(named_barriers_order_only_whom_they_hold) {
  // Warps 0 and 1 meet at barrier 1, warps 2 and 3 at barrier 2: neither pair knows of the other.
  const std::string pairs =
      "mov.u32 %r0, %tid.x;\nmul.lo.s32 %r1, %r0, 4;\nst.shared.u32 [%r1], %r0;\n"
      "shr.u32 %r5, %r0, 6;\nadd.s32 %r5, %r5, 1;\nbar.sync %r5, 64;\n"
      "xor.b32 %r3, %r1, DISTANCE;\nld.shared.u32 %r4, [%r3];\n";
  const auto at = [&](const std::string& distance) {
    std::string text = pairs;
    return text.replace(text.find("DISTANCE"), 8, distance);
  };
  check_passes(at("128"), {128});
  check_found(at("256"), "read after write", {128});
}

TEST(reading_what_nobody_wrote_is_found) {
  check_found("ld.shared.u32 %r1, [16];\n", "that nobody wrote");
}

TEST(addresses_out_of_bounds_are_found) {
  check_found("ld.global.u32 %r1, [%d0+1024];\n", "out of bounds");
  check_found("ld.global.u32 %r1, [%d0+-4];\n", "out of bounds");
  check_found("mov.u32 %r1, 0;\nst.global.v4.u32 [%d0+1024], {%r1, %r1, %r1, %r1};\n",
              "out of bounds");
  check_found("mov.u32 %r1, 0;\nst.shared.u32 [1024], %r1;\n", "out of bounds");
  check_found("mov.u64 %d5, 0;\nld.global.u32 %r1, [%d5];\n", "out of bounds");
}

TEST(misaligned_accesses_are_found) {
  check_found("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d0+8];\n", "misaligned");
  check_found("ld.global.u32 %r1, [%d0+2];\n", "misaligned");
}

// Thread t copies 16 bytes to its place and reads the first word of them.
const std::string kCopy =
    "mov.u32 %r0, %tid.x;\nand.b32 %r9, %r0, 31;\nmul.wide.u32 %d2, %r9, 16;\nadd.s64 %d3, %d0, "
    "%d2;\nmul.lo.s32 %r1, %r0, 16;\n"
    "cp.async.cg.shared.global [%r1], [%d3], 16;\ncp.async.commit_group;\ncp.async.wait_group "
    "0;\nld.shared.u32 %r2, [%r1];\n";

TEST(a_missing_wait_for_a_copy_is_found) {
  check_passes(kCopy);
  check_found(without(kCopy, "cp.async.wait_group 0;\n"), "cp.async", {}, false);
  check_found(without(kCopy, "cp.async.commit_group;\n"), "cp.async", {}, false);
  // Waiting until one group is left is not enough for the only one.
  std::string one = kCopy;
  one.replace(one.find("wait_group 0"), 12, "wait_group 1");
  check_found(one, "cp.async", {}, false);
}

TEST(a_copy_that_nobody_waits_for_is_found_in_every_order) {
  check_found("cp.async.cg.shared.global [0], [%d0], 16;\ncp.async.commit_group;\n",
              "never waits for", {1});
}

TEST(a_copy_into_what_is_still_read_is_found) {
  const std::string twice = kCopy +
                            "bar.sync 0;\n"
                            "xor.b32 %r3, %r1, 512;\nld.shared.u32 %r4, [%r3];\nbar.sync 1;\n"
                            "cp.async.cg.shared.global [%r1], [%d3], "
                            "16;\ncp.async.commit_group;\ncp.async.wait_group 0;\n";
  check_passes(twice);
  check_found(without(twice, "bar.sync 1;\n"), "on shared byte");
}

TEST(a_zero_filled_copy_reads_nothing) {
  check_passes(
      "mov.u64 %d5, 0;\nmov.u32 %r1, 0;\ncp.async.cg.shared.global [0], [%d5], 16, "
      "%r1;\ncp.async.commit_group;\n"
      "cp.async.wait_group 0;\nld.shared.u32 %r2, [0];\n",
      {1});
}

TEST(blocks_that_write_the_same_place_are_found) {
  check_found("mov.u32 %r1, 1;\nst.global.u32 [%d1], %r1;\n", "two blocks write", {1, 0, 2});
  check_found(
      "mov.u32 %r1, %ctaid.x;\nsetp.eq.s32 %p1, %r1, 0;\nmov.u32 %r2, 7;\n@%p1 st.global.u32 "
      "[%d1], %r2;\n"
      "@!%p1 ld.global.u32 %r3, [%d1];\n",
      "another block of this launch", {1, 0, 2});
}

TEST(an_atomic_that_acquires_and_releases_orders_blocks) {
  // Every block writes its word; the last one to count reads them all.
  const std::string merge =
      "mov.u32 %r0, %tid.x;\nsetp.eq.s32 %p9, %r0, 0;\n@!%p9 bra done;\n"
      "mov.u32 %r1, %ctaid.x;\nmul.wide.u32 %d2, %r1, 4;\nadd.s64 %d3, %d1, %d2;\nst.global.u32 "
      "[%d3+64], %r1;\n"
      "atom.ORDER.gpu.global.add.u32 %r2, [%d1], 1;\nsetp.ne.s32 %p1, %r2, 3;\n@%p1 bra done;\n"
      "ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%d1+64];\ndone:\n";
  const auto with = [&](const std::string& order) {
    std::string text = merge;
    return text.replace(text.find("ORDER"), 5, order);
  };
  check_passes(with("acq_rel"), {32, 0, 4});
  check_found(with("relaxed"), "another block of this launch", {32, 0, 4});
}

TEST(a_release_covers_what_its_thread_comes_after) {
  // Thread 33 writes; thread 0 counts the block; the last block reads.
  const std::string merge =
      "mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\nmul.wide.u32 %d2, %r1, 4;\nadd.s64 %d3, %d1, "
      "%d2;\n"
      "setp.eq.s32 %p2, %r0, 33;\n@%p2 st.global.u32 [%d3+64], %r1;\nbar.sync 0;\n"
      "setp.eq.s32 %p9, %r0, 0;\n@!%p9 bra done;\n"
      "atom.acq_rel.gpu.global.add.u32 %r2, [%d1], 1;\nsetp.ne.s32 %p1, %r2, 1;\n@%p1 bra done;\n"
      "ld.global.v2.u32 {%r3, %r4}, [%d1+64];\ndone:\n";
  check_passes(merge, {64, 0, 2});
  check_found(without(merge, "bar.sync 0;\n"), "wrote", {64, 0, 2});
}

TEST(threads_that_meet_in_global_memory_need_a_barrier) {
  const std::string exchange =
      "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d2, %r0, 4;\nadd.s64 %d3, %d1, %d2;\nst.global.u32 "
      "[%d3], %r0;\nbar.sync 0;\n"
      "xor.b32 %r1, %r0, 33;\nmul.wide.u32 %d2, %r1, 4;\nadd.s64 %d3, %d1, %d2;\nld.global.u32 "
      "%r2, [%d3];\n";
  check_passes(exchange);
  check_found(without(exchange, "bar.sync 0;\n"), "of its block wrote, with no barrier between");
}

TEST(divergence_at_a_barrier_is_found) {
  check_found(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p1, %r0, 7;\n@%p1 bra low;\nbar.sync 0;\nbra.uni "
      "done;\nlow:\nbar.sync 0;\ndone:\n",
      "divergence at a barrier", {32});
  // Some threads never come: they have left, which hardware allows.
  check_passes(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p1, %r0, 7;\n@%p1 bra done;\nbar.sync 0;\ndone:\n");
}

TEST(collectives_without_their_lanes_are_found) {
  check_found(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p1, %r0, 7;\n@%p1 ret;\nshfl.sync.bfly.b32 %r5, %r0, 1, "
      "31, 0xffffffff;\n",
      "have left", {32});
  check_found("mov.u32 %r0, %tid.x;\nshfl.sync.idx.b32 %r5, %r0, 3, 31, 0x7fffffff;\n",
              "mask leaves it out", {32});
  check_found(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p1, %r0, 16;\n@!%p1 ret;\nshfl.sync.idx.b32 %r5, %r0, "
      "20, 31, 0xffff;\n",
      "takes no part", {32});
}

TEST(lanes_that_never_meet_are_a_deadlock) {
  check_found(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p1, %r0, 7;\n@%p1 bra low;\nbar.warp.sync "
      "0xffffffff;\nbra.uni done;\nlow:\n"
      "bar.warp.sync 0xffffffff;\ndone:\n",
      "deadlock", {32});
}

TEST(a_dependent_kernel_waits_before_it_reads) {
  const std::string write = "mov.u32 %r1, 5;\nst.global.u32 [%d0], %r1;\n";
  const std::string read = "griddepcontrol.wait;\nld.global.u32 %r2, [%d0];\n";
  const PtxModule writer(ptx_text(write, 1)), reader(ptx_text(read, 1)),
      hasty(ptx_text(without(read, "griddepcontrol.wait;\n"), 1));
  DeviceValues<uint32_t> data({1, 2});
  const auto run = [&](const PtxModule& m, bool programmatic) {
    Launch launch;
    launch.program = m.find("kernel");
    launch.block = {1, 1, 1};
    launch.parameters.resize(8);
    const uint64_t address = data.address();
    std::memcpy(launch.parameters.data(), &address, 8);
    launch.programmatic = programmatic;
    run_launch(launch, {});
  };
  run(writer, false);
  run(reader, true);
  run(writer, false);
  run(hasty, false);  // an ordinary launch comes after everything
  run(writer, false);
  try {
    run(hasty, true);
    CHECK(false);
  } catch (const KernelError& e) {
    CHECK(std::string(e.what()).find("before griddepcontrol.wait") != std::string::npos);
  }
}

TEST(findings_name_the_instruction_and_the_thread) {
  DeviceValues<uint32_t> in({1});
  const std::string message = failure_of(
      "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d2, %r0, 4;\nadd.s64 %d3, %d0, %d2;\nld.global.u32 %r1, "
      "[%d3];\n",
      {in.address()});
  CHECK(message.find("block (0,0,0) thread 1 at kernel:0 (ld.global.u32)") != std::string::npos);
  CHECK(message.find("0 bytes after the end of an allocation of 4 bytes") != std::string::npos);
}

}  // namespace
