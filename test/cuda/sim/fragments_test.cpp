// Where the elements of a matrix lie in a warp's registers, against the tables of the PTX ISA.

#include <cmath>

#include "check.h"
#include "half.h"
#include "ptx_kernel.h"

using namespace qvl::sim;

namespace {

// The tables, as the ISA writes them (section "Matrix Fragments for mma.m16n8k16"), for element i
// of a lane.
int group_of(int lane) { return lane >> 2; }
int in_group(int lane) { return lane % 4; }
int a_row(int lane, int i) {
  return (0 <= i && i < 2) || (4 <= i && i < 6) ? group_of(lane) : group_of(lane) + 8;
}
int a_col(int lane, int i) { return in_group(lane) * 2 + (i & 1) + (i < 4 ? 0 : 8); }
int b_row(int lane, int i) { return in_group(lane) * 2 + (i & 1) + (i < 2 ? 0 : 8); }
int b_col(int lane, int) { return group_of(lane); }
int c_row(int lane, int i) { return i < 2 ? group_of(lane) : group_of(lane) + 8; }
int c_col(int lane, int i) { return in_group(lane) * 2 + (i & 1); }

// Runs mma on whole matrices through the tables.
template <class Narrow, class Mma>
std::vector<float> multiply(const float (&a)[16][16], const float (&b)[16][8],
                            const float (&c)[16][8], Narrow narrow, Mma type) {
  std::vector<uint16_t> fa(32 * 8), fb(32 * 4);
  std::vector<float> fc(32 * 4);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) fa[lane * 8 + i] = narrow(a[a_row(lane, i)][a_col(lane, i)]);
    for (int i = 0; i < 4; ++i) fb[lane * 4 + i] = narrow(b[b_row(lane, i)][b_col(lane, i)]);
    for (int i = 0; i < 4; ++i) fc[lane * 4 + i] = c[c_row(lane, i)][c_col(lane, i)];
  }
  DeviceValues<uint16_t> da(fa), db(fb);
  DeviceValues<float> dc(fc);
  const std::string t = type;
  run_ptx(
      "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d10, %r0, 16;\nadd.s64 %d11, %d0, %d10;\nadd.s64 %d12, "
      "%d2, %d10;\n"
      "mul.wide.u32 %d13, %r0, 8;\nadd.s64 %d14, %d1, %d13;\n"
      "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d11];\nld.global.v2.u32 {%r5, %r6}, [%d14];\n"
      "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%d12];\n"
      "mma.sync.aligned.m16n8k16.row.col.f32." +
          t + "." + t +
          ".f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, "
          "{%f1, %f2, %f3, %f4};\nst.global.v4.f32 [%d12], {%f1, %f2, %f3, %f4};\n",
      {da.address(), db.address(), dc.address()});
  const std::vector<float> fragments = dc.read();
  std::vector<float> out(16 * 8);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) out[c_row(lane, i) * 8 + c_col(lane, i)] = fragments[lane * 4 + i];
  return out;
}

template <class Narrow>
void check_every_element(Narrow narrow, const char* type) {
  // One element of A at a time meets a B whose elements all differ: each must come out where it
  // belongs.
  float b[16][8], c[16][8] = {};
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 8; ++n) b[k][n] = static_cast<float>(1 + k * 8 + n);
  for (int row = 0; row < 16; ++row) {
    float a[16][16] = {};
    for (int k = 0; k < 16; ++k) a[row][k] = static_cast<float>(k == row ? 2 : 0);
    c[row][3] = 0.5f;
    const std::vector<float> out = multiply(a, b, c, narrow, type);
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n)
        CHECK_EQ(out[m * 8 + n], (m == row ? 2 * b[row][n] : 0.f) + c[m][n]);
  }
}

TEST(mma_of_bf16_places_every_element_as_the_isa_does) {
  check_every_element(float_to_bf16, "bf16");
}
TEST(mma_of_f16_places_every_element_as_the_isa_does) { check_every_element(float_to_half, "f16"); }

TEST(mma_adds_whole_products) {
  float a[16][16], b[16][8], c[16][8];
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < 16; ++k) a[i][k] = static_cast<float>((i * 7 + k * 3) % 11 - 5);
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 8; ++n) b[k][n] = static_cast<float>((k * 5 + n) % 7 - 3);
  for (int i = 0; i < 16; ++i)
    for (int n = 0; n < 8; ++n) c[i][n] = static_cast<float>(i - n);
  const std::vector<float> out = multiply(a, b, c, float_to_bf16, "bf16");
  for (int i = 0; i < 16; ++i)
    for (int n = 0; n < 8; ++n) {
      float sum = c[i][n];
      for (int k = 0; k < 16; ++k) sum += a[i][k] * b[k][n];
      CHECK_EQ(out[i * 8 + n], sum);
    }
}

// Matrix m's element (r, c) is m * 64 + r * 8 + c; lane l gives row l % 8 of matrix l / 8.
std::vector<uint16_t> load_matrices(int count, bool transposed) {
  std::vector<uint16_t> in(static_cast<size_t>(count) * 64);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i);
  DeviceValues<uint16_t> source(in),
      out(std::vector<uint16_t>(32 * static_cast<size_t>(count) * 2));
  const std::string n = std::to_string(count), results = count == 4   ? "{%r1, %r2, %r3, %r4}"
                                                         : count == 2 ? "{%r1, %r2}"
                                                                      : "{%r1}";
  std::string body =
      "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d10, %r0, 16;\nadd.s64 %d11, %d0, %d10;\nmul.lo.s32 "
      "%r10, %r0, 16;\n"
      "setp.lt.u32 %p1, %r0, " +
      std::to_string(8 * count) +
      ";\n"
      "@%p1 ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%d11];\n@%p1 st.shared.v4.u32 [%r10], {%r5, "
      "%r6, %r7, %r8};\n"
      "bar.sync 0;\nldmatrix.sync.aligned.m8n8.x" +
      n + (transposed ? ".trans" : "") + ".shared.b16 " + results +
      ", [%r10];\n"
      "mul.lo.s32 %r11, %r0, " +
      std::to_string(4 * count) + ";\ncvt.u64.u32 %d12, %r11;\nadd.s64 %d13, %d1, %d12;\n";
  for (int i = 0; i < count; ++i)
    body +=
        "st.global.u32 [%d13+" + std::to_string(4 * i) + "], %r" + std::to_string(i + 1) + ";\n";
  run_ptx(body, {source.address(), out.address()}, 32, 512);
  return out.read();
}

TEST(ldmatrix_gives_row_l_over_4_and_columns_2_times_l_mod_4) {
  for (int count : {1, 2, 4})
    for (bool transposed : {false, true}) {
      const std::vector<uint16_t> got = load_matrices(count, transposed);
      for (int lane = 0; lane < 32; ++lane)
        for (int m = 0; m < count; ++m)
          for (int i = 0; i < 2; ++i) {
            const int row = lane / 4, col = lane % 4 * 2 + i;
            const int expected = m * 64 + (transposed ? col * 8 + row : row * 8 + col);
            CHECK_EQ(int{got[(lane * count + m) * 2 + i]}, expected);
          }
    }
}

}  // namespace
