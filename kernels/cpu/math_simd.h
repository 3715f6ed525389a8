#pragma once

// exp and what is made of it, operation by operation as in math.h; and a loop over a row.

#include "kernels/cpu/math.h"
#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

/// exp_f32 of math.h.
inline Vector exp_f32(Vector x) {
  const Vector magic = broadcast(kRoundMagic);
  const Vector clamped = min(broadcast(kExpMax), x);  // NaN stays NaN
  const Vector shifted = fmadd(clamped, broadcast(kLog2E), magic);
  const Vector n = sub(shifted, magic);
  const Vector r = fmadd(n, broadcast(-kLn2Low), fmadd(n, broadcast(-kLn2High), clamped));
  Vector p = broadcast(kExpCoefficients[4]);
  p = fmadd(p, r, broadcast(kExpCoefficients[3]));
  p = fmadd(p, r, broadcast(kExpCoefficients[2]));
  p = fmadd(p, r, broadcast(kExpCoefficients[1]));
  p = fmadd(p, r, broadcast(kExpCoefficients[0]));
  p = fmadd(p, mul(r, r), r);
  p = add(p, broadcast(1.0f));
  return select_less(x, broadcast(kExpMin), zero(), mul(p, power_of_two(shifted)));
}

/// exp2_f32 of math.h.
inline Vector exp2_f32(Vector x) {
  const Vector magic = broadcast(kRoundMagic);
  const Vector clamped = max(broadcast(kExp2Min), x);  // NaN stays NaN
  const Vector shifted = add(clamped, magic);
  const Vector r = sub(clamped, sub(shifted, magic));
  Vector p = broadcast(kExp2Coefficients[5]);
  unroll<5>([&](auto index) QVL_ALWAYS_INLINE {
    p = fmadd(p, r, broadcast(kExp2Coefficients[4 - decltype(index)::value]));
  });
  p = fmadd(p, r, broadcast(1.0f));
  return mul(p, power_of_two(shifted));
}

/// x / (1 + exp(x * minus_beta)): silu with -1, quick_gelu with -1.702. (-x and x * -1 are equal.)
inline Vector swish(Vector x, float minus_beta) {
  return div(x, add(broadcast(1.0f), exp_f32(mul(x, broadcast(minus_beta)))));
}

/// body(i, lanes) for every vector of [0, count): AllLanes, and FirstLanes for what remains.
template <class Body>
inline void for_vectors(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, AllLanes{});
  if (i < count) body(i, FirstLanes(count - i));
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
