#include "kernels/cpu/math.h"

#include <algorithm>

#include "check.h"

namespace qvl::kernels {

TEST(exp_is_within_one_ulp) {
  double worst = 0;
  for (float x = -87.32f; x < kExpMax; x += 0.00037f) {
    const double exact = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::fmax(worst, std::fabs(exp_f32(x) - exact) / ulp);
  }
  CHECK(worst <= 1.0);
}

TEST(exp_has_exact_ends) {
  CHECK_EQ(exp_f32(0.0f), 1.0f);
  CHECK_EQ(exp_f32(-0.0f), 1.0f);
  CHECK_EQ(exp_f32(kMinusInfinity), 0.0f);
  CHECK_EQ(exp_f32(-88.0f), 0.0f);
  CHECK_EQ(exp_f32(1e30f), exp_f32(kExpMax));
  CHECK(std::isfinite(exp_f32(-kMinusInfinity)));
  CHECK(std::isnan(exp_f32(std::numeric_limits<float>::quiet_NaN())));
}

TEST(exp2_is_within_one_ulp) {
  double worst = 0;
  for (float x = -126.49f; x < 1.0f; x += 0.00013f) {
    const double exact = std::exp2(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
    worst = std::fmax(worst, std::fabs(exp2_f32(x) - exact) / ulp);
  }
  CHECK(worst <= 1.0);
}

TEST(exp2_has_exact_ends_and_integers) {
  for (int n = -126; n <= 127; ++n) {
    CHECK_EQ(exp2_f32(static_cast<float>(n)), std::ldexp(1.0f, n));
  }
  CHECK_EQ(exp2_f32(-0.0f), 1.0f);
  CHECK_EQ(exp2_f32(kMinusInfinity), 0.0f);
  CHECK_EQ(exp2_f32(-126.51f), 0.0f);
  CHECK(std::isnan(exp2_f32(std::numeric_limits<float>::quiet_NaN())));
}

TEST(activations_have_the_published_values) {
  const float x[6] = {-3, -1, -0.5f, 0.5f, 1, 3};
  const float expected_quick[6] = {-0.01807131f, -0.15420423f, -0.14961156f,
                                   0.35038844f,  0.84579575f,  2.98192883f};
  const float expected_gelu[6] = {-0.00404987f, -0.15865529f, -0.15426879f,
                                  0.34573120f,  0.84134471f,  2.99595022f};
  const float expected_silu[6] = {-0.14227761f, -0.26894143f, -0.18877034f,
                                  0.31122968f,  0.73105860f,  2.85772252f};
  float actual[3][6];
  for (int i = 0; i < 6; ++i) {
    actual[0][i] = quick_gelu(x[i]);
    actual[1][i] = gelu(x[i]);
    actual[2][i] = silu(x[i]);
  }
  CHECK_CLOSE(actual[0], expected_quick, 6, 2e-7);
  CHECK_CLOSE(actual[1], expected_gelu, 6, 2e-7);
  CHECK_CLOSE(actual[2], expected_silu, 6, 2e-7);
}

TEST(activations_are_accurate_and_vanish_far_below_zero) {
  for (float x = -12; x < 12; x += 0.001f) {
    const double d = x;
    const double tolerance = 2e-7 * std::fmax(1.0, std::fabs(d));
    CHECK(std::fabs(silu(x) - d / (1 + std::exp(-d))) < tolerance);
    CHECK(std::fabs(quick_gelu(x) - d / (1 + std::exp(-1.702 * d))) < tolerance);
    CHECK(std::fabs(gelu(x) - d * 0.5 * (1 + std::erf(d / std::sqrt(2.0)))) < tolerance);
  }
  for (const float x : {-200.0f, -1e4f, -1e30f}) {
    CHECK(std::fabs(silu(x)) < 1e-5f);
    CHECK(std::fabs(quick_gelu(x)) < 1e-5f);
    CHECK_EQ(gelu(x), 0.0f);
  }
  CHECK(std::isnan(silu(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace qvl::kernels
