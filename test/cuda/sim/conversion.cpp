// cvt: between integers, between formats of floating point, and across.

#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "decode.h"
#include "half.h"
#include "rounding.h"
#include "warp.h"

namespace qvl::sim {
namespace {

/// A 16-bit float by its bits, told apart from uint16_t.
struct Half {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

template <class T>
constexpr bool kIsFloat = !std::is_integral_v<T>;

template <class T>
double read(const Warp& w, Operand o, bool wide, int lane) {
  if constexpr (std::is_same_v<T, Half>) {
    return half_to_float(static_cast<uint16_t>(w.get<uint32_t>(o)[lane]));
  } else if constexpr (std::is_same_v<T, Bf16>) {
    return bf16_to_float(static_cast<uint16_t>(w.get<uint32_t>(o)[lane]));
  } else {
    (void)wide;
    return w.get<T>(o)[lane];
  }
}

double rounded(double v, int mode) {
  switch (mode) {
    case kNearestInteger:
      return std::nearbyint(v);
    case kZeroInteger:
      return std::trunc(v);
    case kDownInteger:
      return std::floor(v);
    case kUpInteger:
      return std::ceil(v);
    default:
      return v;
  }
}

// Rounds v, which is exact, to float in a direction; nearest is the processor's own.
float to_float(double v, int mode) {
  const float nearest = static_cast<float>(v);
  if (mode == kNearest || !std::isfinite(v) || static_cast<double>(nearest) == v) return nearest;
  const bool above = static_cast<double>(nearest) > v;
  const float infinity = std::numeric_limits<float>::infinity();
  if (mode == kDown || (mode == kZero && v > 0))
    return above ? std::nextafter(nearest, -infinity) : nearest;
  return above ? nearest : std::nextafter(nearest, infinity);
}

// The 16-bit formats keep the upper bits in their direction: rounding to odd first makes one
// rounding.
float for_narrow(double v) {
  float f = static_cast<float>(v);
  if (std::isfinite(v) && static_cast<double>(f) != v) {
    if (std::fabs(static_cast<double>(f)) > std::fabs(v)) f = std::nextafter(f, 0.f);
    f = std::bit_cast<float>(std::bit_cast<uint32_t>(f) | 1);
  }
  return f;
}

// Integers wider than double's 53 bits need their own way to float.
template <class To, class From>
struct Convert {
  static To of(From v, const Instruction& in) {
    if constexpr (!kIsFloat<To>) {
      if (in.saturate) {
        if (std::cmp_less(v, std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
        if (std::cmp_greater(v, std::numeric_limits<To>::max()))
          return std::numeric_limits<To>::max();
      }
      return static_cast<To>(v);
    } else {
      return static_cast<To>(v);
    }
  }
};

template <class To>
To from_double(double v, const Instruction& in) {
  if constexpr (kIsFloat<To>) {
    v = rounded(v, in.variant);
    if (in.relu && !(v > 0)) v = 0;
    if (in.saturate) v = v > 0 ? std::fmin(v, 1.0) : 0;
    if constexpr (std::is_same_v<To, Half>) {
      return {float_to_half(for_narrow(v))};
    } else if constexpr (std::is_same_v<To, Bf16>) {
      if (in.variant == kZero && std::isfinite(v))
        return {static_cast<uint16_t>(std::bit_cast<uint32_t>(to_float(v, kZero)) >> 16)};
      return {float_to_bf16(for_narrow(v))};
    } else if constexpr (std::is_same_v<To, float>) {
      float f = to_float(v, in.variant);
      if (in.flush && std::fabs(f) < std::numeric_limits<float>::min()) f = std::copysign(0.f, f);
      return f;
    } else {
      return v;
    }
  } else {
    // Saturates, and NaN becomes 0 (all set bits' top for 64 bits is not modelled apart).
    v = rounded(v, in.variant == kNearest ? int{kZeroInteger} : int{in.variant});
    if (std::isnan(v)) return 0;
    const double top = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (v >= top) return std::numeric_limits<To>::max();
    if (v < static_cast<double>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    return static_cast<To>(v);
  }
}

template <class T>
void write(Warp& w, Operand o, int lane, T v) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, Bf16>) {
    w.at<uint32_t>(o)[lane] = v.bits;
  } else if constexpr (sizeof(T) < 4) {
    w.at<uint32_t>(o)[lane] = static_cast<uint32_t>(v) & (sizeof(T) == 1 ? 0xffu : 0xffffu);
  } else {
    w.at<T>(o)[lane] = v;
  }
}

template <class To, class From>
void run(Warp& w, const Instruction& in, uint32_t mask) {
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    To result;
    if constexpr (kIsFloat<From>) {
      result = from_double<To>(read<From>(w, in.src[0], in.wide_value, l), in);
    } else {
      // A source register may be wider than the type; its low bits count.
      From v;
      if constexpr (sizeof(From) == 8) {
        v = w.get<From>(in.src[0])[l];
      } else if (in.wide_value) {
        v = static_cast<From>(w.get<uint64_t>(in.src[0])[l]);
      } else {
        v = static_cast<From>(w.get<uint32_t>(in.src[0])[l]);
      }
      if constexpr (!kIsFloat<To> || std::is_same_v<To, double>) {
        result = Convert<To, From>::of(v, in);
      } else if constexpr (std::is_same_v<To, float>) {
        result = in.variant == kNearest ? static_cast<float>(v)
                                        : from_double<float>(static_cast<double>(v), in);
      } else {
        result = from_double<To>(static_cast<double>(v), in);
      }
    }
    if constexpr (std::is_integral_v<To> && sizeof(To) < 8) {
      // ... and so may the destination, sign-extended for a signed type.
      if (in.wide_result) {
        w.at<int64_t>(in.dst[0])[l] = static_cast<int64_t>(result);
      } else if (in.to_32_bits) {
        w.at<int32_t>(in.dst[0])[l] = static_cast<int32_t>(result);
      } else {
        write(w, in.dst[0], l, result);
      }
    } else {
      write(w, in.dst[0], l, result);
    }
  }
}

template <class To>
Handler from(Type type) {
  switch (type.kind) {
    case 's':
      return type.bytes == 1   ? run<To, int8_t>
             : type.bytes == 2 ? run<To, int16_t>
             : type.bytes == 4 ? run<To, int32_t>
                               : run<To, int64_t>;
    case 'u':
    case 'b':
      return type.bytes == 1   ? run<To, uint8_t>
             : type.bytes == 2 ? run<To, uint16_t>
             : type.bytes == 4 ? run<To, uint32_t>
                               : run<To, uint64_t>;
    case 'f':
      return type.bytes == 2 ? run<To, Half> : type.bytes == 4 ? run<To, float> : run<To, double>;
    case 'h':
      return run<To, Bf16>;
    default:
      return nullptr;
  }
}

// cvt.rn.bf16x2.f32 d, a, b: a becomes the upper half.
template <class Narrow>
void run_pair(Warp& w, const Instruction& in, uint32_t mask) {
  const float* high = w.get<float>(in.src[0]);
  const float* low = w.get<float>(in.src[1]);
  uint32_t* to = w.at<uint32_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l)
    if (mask >> l & 1)
      to[l] = uint32_t{from_double<Narrow>(high[l], in).bits} << 16 |
              from_double<Narrow>(low[l], in).bits;
}

}  // namespace

Handler conversion_handler(Type to, Type source) {
  switch (to.kind) {
    case 's':
      return to.bytes == 1   ? from<int8_t>(source)
             : to.bytes == 2 ? from<int16_t>(source)
             : to.bytes == 4 ? from<int32_t>(source)
                             : from<int64_t>(source);
    case 'u':
    case 'b':
      return to.bytes == 1   ? from<uint8_t>(source)
             : to.bytes == 2 ? from<uint16_t>(source)
             : to.bytes == 4 ? from<uint32_t>(source)
                             : from<uint64_t>(source);
    case 'f':
      return to.bytes == 2   ? from<Half>(source)
             : to.bytes == 4 ? from<float>(source)
                             : from<double>(source);
    case 'h':
      return from<Bf16>(source);
    default:
      return nullptr;
  }
}

Handler pair_conversion_handler(bool bf16) { return bf16 ? run_pair<Bf16> : run_pair<Half>; }

}  // namespace qvl::sim
