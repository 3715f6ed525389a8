#pragma once

// Loops that are unrolled from the start. Included by vector_<set>.h, which defines QVL_ISA.

#include <utility>

#include "kernels/cpu/kernels.h"

#if defined(_MSC_VER) && !defined(__clang__)
#define QVL_ALWAYS_INLINE [[msvc::forceinline]]
#define QVL_NO_INLINE __declspec(noinline)
#else
#define QVL_ALWAYS_INLINE __attribute__((always_inline))
#define QVL_NO_INLINE __attribute__((noinline))
#endif

namespace qvl::kernels::QVL_ISA {
namespace {

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/// body(Constant<0>) ... body(Constant<kCount - 1>). A loop over an array of accumulators is
/// unrolled by GCC too late to keep them in registers; this is unrolled from the start. Pass a
/// lambda marked QVL_ALWAYS_INLINE.
template <int... kIndices, class Body>
QVL_ALWAYS_INLINE inline void unroll(std::integer_sequence<int, kIndices...>, const Body& body) {
  (body(Constant<kIndices>{}), ...);
}
template <int kCount, class Body>
QVL_ALWAYS_INLINE inline void unroll(const Body& body) {
  unroll(std::make_integer_sequence<int, kCount>{}, body);
}

/// Calls body with `value` (1 to kMost) as a constant, so that a tile's accumulators are registers.
template <int kMost, int kCandidate = 1, class Body>
inline void with_constant(int64_t value, const Body& body) {
  if constexpr (kCandidate < kMost) {
    if (value != kCandidate) return with_constant<kMost, kCandidate + 1>(value, body);
  }
  body(Constant<kCandidate>{});
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
