#include "kernels/cpu/peak.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Each loop names the instructions that it needs; MSVC knows them all without being told.
#if defined(__GNUC__)
#define QVL_TARGET(features) __attribute__((target(features), noinline))
// The compiler may neither compute a loop ahead nor take what never changes out of it.
#define QVL_OPAQUE(...) __asm__("" : __VA_ARGS__)
// Arrays become registers only where every index is known.
#define QVL_UNROLL _Pragma("GCC unroll 16")
#else
#define QVL_TARGET(features)
#define QVL_OPAQUE(...)
#define QVL_UNROLL
#endif

namespace qvl::kernels {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

QVL_TARGET("sse2") float multiply_add_sse2(int64_t steps) {
  constexpr int kChains = 12;
  __m128 acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = _mm_set1_ps(static_cast<float>(j));
  __m128 a = _mm_set1_ps(1.0f);
  for (int64_t i = 0; i < steps; ++i) {
    // Without a fused instruction a multiply-add is two, on units of their own.
    QVL_UNROLL
    for (int j = 0; j < kChains; j += 2) {
      acc[j] = _mm_mul_ps(acc[j], a);
      acc[j + 1] = _mm_add_ps(acc[j + 1], a);
    }
    QVL_OPAQUE("+x"(a));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm_add_ps(acc[0], acc[j]);
  return _mm_cvtss_f32(acc[0]);
}

QVL_TARGET("avx2,fma") float multiply_add_avx2(int64_t steps) {
  constexpr int kChains = 12;
  __m256 acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = _mm256_set1_ps(static_cast<float>(j));
  __m256 a = _mm256_set1_ps(0.999f);
  __m256 b = _mm256_set1_ps(1e-6f);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = _mm256_fmadd_ps(acc[j], a, b);
    QVL_OPAQUE("+x"(a), "+x"(b));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm256_add_ps(acc[0], acc[j]);
  return _mm256_cvtss_f32(acc[0]);
}

QVL_TARGET("avx512f") float multiply_add_avx512(int64_t steps) {
  constexpr int kChains = 16;
  __m512 acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = _mm512_set1_ps(static_cast<float>(j));
  __m512 a = _mm512_set1_ps(0.999f);
  __m512 b = _mm512_set1_ps(1e-6f);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = _mm512_fmadd_ps(acc[j], a, b);
    QVL_OPAQUE("+v"(a), "+v"(b));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm512_add_ps(acc[0], acc[j]);
  return _mm512_cvtss_f32(acc[0]);
}

// Exact sums of int8 products with AVX2: pairs to int16, those to int32, then the sum.
QVL_TARGET("avx2") float int8_avx2(int64_t steps) {
  constexpr int kChains = 5;
  __m256i acc[kChains], weight[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) {
    acc[j] = _mm256_setzero_si256();
    weight[j] = _mm256_set1_epi8(static_cast<char>(j + 1));
  }
  __m256i x = _mm256_set1_epi8(3);
  const __m256i one = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) {
      const __m256i pairs = _mm256_maddubs_epi16(x, weight[j]);
      acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(pairs, one));
    }
    QVL_OPAQUE("+x"(x));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm256_add_epi32(acc[0], acc[j]);
  return static_cast<float>(_mm_cvtsi128_si32(_mm256_castsi256_si128(acc[0])));
}

QVL_TARGET("avxvnni,avx2") float int8_avx_vnni(int64_t steps) {
  constexpr int kChains = 12;
  __m256i acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = _mm256_set1_epi32(j);
  __m256i x = _mm256_set1_epi8(3);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = _mm256_dpbusd_avx_epi32(acc[j], x, x);
    QVL_OPAQUE("+x"(x));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm256_add_epi32(acc[0], acc[j]);
  return static_cast<float>(_mm_cvtsi128_si32(_mm256_castsi256_si128(acc[0])));
}

// As with AVX2, twice as wide.
QVL_TARGET("avx512f,avx512bw") float int8_avx512(int64_t steps) {
  constexpr int kChains = 10;
  __m512i acc[kChains], weight[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) {
    acc[j] = _mm512_setzero_si512();
    weight[j] = _mm512_set1_epi8(static_cast<char>(j + 1));
  }
  __m512i x = _mm512_set1_epi8(3);
  const __m512i one = _mm512_set1_epi16(1);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) {
      const __m512i pairs = _mm512_maddubs_epi16(x, weight[j]);
      acc[j] = _mm512_add_epi32(acc[j], _mm512_madd_epi16(pairs, one));
    }
    QVL_OPAQUE("+v"(x));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm512_add_epi32(acc[0], acc[j]);
  int32_t sums[16];
  _mm512_storeu_si512(sums, acc[0]);
  return static_cast<float>(sums[0]);
}

QVL_TARGET("avx512f,avx512vnni") float int8_avx512_vnni(int64_t steps) {
  constexpr int kChains = 16;
  __m512i acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = _mm512_set1_epi32(j);
  __m512i x = _mm512_set1_epi8(3);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = _mm512_dpbusd_epi32(acc[j], x, x);
    QVL_OPAQUE("+v"(x));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = _mm512_add_epi32(acc[0], acc[j]);
  int32_t sums[16];
  _mm512_storeu_si512(sums, acc[0]);
  return static_cast<float>(sums[0]);
}

QVL_TARGET("avx2") float read_avx2(const float* data, int64_t count) {
  __m256 sums[8];
  QVL_UNROLL
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t i = 0; i + 64 <= count; i += 64) {
    // Fetching ahead reads faster than the processor does by itself.
    QVL_UNROLL
    for (int j = 0; j < 64; j += 16) {
      _mm_prefetch(reinterpret_cast<const char*>(data + i + j) + 8192, _MM_HINT_T0);
    }
    QVL_UNROLL
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm256_add_ps(sums[j], _mm256_load_ps(data + i + 8 * j));
    }
  }
  QVL_UNROLL
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_ps(sums[0], sums[j]);
  return _mm256_cvtss_f32(sums[0]);
}

QVL_TARGET("avx512f") float read_avx512(const float* data, int64_t count) {
  __m512 sums[4];
  QVL_UNROLL
  for (int j = 0; j < 4; ++j) sums[j] = _mm512_setzero_ps();
  for (int64_t i = 0; i + 64 <= count; i += 64) {
    QVL_UNROLL
    for (int j = 0; j < 4; ++j) {
      _mm_prefetch(reinterpret_cast<const char*>(data + i + 16 * j) + 16384, _MM_HINT_T0);
      sums[j] = _mm512_add_ps(sums[j], _mm512_load_ps(data + i + 16 * j));
    }
  }
  float parts[16];
  _mm512_storeu_ps(parts,
                   _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
  return parts[0];
}

#elif defined(__aarch64__)

float multiply_add_neon(int64_t steps) {
  constexpr int kChains = 16;
  float32x4_t acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = vdupq_n_f32(static_cast<float>(j));
  float32x4_t a = vdupq_n_f32(0.999f);
  float32x4_t b = vdupq_n_f32(1e-6f);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = vfmaq_f32(acc[j], a, b);
    QVL_OPAQUE("+w"(a), "+w"(b));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = vaddq_f32(acc[0], acc[j]);
  return vgetq_lane_f32(acc[0], 0);
}

QVL_TARGET("arch=armv8.2-a+dotprod") float int8_neon_dotprod(int64_t steps) {
  constexpr int kChains = 16;
  int32x4_t acc[kChains];
  QVL_UNROLL
  for (int j = 0; j < kChains; ++j) acc[j] = vdupq_n_s32(j);
  int8x16_t x = vdupq_n_s8(3);
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (int j = 0; j < kChains; ++j) acc[j] = vdotq_s32(acc[j], x, x);
    QVL_OPAQUE("+w"(x));
  }
  QVL_UNROLL
  for (int j = 1; j < kChains; ++j) acc[0] = vaddq_s32(acc[0], acc[j]);
  return static_cast<float>(vgetq_lane_s32(acc[0], 0));
}

#else

float multiply_add_portable(int64_t steps) {
  float acc[16] = {};
  for (int64_t i = 0; i < steps; ++i) {
    QVL_UNROLL
    for (float& chain : acc) chain = chain * 0.999f + 1e-6f;
  }
  return acc[0];
}

#endif

float read_portable(const float* data, int64_t count) {
  float sums[16] = {};
  for (int64_t i = 0; i + 16 <= count; i += 16) {
    QVL_UNROLL
    for (int j = 0; j < 16; ++j) sums[j] += data[i + j];
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

constexpr PeakRate kPeakRates[] = {
#if defined(__x86_64__) || defined(_M_X64)
    {"fp32 sse42", "sse2", 6 * 4 * 2, multiply_add_sse2},
    {"fp32 avx2", "avx2 fma", 12 * 8 * 2, multiply_add_avx2},
    {"fp32 avx512", "avx512f", 16 * 16 * 2, multiply_add_avx512},
    {"int8 avx2", "avx2", 5 * 32 * 2, int8_avx2},
    {"int8 avx_vnni", "avx2 avx_vnni", 12 * 32 * 2, int8_avx_vnni},
    {"int8 avx512", "avx512f avx512bw", 10 * 64 * 2, int8_avx512},
    {"int8 avx512_vnni", "avx512f avx512_vnni", 16 * 64 * 2, int8_avx512_vnni},
#elif defined(__aarch64__)
    {"fp32 neon", "neon", 16 * 4 * 2, multiply_add_neon},
    {"int8 neon_dotprod", "neon dotprod", 16 * 16 * 2, int8_neon_dotprod},
#else
    {"fp32 portable", "", 16 * 2, multiply_add_portable},
#endif
};

constexpr ReadLoop kReadLoops[] = {
#if defined(__x86_64__) || defined(_M_X64)
    {"avx512f", read_avx512},
    {"avx2", read_avx2},
#endif
    {"", read_portable},
};

}  // namespace

std::span<const PeakRate> peak_rates() { return kPeakRates; }

std::span<const ReadLoop> read_loops() { return kReadLoops; }

}  // namespace qvl::kernels
