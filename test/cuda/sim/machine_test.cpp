// Divergence, collectives and schedules: results that do not depend on who ran first.

#include "check.h"
#include "ptx_kernel.h"

using namespace qvl::sim;

namespace {

// Runs a body that leaves one word a thread in %r1, stored at %d0 + 4 * thread.
std::vector<uint32_t> words(const std::string& body, uint32_t threads = 32,
                            const Options& options = {}) {
  DeviceValues<uint32_t> out(std::vector<uint32_t>(threads, 0xdeadbeef));
  run_ptx("mov.u32 %r0, %tid.x;\n" + body +
              "mul.wide.u32 %d90, %r0, 4;\nadd.s64 %d91, %d0, %d90;\nst.global.u32 [%d91], %r1;\n",
          {out.address()}, threads, 1024, 1, options);
  return out.read();
}

TEST(lanes_diverge_in_loops_and_meet_again) {
  // Lane l adds l .. 1; afterwards all 32 of them vote.
  const auto got = words(
      "mov.u32 %r1, 0;\nmov.u32 %r2, %r0;\n"
      "loop:\nsetp.eq.s32 %p1, %r2, 0;\n@%p1 bra out;\nadd.s32 %r1, %r1, %r2;\nsub.s32 %r2, %r2, "
      "1;\nbra.uni loop;\n"
      "out:\nsetp.gt.u32 %p2, %r1, 10;\nvote.sync.ballot.b32 %r3, %p2, 0xffffffff;\npopc.b32 %r4, "
      "%r3;\nmul.lo.s32 %r4, %r4, 1000;\nadd.s32 %r1, %r1, %r4;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l * (l + 1) / 2 + 27000);
}

TEST(shuffles_take_the_lane_that_ptx_says) {
  const auto shuffle = [](const std::string& text) { return words(text); };
  auto got = shuffle("shfl.sync.bfly.b32 %r1, %r0, 5, 31, 0xffffffff;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l ^ 5);
  got = shuffle("shfl.sync.down.b32 %r1, %r0, 3, 31, 0xffffffff;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l + 3 < 32 ? l + 3 : l);
  got = shuffle("shfl.sync.up.b32 %r1, %r0, 3, 0, 0xffffffff;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l >= 3 ? l - 3 : l);
  got = shuffle("shfl.sync.idx.b32 %r1, %r0, 2, 0x181f, 0xffffffff;\n");  // in segments of eight
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l / 8 * 8 + 2);
  got = shuffle(
      "shfl.sync.down.b32 %r2|%p1, %r0, 1, 0x1c1f, 0xffffffff;\nselp.b32 %r1, 1, 0, %p1;\n");  // of
                                                                                               // four
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l % 4 == 3 ? 0u : 1u);
}

TEST(collectives_of_half_a_warp_meet_from_two_branches) {
  const auto got = words(
      "setp.lt.u32 %p1, %r0, 16;\nmov.u32 %r5, 0xffff0000;\n@%p1 mov.u32 %r5, 0xffff;\n"
      "shfl.sync.bfly.b32 %r1, %r0, 1, 31, %r5;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l ^ 1);
}

TEST(votes_matches_and_reductions_cover_their_lanes) {
  auto got = words(
      "and.b32 %r2, %r0, 3;\nsetp.eq.s32 %p1, %r2, 0;\nvote.sync.any.pred %p2, %p1, 0xffffffff;\n"
      "vote.sync.all.pred %p3, %p1, 0xffffffff;\nselp.b32 %r3, 1, 0, %p2;\nselp.b32 %r4, 2, 0, "
      "%p3;\nadd.s32 %r1, %r3, %r4;\n");
  for (const uint32_t v : got) CHECK_EQ(v, 1u);
  got = words("and.b32 %r2, %r0, 3;\nmatch.any.sync.b32 %r1, %r2, 0xffffffff;\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], 0x11111111u << l % 4);
  got = words("redux.sync.add.u32 %r1, %r0, 0xffffffff;\n");
  for (const uint32_t v : got) CHECK_EQ(v, 31u * 32 / 2);
  got = words("sub.s32 %r2, %r0, 5;\nredux.sync.min.s32 %r1, %r2, 0xffffffff;\n");
  for (const uint32_t v : got) CHECK_EQ(v, static_cast<uint32_t>(-5));
  got = words(
      "redux.sync.xor.b32 %r1, %r0, 0xffffffff;\nactivemask.b32 %r2;\npopc.b32 %r2, %r2;\nadd.s32 "
      "%r1, %r1, %r2;\n");
  for (const uint32_t v : got) CHECK_EQ(v, 32u);
}

TEST(atomics_do_what_they_are_called) {
  struct Case {
    const char* text;
    uint32_t before, after;
  };
  for (const Case& c :
       {Case{"add.u32 %r1, [%d1], 3", 10, 13},
        Case{"min.s32 %r1, [%d1], -4", 10, static_cast<uint32_t>(-4)},
        Case{"max.u32 %r1, [%d1], 12", 10, 12}, Case{"and.b32 %r1, [%d1], 6", 10, 2},
        Case{"or.b32 %r1, [%d1], 5", 10, 15}, Case{"xor.b32 %r1, [%d1], 3", 10, 9},
        Case{"exch.b32 %r1, [%d1], 77", 10, 77}, Case{"cas.b32 %r1, [%d1], 10, 5", 10, 5},
        Case{"cas.b32 %r1, [%d1], 11, 5", 10, 10}, Case{"inc.u32 %r1, [%d1], 10", 10, 0},
        Case{"dec.u32 %r1, [%d1], 20", 10, 9}}) {
    DeviceValues<uint32_t> out({0}), word({c.before});
    run_ptx("atom.global." + std::string(c.text) + ";\nst.global.u32 [%d0], %r1;\n",
            {out.address(), word.address()}, 1);
    CHECK_EQ(out.read()[0], c.before);
    CHECK_EQ(word.read()[0], c.after);
  }
  DeviceValues<float> sum({1.5f});
  run_ptx("mov.f32 %f1, 0f40000000;\nred.global.add.f32 [%d0], %f1;\n", {sum.address()}, 32);
  CHECK_EQ(sum.read()[0], 65.5f);
}

TEST(wide_and_narrow_accesses_keep_their_bits) {
  DeviceValues<uint64_t> data({0x8877665544332211, 0xffeeddccbbaa9988});
  DeviceValues<uint64_t> out(std::vector<uint64_t>(8, 0));
  run_ptx(
      "ld.global.u8 %r1, [%d0+7];\nst.global.u32 [%d1], %r1;\nld.global.s8 %r2, "
      "[%d0+7];\nst.global.u32 [%d1+4], %r2;\n"
      "ld.global.s16 %r3, [%d0+6];\nst.global.u32 [%d1+8], %r3;\nld.global.u16 %h1, "
      "[%d0+6];\nst.global.u16 [%d1+12], %h1;\n"
      "ld.global.v2.u64 {%d5, %d6}, [%d0];\nst.global.v2.u64 [%d1+16], {%d6, %d5};\n"
      "ld.global.s32 %d7, [%d0+4];\nst.global.u64 [%d1+32], %d7;\nst.global.u8 [%d1+40], %r1;\n",
      {data.address(), out.address()}, 1);
  const std::vector<uint64_t> expected = {0xffffff8800000088,
                                          0x00008877ffff8877,
                                          0xffeeddccbbaa9988,
                                          0x8877665544332211,
                                          0xffffffff88776655,
                                          0x88,
                                          0,
                                          0};
  CHECK(out.read() == expected);
}

// A sum over the block through shared memory: copies, barriers, shuffles.
const std::string kBlockSum =
    "mul.wide.u32 %d2, %r0, 16;\nadd.s64 %d3, %d1, %d2;\nmul.lo.s32 %r2, %r0, 16;\n"
    "cp.async.ca.shared.global [%r2], [%d3], "
    "16;\ncp.async.commit_group;\ncp.async.wait_all;\nbar.sync 0;\n"
    "xor.b32 %r3, %r2, 512;\nld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r3];\n"
    "add.f32 %f1, %f1, %f2;\nadd.f32 %f3, %f3, %f4;\nadd.f32 %f1, %f1, %f3;\nmov.b32 %r4, %f1;\n"
    "shfl.sync.bfly.b32 %r5, %r4, 16, 31, 0xffffffff;\nmov.b32 %f5, %r5;\nadd.f32 %f1, %f1, "
    "%f5;\nmov.b32 %r1, %f1;\n"
    "mul.wide.u32 %d90, %r0, 4;\nadd.s64 %d91, %d0, %d90;\nst.global.u32 [%d91], %r1;\n";

TEST(six_schedules_give_the_same_bits) {
  std::vector<float> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = 1.f / static_cast<float>(i + 1);
  std::vector<uint32_t> first;
  for (const Order order : {Order::kForward, Order::kReverse, Order::kRandom})
    for (const bool early : {false, true}) {
      DeviceValues<float> source(in);
      DeviceValues<uint32_t> out(std::vector<uint32_t>(64, 0));
      Options o;
      o.order = order;
      o.copies_early = early;
      run_ptx("mov.u32 %r0, %tid.x;\n" + kBlockSum, {out.address(), source.address()}, 64, 1024, 1,
              o);
      if (first.empty()) first = out.read();
      CHECK(out.read() == first);
    }
  float expected = 0;
  const auto quad = [&](size_t t) {
    return (in[4 * t] + in[4 * t + 1]) + (in[4 * t + 2] + in[4 * t + 3]);
  };
  expected = quad(32) + quad(48);
  CHECK_EQ(first[0], std::bit_cast<uint32_t>(expected));
}

TEST(blocks_run_on_several_threads_when_nothing_is_checked) {
  Options o;
  o.check = false;
  o.threads = 4;
  DeviceValues<uint32_t> count({0}), out(std::vector<uint32_t>(100, 0));
  run_ptx(
      "mov.u32 %r0, %ctaid.x;\natom.global.add.u32 %r1, [%d0], 1;\nmul.wide.u32 %d2, %r0, 4;\n"
      "add.s64 %d3, %d1, %d2;\nst.global.u32 [%d3], %r0;\n",
      {count.address(), out.address()}, 1, 0, 100, o);
  CHECK_EQ(count.read()[0], 100u);
  for (uint32_t i = 0; i < 100; ++i) CHECK_EQ(out.read()[i], i);
  CHECK(failure_of("ld.global.u32 %r1, [%d0+4];\n", {count.address()}, 1, 0, 100, o)
            .find("out of bounds") != std::string::npos);
}

TEST(reverse_and_forward_differ_where_lanes_meet) {
  // Who writes last is not defined; the orders show it.
  const auto last = [](Order order) {
    DeviceValues<uint32_t> out({0});
    Options o;
    o.order = order;
    o.check = false;
    run_ptx("mov.u32 %r0, %tid.x;\nst.global.u32 [%d0], %r0;\n", {out.address()}, 32, 0, 1, o);
    return out.read()[0];
  };
  CHECK_EQ(last(Order::kForward), 31u);
  CHECK_EQ(last(Order::kReverse), 0u);
}

TEST(local_memory_and_constants_are_each_threads_own_and_everybodys) {
  const auto got = words(
      ".local .align 8 .b8 depot[16];\n.reg .b64 %SPL;\nmov.u64 %SPL, depot;\ncvta.local.u64 %d5, "
      "%SPL;\n"
      "st.local.u32 [%SPL+4], %r0;\nld.u32 %r1, [%d5+4];\n");
  for (uint32_t l = 0; l < 32; ++l) CHECK_EQ(got[l], l);
  const PtxModule module(
      ".version 9.0\n.target sm_80\n.address_size 64\n.const .align 4 .u32 table[3] = {5, 6, "
      "0x7};\n"
      ".visible .entry kernel(.param .u64 p)\n{\n.reg .b32 %r<9>;\n.reg .b64 %d<9>;\nld.param.u64 "
      "%d1, [p];\n"
      "ld.const.u32 %r1, [table+8];\nst.global.u32 [%d1], %r1;\nret;\n}\n");
  DeviceValues<uint32_t> out({0});
  Launch launch;
  launch.program = module.find("kernel");
  launch.parameters.resize(8);
  const uint64_t address = out.address();
  std::memcpy(launch.parameters.data(), &address, 8);
  run_launch(launch, {});
  CHECK_EQ(out.read()[0], 7u);
}

}  // namespace
