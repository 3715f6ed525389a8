// Floating-point instructions and comparisons.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include "elementwise.h"
#include "half.h"

namespace qvl::sim {
namespace {

// .ftz: denormals count as zero, as operands and as results.
template <bool kFlush>
float flush(float v) {
  if constexpr (!kFlush) return v;
  return std::fabs(v) < std::numeric_limits<float>::min() ? std::copysign(0.f, v) : v;
}
template <bool kFlush, class F>
struct Flushed {
  template <class... T>
  static float of(T... v) {
    return flush<kFlush>(F::of(flush<kFlush>(v)...));
  }
};
struct Saturate {
  static float of(float v) { return v > 0.f ? std::min(v, 1.f) : 0.f; }  // NaN gives 0
};
template <class F>
struct Saturated {
  template <class... T>
  static float of(T... v) {
    return Saturate::of(F::of(v...));
  }
};

struct Add {
  template <class T>
  static T of(T a, T b) {
    return a + b;
  }
};
struct Sub {
  template <class T>
  static T of(T a, T b) {
    return a - b;
  }
};
struct Mul {
  template <class T>
  static T of(T a, T b) {
    return a * b;
  }
};
struct Div {
  template <class T>
  static T of(T a, T b) {
    return a / b;
  }
};
struct Fma {
  template <class T>
  static T of(T a, T b, T c) {
    return std::fma(a, b, c);
  }
};
struct Neg {
  template <class T>
  static T of(T a) {
    return -a;
  }
};
struct Abs {
  template <class T>
  static T of(T a) {
    return std::fabs(a);
  }
};
// As PTX: of a NaN and a number the number.
struct Min {
  template <class T>
  static T of(T a, T b) {
    if (a != a) return b;
    if (a == b) return std::signbit(a) ? a : b;
    return b < a ? b : a;
  }
};
struct Max {
  template <class T>
  static T of(T a, T b) {
    if (a != a) return b;
    if (a == b) return std::signbit(a) ? b : a;
    return b > a ? b : a;
  }
};
template <class F>
struct NanWins {
  static float of(float a, float b) {
    return a != a || b != b ? std::numeric_limits<float>::quiet_NaN() : F::of(a, b);
  }
};
struct Ex2 {
  static float of(float a) { return std::exp2(a); }
};
struct Lg2 {
  static float of(float a) { return std::log2(a); }
};
struct Tanh {
  static float of(float a) { return std::tanh(a); }
};
struct Sin {
  static float of(float a) { return std::sin(a); }
};
struct Cos {
  static float of(float a) { return std::cos(a); }
};
struct Rcp {
  template <class T>
  static T of(T a) {
    return T{1} / a;
  }
};
struct Sqrt {
  template <class T>
  static T of(T a) {
    return std::sqrt(a);
  }
};
struct Rsqrt {
  template <class T>
  static T of(T a) {
    return T{1} / std::sqrt(a);
  }
};
struct CopySign {  // the sign of the first, the magnitude of the second
  static float of(float a, float b) { return std::copysign(b, a); }
};
struct IsNan {
  static bool of(float a) { return std::isnan(a); }
};
struct IsFinite {
  static bool of(float a) { return std::isfinite(a); }
};
struct IsInfinite {
  static bool of(float a) { return std::isinf(a); }
};

// 16-bit arithmetic: the exact result in double, rounded once. (Of a sum of a product the double
// has to round as well, in cases further apart than 2^53.)
struct Bf16Format {
  static double wide(uint16_t v) { return bf16_to_float(v); }
  static uint16_t narrow(double v) { return float_to_bf16(to_odd(v)); }
  // To float, so that rounding again to 16 bits is as rounding once.
  static float to_odd(double v) {
    float f = static_cast<float>(v);
    if (std::isfinite(v) && static_cast<double>(f) != v) {
      if (std::fabs(static_cast<double>(f)) > std::fabs(v)) f = std::nextafter(f, 0.f);
      f = std::bit_cast<float>(std::bit_cast<uint32_t>(f) | 1);
    }
    return f;
  }
};
struct HalfFormat {
  static double wide(uint16_t v) { return half_to_float(v); }
  static uint16_t narrow(double v) { return float_to_half(Bf16Format::to_odd(v)); }
};
template <class Format, class F>
struct Narrow {
  template <class... T>
  static uint16_t of(T... v) {
    return Format::narrow(F::of(Format::wide(v)...));
  }
};
template <class Format, class F>
struct NarrowPair {
  template <class... T>
  static uint32_t of(T... v) {
    return static_cast<uint32_t>(Narrow<Format, F>::of(static_cast<uint16_t>(v >> 16)...)) << 16 |
           Narrow<Format, F>::of(static_cast<uint16_t>(v)...);
  }
};
struct Ex2Wide {
  static double of(double a) { return std::exp2(a); }
};
struct TanhWide {
  static double of(double a) { return std::tanh(a); }
};

template <class Format>
void add_narrow(ArithmeticTable& t, const std::string& type) {
  using U = uint16_t;
  using P = uint32_t;
  const auto two = [&]<class F>(const char* name, F) {
    t[name + type] = elementwise<Narrow<Format, F>, U, U, U>();
    t[name + type + "x2"] = elementwise<NarrowPair<Format, F>, P, P, P>();
  };
  two("add.", Add{});
  two("sub.", Sub{});
  two("mul.", Mul{});
  two("min.", Min{});
  two("max.", Max{});
  const auto one = [&]<class F>(const char* name, F) {
    t[name + type] = elementwise<Narrow<Format, F>, U, U>();
    t[name + type + "x2"] = elementwise<NarrowPair<Format, F>, P, P>();
  };
  one("neg.", Neg{});
  one("abs.", Abs{});
  one("ex2.", Ex2Wide{});
  one("ex2.ftz.", Ex2Wide{});
  one("tanh.", TanhWide{});
  t["fma." + type] = elementwise<Narrow<Format, Fma>, U, U, U, U>();
  t["fma." + type + "x2"] = elementwise<NarrowPair<Format, Fma>, P, P, P, P>();
}

template <bool kFlush>
void add_single(ArithmeticTable& t) {
  const std::string type = kFlush ? ".ftz.f32" : ".f32";
  const std::string saturated = kFlush ? ".ftz.sat.f32" : ".sat.f32";
  using T = float;
  const auto two = [&]<class F>(const char* name, F) {
    t[name + type] = elementwise<Flushed<kFlush, F>, T, T, T>();
    t[name + saturated] = elementwise<Saturated<Flushed<kFlush, F>>, T, T, T>();
  };
  two("add", Add{});
  two("sub", Sub{});
  two("mul", Mul{});
  two("div", Div{});
  two("min", Min{});
  two("max", Max{});
  two("min.NaN", NanWins<Min>{});
  two("max.NaN", NanWins<Max>{});
  const auto one = [&]<class F>(const char* name, F) {
    t[name + type] = elementwise<Flushed<kFlush, F>, T, T>();
  };
  one("neg", Neg{});
  one("abs", Abs{});
  one("ex2", Ex2{});
  one("lg2", Lg2{});
  one("sin", Sin{});
  one("cos", Cos{});
  one("rcp", Rcp{});
  one("sqrt", Sqrt{});
  one("rsqrt", Rsqrt{});
  t["fma" + type] = elementwise<Flushed<kFlush, Fma>, T, T, T, T>();
  t["fma" + saturated] = elementwise<Saturated<Flushed<kFlush, Fma>>, T, T, T, T>();
}

// ---- comparisons ----

struct Eq {
  template <class T>
  static bool of(T a, T b) {
    return a == b;
  }
};
struct Ne {
  template <class T>
  static bool of(T a, T b) {
    return a < b || a > b;
  }  // false for NaN
};
struct Lt {
  template <class T>
  static bool of(T a, T b) {
    return a < b;
  }
};
struct Le {
  template <class T>
  static bool of(T a, T b) {
    return a <= b;
  }
};
struct Gt {
  template <class T>
  static bool of(T a, T b) {
    return a > b;
  }
};
struct Ge {
  template <class T>
  static bool of(T a, T b) {
    return a >= b;
  }
};
template <class F>
struct Unordered {
  template <class T>
  static bool of(T a, T b) {
    return a != a || b != b || F::of(a, b);
  }
};
struct Never {
  template <class T>
  static bool of(T, T) {
    return false;
  }
};
struct Ordered {
  template <class T>
  static bool of(T a, T b) {
    return a == a && b == b;
  }
};

// Of denormals under .ftz only their zero counts.
template <class F>
struct FlushedCompare {
  static bool of(float a, float b) { return F::of(flush<true>(a), flush<true>(b)); }
};
// setp.<cmp>.<and|or|xor>: combined with a predicate.
template <class F, char kWith>
struct Combined {
  template <class T>
  static bool of(T a, T b, bool c) {
    const bool v = F::of(a, b);
    return kWith == '&' ? v && c : kWith == '|' ? v || c : v != c;
  }
};
template <class Format, class F>
struct NarrowCompare {
  static bool of(uint16_t a, uint16_t b) { return F::of(Format::wide(a), Format::wide(b)); }
};

template <class F, class T>
void add_compare(ArithmeticTable& t, const std::string& name, const std::string& type) {
  t["setp." + name + "." + type] = elementwise<F, Predicate, T, T>();
  t["setp." + name + ".and." + type] = elementwise<Combined<F, '&'>, Predicate, T, T, Predicate>();
  t["setp." + name + ".or." + type] = elementwise<Combined<F, '|'>, Predicate, T, T, Predicate>();
  t["setp." + name + ".xor." + type] = elementwise<Combined<F, '^'>, Predicate, T, T, Predicate>();
}

template <class T>
void add_integer_compares(ArithmeticTable& t, const std::string& type) {
  add_compare<Eq, T>(t, "eq", type);
  add_compare<Ne, T>(t, "ne", type);
  if (type[0] == 'b') return;
  add_compare<Lt, T>(t, "lt", type);
  add_compare<Le, T>(t, "le", type);
  add_compare<Gt, T>(t, "gt", type);
  add_compare<Ge, T>(t, "ge", type);
  if (type[0] == 's') return;
  add_compare<Lt, T>(t, "lo", type);
  add_compare<Le, T>(t, "ls", type);
  add_compare<Gt, T>(t, "hi", type);
  add_compare<Ge, T>(t, "hs", type);
}

// Calls f(name, comparison) for all of floating point.
template <class F>
void for_float_compares(F f) {
  f("eq", Eq{});
  f("ne", Ne{});
  f("lt", Lt{});
  f("le", Le{});
  f("gt", Gt{});
  f("ge", Ge{});
  f("equ", Unordered<Eq>{});
  f("neu", Unordered<Ne>{});
  f("ltu", Unordered<Lt>{});
  f("leu", Unordered<Le>{});
  f("gtu", Unordered<Gt>{});
  f("geu", Unordered<Ge>{});
  f("num", Ordered{});
  f("nan", Unordered<Never>{});
}

}  // namespace

void add_float_arithmetic(ArithmeticTable& t) {
  add_single<false>(t);
  add_single<true>(t);
  t["tanh.f32"] = elementwise<Tanh, float, float>();
  t["copysign.f32"] = elementwise<CopySign, float, float, float>();
  t["testp.notanumber.f32"] = elementwise<IsNan, Predicate, float>();
  t["testp.finite.f32"] = elementwise<IsFinite, Predicate, float>();
  t["testp.infinite.f32"] = elementwise<IsInfinite, Predicate, float>();
  using D = double;
  t["add.f64"] = elementwise<Add, D, D, D>();
  t["sub.f64"] = elementwise<Sub, D, D, D>();
  t["mul.f64"] = elementwise<Mul, D, D, D>();
  t["div.f64"] = elementwise<Div, D, D, D>();
  t["min.f64"] = elementwise<Min, D, D, D>();
  t["max.f64"] = elementwise<Max, D, D, D>();
  t["fma.f64"] = elementwise<Fma, D, D, D, D>();
  t["neg.f64"] = elementwise<Neg, D, D>();
  t["abs.f64"] = elementwise<Abs, D, D>();
  t["rcp.f64"] = elementwise<Rcp, D, D>();
  t["sqrt.f64"] = elementwise<Sqrt, D, D>();
  t["rsqrt.f64"] = elementwise<Rsqrt, D, D>();
  add_narrow<Bf16Format>(t, "bf16");
  add_narrow<HalfFormat>(t, "f16");
}

void add_comparisons(ArithmeticTable& t) {
  add_integer_compares<int16_t>(t, "s16");
  add_integer_compares<uint16_t>(t, "u16");
  add_integer_compares<uint16_t>(t, "b16");
  add_integer_compares<int32_t>(t, "s32");
  add_integer_compares<uint32_t>(t, "u32");
  add_integer_compares<uint32_t>(t, "b32");
  add_integer_compares<int64_t>(t, "s64");
  add_integer_compares<uint64_t>(t, "u64");
  add_integer_compares<uint64_t>(t, "b64");
  for_float_compares([&]<class F>(const std::string& name, F) {
    add_compare<F, float>(t, name, "f32");
    add_compare<FlushedCompare<F>, float>(t, name + ".ftz", "f32");
    add_compare<F, double>(t, name, "f64");
    add_compare<NarrowCompare<Bf16Format, F>, uint16_t>(t, name, "bf16");
    add_compare<NarrowCompare<HalfFormat, F>, uint16_t>(t, name, "f16");
  });
}

}  // namespace qvl::sim
