#pragma once

// Elementary functions of the scalar kernels. math_simd.h does the same operations in the same
// order on vectors, so both give the same bits. `static` for the reason given in convert.h.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/kernels.h"

namespace qvl::kernels {

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, and
// exp(r) = 1 + r + r^2 * (c0 + c1 r + ... + c4 r^4), a minimax fit whose error is 2^-28.
constexpr float kExpCoefficients[5] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b2p-5f,
                                       0x1.12398ep-7f, 0x1.6a4b38p-10f};
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.62e4p-1f;    // 15 bits: n * kLn2High is exact
constexpr float kLn2Low = 0x1.7f7d1cp-20f;  // ln 2 - kLn2High
constexpr float kRoundMagic = 0x1.8p+23f;   // adding it rounds to an integer in the low bits
constexpr float kExpMax = 88.376f;          // the largest argument with n <= 127
constexpr float kExpMin = -87.33f;          // below, the result is 0 instead of a subnormal

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Within 1 ulp; 0 below kExpMin (-infinity included), exp(kExpMax) above kExpMax, NaN for NaN.
static inline float exp_f32(float x) {
  const float clamped = kExpMax < x ? kExpMax : x;
  const float shifted = std::fma(clamped, kLog2E, kRoundMagic);
  const float n = shifted - kRoundMagic;
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, clamped));
  float p = kExpCoefficients[4];
  p = std::fma(p, r, kExpCoefficients[3]);
  p = std::fma(p, r, kExpCoefficients[2]);
  p = std::fma(p, r, kExpCoefficients[1]);
  p = std::fma(p, r, kExpCoefficients[0]);
  p = std::fma(p, r * r, r) + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u;
  return x < kExpMin ? 0.0f : p * std::bit_cast<float>(exponent);
}

// 2^x = 2^n * 2^r, n = round(x), r exact with |r| <= 1/2, and
// 2^r = 1 + r * (c0 + c1 r + ... + c5 r^5), a minimax fit whose error is 2^-28.9.
constexpr float kExp2Coefficients[6] = {0x1.62e430p-1f, 0x1.ebfbdcp-3f,  0x1.c6aee8p-5f,
                                        0x1.3b2d4cp-7f, 0x1.5f3e52p-10f, 0x1.41fbbcp-13f};
constexpr float kExp2Min = -127.0f;  // its power of two has no bits: a subnormal result is 0

/// 2^x for x < 127.5, within 1 ulp; 0 from -126.5 on down (-infinity included), NaN for NaN.
static inline float exp2_f32(float x) {
  const float clamped = x < kExp2Min ? kExp2Min : x;
  const float shifted = clamped + kRoundMagic;
  const float r = clamped - (shifted - kRoundMagic);
  float p = kExp2Coefficients[5];
  for (int i = 4; i >= 0; --i) p = std::fma(p, r, kExp2Coefficients[i]);
  p = std::fma(p, r, 1.0f);
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u;
  return p * std::bit_cast<float>(exponent);
}

/// x * sigmoid(x).
static inline float silu(float x) { return x / (1.0f + exp_f32(-x)); }

/// x * sigmoid(1.702 x).
static inline float quick_gelu(float x) { return x / (1.0f + exp_f32(x * -1.702f)); }

/// x * (1 + erf(x / sqrt 2)) / 2, with the C library's erf.
static inline float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0x1.6a09e6p-1f)); }

/// Row-wise sums are made in this many partial sums, element i in sum i % 32: enough chains for
/// every instruction set, with 4 lanes or 16.
constexpr int kPartialSums = 32;

/// Adds the partial sums up: eights of them as a tree, then their lanes by halving, which is what
/// vector code does whatever its width.
static inline float sum_partial_sums(const float* sums /* [32] */) {
  float v[8];
  for (int i = 0; i < 8; ++i) v[i] = (sums[i] + sums[8 + i]) + (sums[16 + i] + sums[24 + i]);
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

}  // namespace qvl::kernels
