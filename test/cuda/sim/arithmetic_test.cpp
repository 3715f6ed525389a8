// Every arithmetic instruction against values worked out by hand or by the host.

#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "check.h"
#include "decode.h"
#include "ptx_kernel.h"

using namespace qvl::sim;

namespace {

constexpr uint64_t f32(float v) { return std::bit_cast<uint32_t>(v); }
constexpr uint64_t f64(double v) { return std::bit_cast<uint64_t>(v); }
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kDenormal = 0x1p-130f;

// Operands: a, b, c as registers of 32 (%ra), 64 (%da) and 16 bits (%ha) and as predicates (%pa,
// the lowest bit). The result goes to %r, %d, %h or %p.
struct Case {
  const char* text;
  uint64_t a, b, c, expected;
};

uint64_t result_of(const Case& c) {
  const std::string text = c.text;
  const char kind = text[text.find('%') + 1];
  DeviceValues<uint64_t> in({c.a, c.b, c.c}), out(std::vector<uint64_t>{0});
  std::string body =
      ".reg .b32 %ra, %rb, %rc, %r;\n.reg .b64 %da, %db, %dc, %d;\n.reg .b16 %ha, %hb, %hc, %h;\n"
      ".reg .pred %pa, %pb, %pc, %p;\n";
  int offset = 0;
  for (const char* name : {"a", "b", "c"}) {
    const std::string n = name, at = "[%d0+" + std::to_string(offset) + "];\n";
    body += "ld.global.b32 %r" + n + ", " + at + "ld.global.b64 %d" + n + ", " + at +
            "ld.global.b16 %h" + n + ", " + at + "and.b32 %r9, %r" + n + ", 1;\nsetp.ne.s32 %p" +
            n + ", %r9, 0;\n";
    offset += 8;
  }
  body += text + ";\n";
  if (kind == 'p') body += "selp.b32 %r, 1, 0, %p;\n";
  body += kind == 'd'   ? "st.global.b64 [%d1], %d;\n"
          : kind == 'h' ? "st.global.b16 [%d1], %h;\n"
                        : "st.global.b32 [%d1], %r;\n";
  run_ptx(body, {in.address(), out.address()}, 1);
  return out.read()[0];
}

void check_all(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const uint64_t got = result_of(c);
    if (got == c.expected) continue;
    std::ostringstream out;
    out << c.text << " of " << std::hex << c.a << ", " << c.b << ", " << c.c << ": got " << got
        << ", expected " << c.expected;
    throw qvl::test::Failure(out.str());
  }
}

const std::vector<Case>& integer_cases() {
  static const std::vector<Case> kCases = {
      {"mov.b32 %r, %ra", 7, 0, 0, 7},
      {"mov.b64 %d, {%ra, %rb}", 0x11111111, 0x22222222, 0, 0x2222222211111111},
      {"mov.b32 {%h, _}, %ra", 0x33334444, 0, 0, 0x4444},
      {"mov.b32 %r, {%ha, %hb}", 0x1111, 0x2222, 0, 0x22221111},
      {"mov.pred %p, %pa", 1, 0, 0, 1},
      {"add.s32 %r, %ra, %rb", 0xffffffff, 2, 0, 1},
      {"add.s16 %h, %ha, %hb", 0xffff, 3, 0, 2},
      {"add.s64 %d, %da, %db", ~uint64_t{0}, 5, 0, 4},
      {"sub.s32 %r, %ra, %rb", 3, 5, 0, 0xfffffffe},
      {"sub.u64 %d, %da, 1", 0, 0, 0, ~uint64_t{0}},
      {"mul.lo.s32 %r, %ra, %rb", 0x10001, 0x10001, 0, 0x20001},
      {"mul.lo.u16 %h, %ha, %hb", 300, 300, 0, 90000 & 0xffff},
      {"mul.hi.s32 %r, %ra, %rb", 0xffffffff, 2, 0, 0xffffffff},
      {"mul.hi.u32 %r, %ra, %rb", 0xffffffff, 2, 0, 1},
      {"mul.hi.u16 %h, %ha, %hb", 0x8000, 4, 0, 2},
      {"mul.hi.u64 %d, %da, %db", uint64_t{1} << 63, 4, 0, 2},
      {"mul.hi.s64 %d, %da, %db", ~uint64_t{0}, 1, 0, ~uint64_t{0}},
      {"mul.wide.s32 %d, %ra, %rb", 0xffffffff, 3, 0, static_cast<uint64_t>(-3)},
      {"mul.wide.u32 %d, %ra, %rb", 0xffffffff, 3, 0, 0x2fffffffd},
      {"mul.wide.s16 %r, %ha, %hb", 0xffff, 3, 0, 0xfffffffd},
      {"mul.wide.u16 %r, %ha, %hb", 0xffff, 3, 0, 0x2fffd},
      {"mad.lo.s32 %r, %ra, %rb, %rc", 3, 4, 5, 17},
      {"mad.lo.s64 %d, %da, %db, %dc", 1ull << 40, 4, 5, (1ull << 42) + 5},
      {"mad.hi.u32 %r, %ra, %rb, %rc", 0x80000000, 4, 5, 7},
      {"mad.wide.s32 %d, %ra, %rb, %dc", 0xffffffff, 3, 10, 7},
      {"mad.wide.u16 %r, %ha, %hb, %rc", 0xffff, 2, 1, 0x1ffff},
      {"div.s32 %r, %ra, %rb", static_cast<uint32_t>(-7), 2, 0, static_cast<uint32_t>(-3)},
      {"div.u32 %r, %ra, %rb", 7, 0, 0, 0xffffffff},
      {"div.s32 %r, %ra, %rb", 0x80000000, 0xffffffff, 0, 0x80000000},
      {"rem.s32 %r, %ra, %rb", static_cast<uint32_t>(-7), 2, 0, 0xffffffff},
      {"rem.u64 %d, %da, %db", 17, 5, 0, 2},
      {"neg.s32 %r, %ra", 5, 0, 0, static_cast<uint32_t>(-5)},
      {"abs.s32 %r, %ra", static_cast<uint32_t>(-5), 0, 0, 5},
      {"min.s32 %r, %ra, %rb", 0xffffffff, 1, 0, 0xffffffff},
      {"min.u32 %r, %ra, %rb", 0xffffffff, 1, 0, 1},
      {"max.s32 %r, %ra, %rb", 0xffffffff, 1, 0, 1},
      {"max.s16 %h, %ha, %hb", 0xffff, 1, 0, 1},
      {"and.b32 %r, %ra, %rb", 0xff0f, 0x0fff, 0, 0x0f0f},
      {"or.b64 %d, %da, %db", 1ull << 63, 1, 0, (1ull << 63) | 1},
      {"xor.b16 %h, %ha, %hb", 0xff00, 0x0ff0, 0, 0xf0f0},
      {"not.b16 %h, %ha", 0xff00, 0, 0, 0x00ff},
      {"not.b32 %r, %ra", 0, 0, 0, 0xffffffff},
      {"and.pred %p, %pa, %pb", 1, 0, 0, 0},
      {"or.pred %p, %pa, %pb", 1, 0, 0, 1},
      {"xor.pred %p, %pa, %pb", 1, 1, 0, 0},
      {"not.pred %p, %pa", 0, 0, 0, 1},
      {"shl.b32 %r, %ra, %rb", 1, 31, 0, 0x80000000},
      {"shl.b32 %r, %ra, %rb", 1, 32, 0, 0},
      {"shl.b64 %d, %da, %rb", 1, 40, 0, 1ull << 40},
      {"shr.u32 %r, %ra, %rb", 0x80000000, 31, 0, 1},
      {"shr.s32 %r, %ra, %rb", 0x80000000, 40, 0, 0xffffffff},
      {"shr.u16 %h, %ha, 8", 0xab00, 0, 0, 0xab},
      {"shr.s64 %d, %da, 4", ~uint64_t{0}, 0, 0, ~uint64_t{0}},
      {"shf.l.wrap.b32 %r, %ra, %rb, %rc", 0x80000000, 1, 1, 3},
      {"shf.r.wrap.b32 %r, %ra, %rb, %rc", 2, 1, 33, 0x80000001},
      {"shf.r.clamp.b32 %r, %ra, %rb, %rc", 2, 1, 40, 1},
      {"shf.l.clamp.b32 %r, %ra, %rb, %rc", 2, 1, 40, 2},
      {"bfi.b32 %r, %ra, %rb, 8, 4", 0xff, 0, 0, 0xf00},
      {"bfi.b64 %d, %da, %db, 32, 16", 0xabcd, 1, 0, 0xabcd00000001},
      {"bfe.u32 %r, %ra, 8, 4", 0xabcd, 0, 0, 0xb},
      {"bfe.s32 %r, %ra, 8, 4", 0xabcd, 0, 0, 0xfffffffb},
      {"bfe.u64 %d, %da, 60, 8", 0xf000000000000000, 0, 0, 0xf},
      {"prmt.b32 %r, %ra, %rb, 0x5410", 0x11112222, 0x33334444, 0, 0x44442222},
      {"prmt.b32 %r, %ra, %rb, 0x0008", 0x80, 0, 0, 0x808080ff},
      {"lop3.b32 %r, %ra, %rb, %rc, 0xea", 0x0f, 0x33, 0x100, 0x103},
      {"lop3.b32 %r, %ra, %rb, %rc, 0x96", 5, 3, 1, 7},
      {"popc.b32 %r, %ra", 0xf0f0, 0, 0, 8},
      {"popc.b64 %r, %da", ~uint64_t{0}, 0, 0, 64},
      {"clz.b32 %r, %ra", 1, 0, 0, 31},
      {"clz.b32 %r, %ra", 0, 0, 0, 32},
      {"brev.b32 %r, %ra", 1, 0, 0, 0x80000000},
      {"bfind.u32 %r, %ra", 0x100, 0, 0, 8},
      {"bfind.s32 %r, %ra", 0xffffffff, 0, 0, 0xffffffff},
      {"selp.b32 %r, %ra, %rb, %pc", 1, 2, 1, 1},
      {"selp.b64 %d, %da, %db, %pc", 1, 2, 0, 2},
      {"dp4a.s32.s32 %r, %ra, %rb, %rc", 0xff020304, 0x01010101, 10, 18},
      {"dp4a.u32.u32 %r, %ra, %rb, %rc", 0xff020304, 0x01010101, 10, 274},
      {"setp.lt.s32 %p, %ra, %rb", 0xffffffff, 0, 0, 1},
      {"setp.lt.u32 %p, %ra, %rb", 0xffffffff, 0, 0, 0},
      {"setp.lo.u32 %p, %ra, %rb", 1, 2, 0, 1},
      {"setp.hs.u64 %p, %da, %db", 2, 2, 0, 1},
      {"setp.eq.b16 %p, %ha, %hb", 5, 5, 0, 1},
      {"setp.ge.and.s32 %p, %ra, %rb, %pc", 3, 2, 0, 0},
      {"setp.ge.or.s32 %p, %ra, %rb, %pc", 1, 2, 1, 1},
  };
  return kCases;
}

const std::vector<Case>& float_cases() {
  static const std::vector<Case> kCases = {
      {"add.f32 %r, %ra, %rb", f32(1.5f), f32(2.f), 0, f32(3.5f)},
      {"add.rn.ftz.f32 %r, %ra, %rb", f32(kDenormal), f32(-0x1p-126f), 0, f32(-0x1p-126f)},
      {"add.f64 %d, %da, %db", f64(1), f64(0x1p-52), 0, f64(1 + 0x1p-52)},
      {"sub.f32 %r, %ra, %rb", f32(1.f), f32(3.f), 0, f32(-2.f)},
      {"mul.f32 %r, %ra, %rb", f32(3.f), f32(0.1f), 0, f32(3.f * 0.1f)},
      {"mul.ftz.f32 %r, %ra, %rb", f32(0x1p-126f), f32(-0.5f), 0, f32(-0.f)},
      {"mul.f32 %r, %ra, %rb", f32(0x1p-126f), f32(0.5f), 0, f32(0x1p-127f)},
      {"fma.rn.f32 %r, %ra, %rb, %rc", f32(1 + 0x1p-12f), f32(1 + 0x1p-12f), f32(-1.f),
       f32(0x1p-11f + 0x1p-24f)},
      {"fma.rn.f64 %d, %da, %db, %dc", f64(3), f64(4), f64(5), f64(17)},
      {"div.rn.f32 %r, %ra, %rb", f32(1.f), f32(3.f), 0, f32(1.f / 3.f)},
      {"div.full.f32 %r, %ra, %rb", f32(1.f), f32(0.f), 0, f32(kInf)},
      {"neg.f32 %r, %ra", f32(0.f), 0, 0, f32(-0.f)},
      {"abs.f32 %r, %ra", f32(-2.f), 0, 0, f32(2.f)},
      {"min.f32 %r, %ra, %rb", f32(kNan), f32(2.f), 0, f32(2.f)},
      {"min.f32 %r, %ra, %rb", f32(0.f), f32(-0.f), 0, f32(-0.f)},
      {"max.f32 %r, %ra, %rb", f32(3.f), f32(kNan), 0, f32(3.f)},
      {"max.f32 %r, %ra, %rb", f32(-kInf), f32(-2.f), 0, f32(-2.f)},
      {"max.NaN.f32 %r, %ra, %rb", f32(3.f), f32(kNan), 0, f32(kNan)},
      {"ex2.approx.f32 %r, %ra", f32(-3.f), 0, 0, f32(0.125f)},
      {"ex2.approx.ftz.f32 %r, %ra", f32(-127.f), 0, 0, f32(0.f)},
      {"ex2.approx.ftz.f32 %r, %ra", f32(-kInf), 0, 0, f32(0.f)},
      {"lg2.approx.f32 %r, %ra", f32(0.25f), 0, 0, f32(-2.f)},
      {"sin.approx.f32 %r, %ra", f32(0.f), 0, 0, f32(0.f)},
      {"cos.approx.f32 %r, %ra", f32(0.f), 0, 0, f32(1.f)},
      {"rcp.approx.ftz.f32 %r, %ra", f32(4.f), 0, 0, f32(0.25f)},
      {"rcp.rn.f32 %r, %ra", f32(3.f), 0, 0, f32(1.f / 3.f)},
      {"sqrt.rn.f32 %r, %ra", f32(2.f), 0, 0, f32(std::sqrt(2.f))},
      {"rsqrt.approx.f32 %r, %ra", f32(16.f), 0, 0, f32(0.25f)},
      {"tanh.approx.f32 %r, %ra", f32(0.f), 0, 0, f32(0.f)},
      {"copysign.f32 %r, %ra, %rb", f32(-1.f), f32(3.f), 0, f32(-3.f)},
      {"testp.notanumber.f32 %p, %ra", f32(kNan), 0, 0, 1},
      {"add.sat.f32 %r, %ra, %rb", f32(0.75f), f32(0.75f), 0, f32(1.f)},
      {"setp.lt.f32 %p, %ra, %rb", f32(kNan), f32(1.f), 0, 0},
      {"setp.ltu.f32 %p, %ra, %rb", f32(kNan), f32(1.f), 0, 1},
      {"setp.ne.f32 %p, %ra, %rb", f32(kNan), f32(1.f), 0, 0},
      {"setp.neu.f32 %p, %ra, %rb", f32(kNan), f32(1.f), 0, 1},
      {"setp.nan.f32 %p, %ra, %rb", f32(kNan), f32(1.f), 0, 1},
      {"setp.num.f32 %p, %ra, %rb", f32(2.f), f32(1.f), 0, 1},
      {"setp.eq.ftz.f32 %p, %ra, %rb", f32(kDenormal), f32(0.f), 0, 1},
      {"setp.gt.and.ftz.f32 %p, %ra, %rb, %pc", f32(2.f), f32(1.f), 1, 1},
      {"setp.ge.f64 %p, %da, %db", f64(2), f64(2), 0, 1},
      // bf16: 1.0 = 3f80, 1.5 = 3fc0, 2.5 = 4020; f16: 1.0 = 3c00, 1.5 = 3e00, 2.5 = 4100.
      {"add.bf16 %h, %ha, %hb", 0x3f80, 0x3fc0, 0, 0x4020},
      {"add.bf16x2 %r, %ra, %rb", 0x3f803f80, 0x3fc03f80, 0, 0x40204000},
      {"fma.rn.bf16x2 %r, %ra, %rb, %rc", 0x3fc03f80, 0x3f803f80, 0x3f803f80, 0x40204000},
      {"mul.f16 %h, %ha, %hb", 0x3e00, 0x3c00, 0, 0x3e00},
      {"add.f16x2 %r, %ra, %rb", 0x3c003c00, 0x3e003c00, 0, 0x41004000},
      {"fma.rn.f16 %h, %ha, %hb, %hc", 0x3e00, 0x3c00, 0x3c00, 0x4100},
      // 1 + 2^-11 is halfway between two f16 numbers; the even one is 1.
      {"add.f16 %h, %ha, %hb", 0x3c00, 0x1000, 0, 0x3c00},
      {"max.bf16x2 %r, %ra, %rb", 0x3f80bf80, 0x3fc03f80, 0, 0x3fc03f80},
      {"ex2.approx.ftz.bf16x2 %r, %ra", 0x3f800000, 0, 0, 0x40003f80},
  };
  return kCases;
}

const std::vector<Case>& conversion_cases() {
  static const std::vector<Case> kCases = {
      {"cvt.s64.s32 %d, %ra", 0xffffffff, 0, 0, ~uint64_t{0}},
      {"cvt.u64.u32 %d, %ra", 0xffffffff, 0, 0, 0xffffffff},
      {"cvt.u32.u64 %r, %da", 0x1200000034, 0, 0, 0x34},
      {"cvt.u16.u32 %h, %ra", 0x12345678, 0, 0, 0x5678},
      {"cvt.u32.u16 %r, %ha", 0xffff, 0, 0, 0xffff},
      {"cvt.s32.s16 %r, %ha", 0xffff, 0, 0, 0xffffffff},
      {"cvt.s32.s8 %r, %ra", 0x80, 0, 0, 0xffffff80},
      {"cvt.u32.u8 %r, %ra", 0x1ff, 0, 0, 0xff},
      {"cvt.s16.s8 %h, %ha", 0x80, 0, 0, 0xff80},
      {"cvt.sat.s8.s32 %r, %ra", 300, 0, 0, 127},
      {"cvt.rn.f32.s32 %r, %ra", 0xffffffff, 0, 0, f32(-1.f)},
      {"cvt.rn.f32.u32 %r, %ra", 0xffffffff, 0, 0, f32(4294967296.f)},
      {"cvt.rn.f32.s64 %r, %da", (1ull << 53) + (1ull << 29) + 1, 0, 0, f32(0x1p53f + 0x1p30f)},
      {"cvt.rn.f64.s64 %d, %da", static_cast<uint64_t>(-2), 0, 0, f64(-2)},
      {"cvt.rzi.s32.f32 %r, %ra", f32(-2.7f), 0, 0, static_cast<uint32_t>(-2)},
      {"cvt.rni.s32.f32 %r, %ra", f32(2.5f), 0, 0, 2},
      {"cvt.rmi.s32.f32 %r, %ra", f32(-2.1f), 0, 0, static_cast<uint32_t>(-3)},
      {"cvt.rpi.s32.f32 %r, %ra", f32(2.1f), 0, 0, 3},
      {"cvt.rzi.s32.f32 %r, %ra", f32(1e20f), 0, 0, 0x7fffffff},
      {"cvt.rzi.u32.f32 %r, %ra", f32(-1.f), 0, 0, 0},
      {"cvt.rzi.s32.f32 %r, %ra", f32(kNan), 0, 0, 0},
      {"cvt.rmi.f32.f32 %r, %ra", f32(-2.5f), 0, 0, f32(-3.f)},
      {"cvt.f64.f32 %d, %ra", f32(0.1f), 0, 0, f64(0.1f)},
      {"cvt.rn.f32.f64 %r, %da", f64(0.1), 0, 0, f32(0.1f)},
      {"cvt.rn.bf16.f32 %h, %ra", f32(1 + 0x1p-8f), 0, 0, 0x3f80},
      {"cvt.rn.bf16.f32 %h, %ra", f32(1 + 0x3p-8f), 0, 0, 0x3f82},
      {"cvt.rz.bf16.f32 %h, %ra", f32(1 + 0x3p-8f), 0, 0, 0x3f81},
      {"cvt.rn.bf16.f32 %h, %ra", f32(kInf), 0, 0, 0x7f80},
      {"cvt.rn.f16.f32 %h, %ra", f32(65520.f), 0, 0, 0x7c00},
      {"cvt.rn.f16.f32 %h, %ra", f32(65519.f), 0, 0, 0x7bff},
      {"cvt.rn.f16.f32 %h, %ra", f32(0x1p-25f), 0, 0, 0},
      {"cvt.rn.f16.f32 %h, %ra", f32(0x3p-25f), 0, 0, 2},
      {"cvt.rn.relu.bf16.f32 %h, %ra", f32(-1.f), 0, 0, 0},
      {"cvt.f32.bf16 %r, %ha", 0x3fc0, 0, 0, f32(1.5f)},
      {"cvt.f32.f16 %r, %ha", 0x3e00, 0, 0, f32(1.5f)},
      {"cvt.f32.f16 %r, %ha", 0x0001, 0, 0, f32(0x1p-24f)},
      {"cvt.f32.f16 %r, %ha", 0xfc00, 0, 0, f32(-kInf)},
      {"cvt.rn.bf16x2.f32 %r, %ra, %rb", f32(1.5f), f32(1.f), 0, 0x3fc03f80},
      {"cvt.rn.f16x2.f32 %r, %ra, %rb", f32(1.5f), f32(1.f), 0, 0x3e003c00},
      {"cvt.rn.f16.s32 %h, %ra", 3, 0, 0, 0x4200},
      {"cvt.rzi.s32.f16 %r, %ha", 0x4100, 0, 0, 2},
      {"cvta.shared.u64 %d, %da", 16, 0, 0, kSharedWindow + 16},
      {"cvta.to.shared.u64 %d, %da", kSharedWindow + 16, 0, 0, 16},
      {"cvta.to.global.u64 %d, %da", kGlobalWindow + 16, 0, 0, kGlobalWindow + 16},
  };
  return kCases;
}

TEST(integer_instructions_give_what_ptx_says) { check_all(integer_cases()); }
TEST(floating_point_instructions_give_what_ptx_says) { check_all(float_cases()); }
TEST(conversions_round_and_saturate_as_ptx_says) { check_all(conversion_cases()); }

TEST(every_family_of_arithmetic_has_a_case) {
  std::set<std::string> covered;
  for (const auto* cases : {&integer_cases(), &float_cases()})
    for (const Case& c : *cases) {
      const std::string text = c.text;
      covered.insert(text.substr(0, text.find_first_of(". ")));
    }
  std::string missing;
  for (const auto& [name, unused] : arithmetic()) {
    const std::string family = name.substr(0, name.find('.'));
    if (!covered.count(family)) missing += " " + family;
  }
  CHECK_EQ(missing, std::string());
}

TEST(an_unknown_instruction_is_an_error_that_names_it) {
  for (const char* text :
       {"wgmma.fence.sync.aligned", "add.cc.u32 %r1, %r2, %r3", "mul.rz.f32 %f1, %f2, %f3",
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 %r1, %r2, %r3, %r4",
        "bar.red.popc.u32 %r1, 0, %p1", "ld.global.v8.b32 %r1, [%d0]"}) {
    const std::string mnemonic = std::string(text).substr(0, std::string(text).find(' '));
    const std::string message = failure_of(std::string(text) + ";", {0});
    CHECK(message.find(mnemonic) != std::string::npos);
  }
}

TEST(a_partial_mask_leaves_other_lanes_alone) {
  std::vector<uint32_t> expected(32);
  for (uint32_t l = 0; l < 32; ++l) expected[l] = l % 2 ? 100 + l : l;
  DeviceValues<uint32_t> out(std::vector<uint32_t>(32, 0));
  run_ptx(
      "mov.u32 %r1, %tid.x;\nand.b32 %r2, %r1, 1;\nsetp.eq.s32 %p1, %r2, 1;\nmov.u32 %r3, %r1;\n"
      "@%p1 add.s32 %r3, %r3, 100;\nmul.wide.u32 %d1, %r1, 4;\nadd.s64 %d2, %d0, "
      "%d1;\nst.global.u32 [%d2], %r3;\n",
      {out.address()});
  CHECK(out.read() == expected);
}

}  // namespace
