#pragma once

// Applies a function of one lane's values to a warp.

#include <string>
#include <type_traits>
#include <utility>

#include "decode.h"
#include "warp.h"

namespace qvl::sim {

/// A predicate among the types of an elementwise function.
struct Predicate {};

namespace detail {

template <class T>
struct Access {
  static constexpr char kShape = sizeof(T) == 8 ? 'd' : 'r';
  const Stored<T>* p;
  Access(const Warp& w, Operand o) : p(w.get<Stored<T>>(o)) {}
  T operator[](int lane) const { return from_stored<T>(p[lane]); }
};
template <>
struct Access<Predicate> {
  static constexpr char kShape = 'p';
  uint32_t bits;
  Access(const Warp& w, Operand o) : bits(*w.get<uint32_t>(o)) {}
  bool operator[](int lane) const { return bits >> lane & 1; }
};

template <class F, class Out, class... In, size_t... kIndex>
void apply(Warp& w, const Instruction& in, uint32_t mask, std::index_sequence<kIndex...>) {
  const std::tuple<Access<In>...> sources{Access<In>(w, in.src[kIndex])...};
  if constexpr (std::is_same_v<Out, Predicate>) {
    uint32_t bits = 0;
    for (int l = 0; l < kLanes; ++l) bits |= uint32_t{F::of(std::get<kIndex>(sources)[l]...)} << l;
    uint32_t& to = *w.at<uint32_t>(in.dst[0]);
    to = (to & ~mask) | (bits & mask);
  } else {
    auto* to = w.at<Stored<Out>>(in.dst[0]);
    if (mask == ~0u) {
#pragma GCC ivdep
      for (int l = 0; l < kLanes; ++l)
        to[l] = to_stored<Out>(static_cast<Out>(F::of(std::get<kIndex>(sources)[l]...)));
    } else {
      for (int l = 0; l < kLanes; ++l)
        if (mask >> l & 1)
          to[l] = to_stored<Out>(static_cast<Out>(F::of(std::get<kIndex>(sources)[l]...)));
    }
  }
}

template <class F, class Out, class... In>
void run(Warp& w, const Instruction& in, uint32_t mask) {
  apply<F, Out, In...>(w, in, mask, std::index_sequence_for<In...>{});
}

}  // namespace detail

/// F::of(In...) -> Out for every lane.
template <class F, class Out, class... In>
Arithmetic elementwise() {
  return {detail::run<F, Out, In...>,
          {detail::Access<Out>::kShape, ':', detail::Access<In>::kShape...}};
}

}  // namespace qvl::sim
