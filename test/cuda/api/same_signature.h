#pragma once

#include <cstddef>
#include <type_traits>

namespace qvl::test {

/// Whether values of both types are passed alike: two pointers, two floating-point numbers, or two
/// integers or enumerations of one size.
template <class A, class B>
constexpr bool kPassedAlike =
    sizeof(A) == sizeof(B) && std::is_pointer_v<A> ==
                                  std::is_pointer_v<B>&& std::is_floating_point_v<A> ==
                                  std::is_floating_point_v<B>;

/// Whether a caller who takes one function for the other calls it rightly.
template <class A, class B>
struct SameSignature : std::false_type {};
template <class A, class B, class... As, class... Bs>
requires(sizeof...(As) == sizeof...(Bs)) struct SameSignature<A (*)(As...), B (*)(Bs...)>
    : std::bool_constant<kPassedAlike<A, B> && (kPassedAlike<As, Bs> && ...)> {
};

// Different numbers, and kinds, of parameters are noticed.
static_assert(SameSignature<int (*)(int, void*), unsigned (*)(unsigned, char*)>::value);
static_assert(!SameSignature<int (*)(int), int (*)(int, int)>::value);
static_assert(!SameSignature<int (*)(size_t), int (*)(void*)>::value);
static_assert(!SameSignature<int (*)(int), int (*)(size_t)>::value);

}  // namespace qvl::test
