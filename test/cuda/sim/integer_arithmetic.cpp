// Integer and bitwise instructions.

#include <algorithm>
#include <bit>
#include <tuple>

#include "elementwise.h"

namespace qvl::sim {
namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

struct Move {
  template <class T>
  static T of(T a) {
    return a;
  }
};
struct Add {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(a + b);
  }
};
struct Sub {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(a - b);
  }
};
struct MulLo {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(static_cast<uint64_t>(a) * b);
  }
};
struct MadLo {
  template <class T>
  static T of(T a, T b, T c) {
    return static_cast<T>(static_cast<uint64_t>(a) * b + c);
  }
};
template <class T>
struct Wider;
template <>
struct Wider<int16_t> {
  using type = int32_t;
};
template <>
struct Wider<uint16_t> {
  using type = uint32_t;
};
template <>
struct Wider<int32_t> {
  using type = int64_t;
};
template <>
struct Wider<uint32_t> {
  using type = uint64_t;
};
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;
template <>
struct Wider<int64_t> {
  using type = Int128;
};
template <>
struct Wider<uint64_t> {
  using type = Uint128;
};

template <class T>
struct MulHi {
  static T of(T a, T b) {
    using Wide = typename Wider<T>::type;
    return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> (8 * sizeof(T)));
  }
};
template <class T>
struct MadHi {
  static T of(T a, T b, T c) {
    return static_cast<T>(static_cast<Unsigned<T>>(MulHi<T>::of(a, b)) +
                          static_cast<Unsigned<T>>(c));
  }
};
template <class T>
struct MulWide {
  using Wide = typename Wider<T>::type;
  static Wide of(T a, T b) { return static_cast<Wide>(a) * static_cast<Wide>(b); }
};
template <class T>
struct MadWide {
  using Wide = typename Wider<T>::type;
  static Wide of(T a, T b, Wide c) {
    return static_cast<Wide>(static_cast<Unsigned<Wide>>(MulWide<T>::of(a, b)) +
                             static_cast<Unsigned<Wide>>(c));
  }
};
// Division by zero is unspecified in PTX; GPUs give all ones.
template <class T>
struct Div {
  static T of(T a, T b) {
    if (b == 0) return static_cast<T>(~T{0});
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return static_cast<T>(Unsigned<T>{0} - static_cast<Unsigned<T>>(a));
    return static_cast<T>(a / b);
  }
};
template <class T>
struct Rem {
  static T of(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return 0;
    return static_cast<T>(a % b);
  }
};
struct Neg {
  template <class T>
  static T of(T a) {
    return static_cast<T>(Unsigned<T>{0} - static_cast<Unsigned<T>>(a));
  }
};
struct Abs {
  template <class T>
  static T of(T a) {
    return a < 0 ? Neg::of(a) : a;
  }
};
struct Min {
  template <class T>
  static T of(T a, T b) {
    return a < b ? a : b;
  }
};
struct Max {
  template <class T>
  static T of(T a, T b) {
    return a > b ? a : b;
  }
};
struct And {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  static T of(T a) {
    return static_cast<T>(~a);
  }
  static bool of(bool a) { return !a; }
};
struct AndPredicate {
  static bool of(bool a, bool b) { return a && b; }
};
struct OrPredicate {
  static bool of(bool a, bool b) { return a || b; }
};
struct XorPredicate {
  static bool of(bool a, bool b) { return a != b; }
};
struct MovePredicate {
  static bool of(bool a) { return a; }
};
struct Select {
  template <class T>
  static T of(T a, T b, bool p) {
    return p ? a : b;
  }
};
// Distances beyond the width shift everything out.
struct Shl {
  template <class T>
  static T of(T a, uint32_t n) {
    return n >= 8 * sizeof(T) ? T{0} : static_cast<T>(static_cast<uint64_t>(a) << n);
  }
};
struct Shr {
  template <class T>
  static T of(T a, uint32_t n) {
    const uint32_t most = 8 * sizeof(T) - 1;
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> std::min(n, most));
    return n > most ? T{0} : static_cast<T>(a >> n);
  }
};
template <bool kLeft, bool kClamp>
struct FunnelShift {
  static uint32_t of(uint32_t low, uint32_t high, uint32_t distance) {
    const uint64_t both = uint64_t{high} << 32 | low;
    const uint32_t n = kClamp ? std::min(distance, 32u) : distance & 31;
    return static_cast<uint32_t>(kLeft ? both << n >> 32 : both >> n);
  }
};
struct InsertBits {
  template <class T>
  static T of(T a, T b, uint32_t position, uint32_t length) {
    const uint32_t at = position & 0xff, n = length & 0xff;
    if (at >= 8 * sizeof(T)) return b;
    const uint64_t ones = n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
    const T mask = static_cast<T>(ones << at);
    return static_cast<T>((b & ~mask) | (static_cast<uint64_t>(a) << at & mask));
  }
};
template <class T>
struct ExtractBits {
  static T of(T a, uint32_t position, uint32_t length) {
    const uint32_t width = 8 * sizeof(T), at = position & 0xff, n = std::min(length & 0xff, width);
    const bool filled = std::is_signed_v<T> && n > 0 && (a >> std::min(at + n - 1, width - 1) & 1);
    using U = Unsigned<T>;
    const U ones = n >= width ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << n) - 1);
    const U bits = at >= width ? U{0} : static_cast<U>(static_cast<U>(a) >> at & ones);
    const U present = at >= width           ? U{0}
                      : width - at >= width ? ones
                                            : static_cast<U>(((U{1} << (width - at)) - 1) & ones);
    return static_cast<T>(filled ? bits | static_cast<U>(~present) : bits);
  }
};
struct Permute {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t both = uint64_t{b} << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; ++i) {
      const uint32_t s = selector >> (4 * i) & 15;
      uint32_t byte = static_cast<uint32_t>(both >> (8 * (s & 7))) & 0xff;
      if (s & 8) byte = byte & 0x80 ? 0xff : 0;
      out |= byte << (8 * i);
    }
    return out;
  }
};
struct Logic3 {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t out = 0;
    for (uint32_t i = 0; i < 8; ++i)
      if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return out;
  }
};
struct Population {
  template <class T>
  static uint32_t of(T a) {
    return static_cast<uint32_t>(std::popcount(a));
  }
};
struct LeadingZeros {
  template <class T>
  static uint32_t of(T a) {
    return static_cast<uint32_t>(std::countl_zero(a));
  }
};
struct ReverseBits {
  template <class T>
  static T of(T a) {
    T out = 0;
    for (size_t i = 0; i < 8 * sizeof(T); ++i) out |= (a >> i & 1) << (8 * sizeof(T) - 1 - i);
    return out;
  }
};
template <class T>
struct FindHighest {
  static uint32_t of(T a) {
    using U = Unsigned<T>;
    const U bits = static_cast<U>(std::is_signed_v<T> && a < 0 ? ~a : a);
    return bits == 0 ? ~0u : static_cast<uint32_t>(std::bit_width(bits)) - 1;
  }
};
// Dot product of four bytes.
template <class A, class B, class C>
struct Dot4 {
  static C of(uint32_t a, uint32_t b, C c) {
    uint32_t sum = static_cast<uint32_t>(c);
    for (int i = 0; i < 4; ++i)
      sum += static_cast<uint32_t>(static_cast<A>(a >> 8 * i) * static_cast<B>(b >> 8 * i));
    return static_cast<C>(sum);
  }
};

// Operations whose bits do not depend on the sign.
template <class U>
void add_common(ArithmeticTable& t, const std::string& type) {
  t["add." + type] = elementwise<Add, U, U, U>();
  t["sub." + type] = elementwise<Sub, U, U, U>();
  t["mul.lo." + type] = elementwise<MulLo, U, U, U>();
  t["mad.lo." + type] = elementwise<MadLo, U, U, U, U>();
}

template <class T>
void add_signed_or_not(ArithmeticTable& t, const std::string& type) {
  using U = Unsigned<T>;
  add_common<U>(t, type);
  t["mul.hi." + type] = elementwise<MulHi<T>, T, T, T>();
  t["mad.hi." + type] = elementwise<MadHi<T>, T, T, T, T>();
  if constexpr (sizeof(T) < 8) {
    using Wide = typename Wider<T>::type;
    t["mul.wide." + type] = elementwise<MulWide<T>, Wide, T, T>();
    t["mad.wide." + type] = elementwise<MadWide<T>, Wide, T, T, Wide>();
  }
  t["div." + type] = elementwise<Div<T>, T, T, T>();
  t["rem." + type] = elementwise<Rem<T>, T, T, T>();
  t["min." + type] = elementwise<Min, T, T, T>();
  t["max." + type] = elementwise<Max, T, T, T>();
  t["shr." + type] = elementwise<Shr, T, T, uint32_t>();
  t["shl." + type] = elementwise<Shl, T, T, uint32_t>();
  if constexpr (std::is_signed_v<T>) {
    t["neg." + type] = elementwise<Neg, T, T>();
    t["abs." + type] = elementwise<Abs, T, T>();
  }
  if constexpr (sizeof(T) >= 4) {
    t["bfe." + type] = elementwise<ExtractBits<T>, T, T, uint32_t, uint32_t>();
    t["bfind." + type] = elementwise<FindHighest<T>, uint32_t, T>();
  }
}

template <class U>
void add_bits(ArithmeticTable& t, const std::string& bits) {
  const std::string type = "b" + bits;
  t["and." + type] = elementwise<And, U, U, U>();
  t["or." + type] = elementwise<Or, U, U, U>();
  t["xor." + type] = elementwise<Xor, U, U, U>();
  t["not." + type] = elementwise<Not, U, U>();
  t["shl." + type] = elementwise<Shl, U, U, uint32_t>();
  t["shr." + type] = elementwise<Shr, U, U, uint32_t>();
  for (const char* kind : {"b", "u", "s", "f"}) {
    t[std::string("mov.") + kind + bits] = elementwise<Move, U, U>();
    t[std::string("selp.") + kind + bits] = elementwise<Select, U, U, U, Predicate>();
  }
  if constexpr (sizeof(U) >= 4) {
    t["popc." + type] = elementwise<Population, uint32_t, U>();
    t["clz." + type] = elementwise<LeadingZeros, uint32_t, U>();
    t["brev." + type] = elementwise<ReverseBits, U, U>();
    t["bfi." + type] = elementwise<InsertBits, U, U, U, uint32_t, uint32_t>();
  }
}

}  // namespace

void add_integer_arithmetic(ArithmeticTable& t) {
  add_signed_or_not<int16_t>(t, "s16");
  add_signed_or_not<uint16_t>(t, "u16");
  add_signed_or_not<int32_t>(t, "s32");
  add_signed_or_not<uint32_t>(t, "u32");
  add_signed_or_not<int64_t>(t, "s64");
  add_signed_or_not<uint64_t>(t, "u64");
  add_bits<uint16_t>(t, "16");
  add_bits<uint32_t>(t, "32");
  add_bits<uint64_t>(t, "64");
  t["and.pred"] = elementwise<AndPredicate, Predicate, Predicate, Predicate>();
  t["or.pred"] = elementwise<OrPredicate, Predicate, Predicate, Predicate>();
  t["xor.pred"] = elementwise<XorPredicate, Predicate, Predicate, Predicate>();
  t["not.pred"] = elementwise<Not, Predicate, Predicate>();
  t["mov.pred"] = elementwise<MovePredicate, Predicate, Predicate>();
  t["shf.l.wrap.b32"] =
      elementwise<FunnelShift<true, false>, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["shf.l.clamp.b32"] =
      elementwise<FunnelShift<true, true>, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["shf.r.wrap.b32"] =
      elementwise<FunnelShift<false, false>, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["shf.r.clamp.b32"] =
      elementwise<FunnelShift<false, true>, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["prmt.b32"] = elementwise<Permute, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["lop3.b32"] = elementwise<Logic3, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["dp4a.s32.s32"] =
      elementwise<Dot4<int8_t, int8_t, int32_t>, int32_t, uint32_t, uint32_t, int32_t>();
  t["dp4a.u32.u32"] =
      elementwise<Dot4<uint8_t, uint8_t, uint32_t>, uint32_t, uint32_t, uint32_t, uint32_t>();
  t["dp4a.s32.u32"] =
      elementwise<Dot4<int8_t, uint8_t, int32_t>, int32_t, uint32_t, uint32_t, int32_t>();
  t["dp4a.u32.s32"] =
      elementwise<Dot4<uint8_t, int8_t, int32_t>, int32_t, uint32_t, uint32_t, int32_t>();
}

}  // namespace qvl::sim
