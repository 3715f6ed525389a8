// Loads, stores, atomics and asynchronous copies of a warp.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "addresses.h"
#include "checker.h"
#include "decode.h"
#include "half.h"
#include "machine.h"

namespace qvl::sim {
namespace {

template <class T, class Register>
void load(Warp& w, const Instruction& in, uint32_t mask) {
  if (!mask) return;
  uint64_t at[kLanes];
  unsigned char* host[kLanes];
  gather(w, in, at);
  resolve(w, in, mask, at, static_cast<int>(sizeof(T)) * in.vector, Use::kRead, host);
  for (int i = 0; i < in.vector; ++i) {
    Register* to = w.at<Register>(in.dst[i]);
    for (int l = 0; l < kLanes; ++l) {
      if (!(mask >> l & 1)) continue;
      T v;
      std::memcpy(&v, host[l] + static_cast<size_t>(i) * sizeof(T), sizeof v);
      to[l] = static_cast<Register>(v);
    }
  }
}

template <class T, class Register>
void store(Warp& w, const Instruction& in, uint32_t mask) {
  if (!mask) return;
  uint64_t at[kLanes];
  unsigned char* host[kLanes];
  gather(w, in, at);
  resolve(w, in, mask, at, static_cast<int>(sizeof(T)) * in.vector, Use::kWrite, host);
  const bool reverse =
      w.block->options->order == Order::kReverse;  // which lane wins where they meet
  for (int n = 0; n < kLanes; ++n) {
    const int l = reverse ? kLanes - 1 - n : n;
    if (!(mask >> l & 1)) continue;
    for (int i = 0; i < in.vector; ++i) {
      const T v = static_cast<T>(w.get<Register>(in.src[i])[l]);
      std::memcpy(host[l] + static_cast<size_t>(i) * sizeof(T), &v, sizeof v);
    }
  }
}

// ---- atomics ----

struct AtomicAdd {
  template <class T>
  static T of(T old, T a, T) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<U>(old) + static_cast<U>(a));
    } else {
      return old + a;
    }
  }
};
struct AtomicMin {
  template <class T>
  static T of(T old, T a, T) {
    return std::min(old, a);
  }
};
struct AtomicMax {
  template <class T>
  static T of(T old, T a, T) {
    return std::max(old, a);
  }
};
struct AtomicAnd {
  template <class T>
  static T of(T old, T a, T) {
    return old & a;
  }
};
struct AtomicOr {
  template <class T>
  static T of(T old, T a, T) {
    return old | a;
  }
};
struct AtomicXor {
  template <class T>
  static T of(T old, T a, T) {
    return old ^ a;
  }
};
struct AtomicExchange {
  template <class T>
  static T of(T, T a, T) {
    return a;
  }
};
struct AtomicCompare {
  template <class T>
  static T of(T old, T compare, T value) {
    return old == compare ? value : old;
  }
};
struct AtomicIncrement {
  template <class T>
  static T of(T old, T a, T) {
    return old >= a ? T{0} : old + 1;
  }
};
struct AtomicDecrement {
  template <class T>
  static T of(T old, T a, T) {
    return old == 0 || old > a ? a : old - 1;
  }
};

template <class F, class T>
void atomic(Warp& w, const Instruction& in, uint32_t mask) {
  if (!mask) return;
  uint64_t at[kLanes];
  unsigned char* host[kLanes];
  gather(w, in, at);
  resolve(w, in, mask, at, sizeof(T), Use::kAtomic, host);
  T* old_values = w.at<T>(in.dst[0]);
  const T* a = w.get<T>(in.src[0]);
  const T* b = in.src[1] == kNone ? a : w.get<T>(in.src[1]);
  const bool reverse = w.block->options->order == Order::kReverse;
  for (int n = 0; n < kLanes; ++n) {
    const int l = reverse ? kLanes - 1 - n : n;
    if (!(mask >> l & 1)) continue;
    if (in.ordering && w.block->checker) w.block->checker->ordering_atomic(w, l, at[l]);
    std::atomic_ref<T> word(*reinterpret_cast<T*>(host[l]));
    const T value = a[l], other = b[l];  // the result may go where an operand was
    T old = word.load();
    while (!word.compare_exchange_weak(old, F::of(old, value, other))) {
    }
    old_values[l] = old;
  }
}

template <class T>
Handler integer_atomic(const std::string& operation) {
  static const std::map<std::string, Handler> kAtomics = {
      {"add", atomic<AtomicAdd, T>},       {"min", atomic<AtomicMin, T>},
      {"max", atomic<AtomicMax, T>},       {"and", atomic<AtomicAnd, T>},
      {"or", atomic<AtomicOr, T>},         {"xor", atomic<AtomicXor, T>},
      {"exch", atomic<AtomicExchange, T>}, {"cas", atomic<AtomicCompare, T>},
      {"inc", atomic<AtomicIncrement, T>}, {"dec", atomic<AtomicDecrement, T>}};
  const auto it = kAtomics.find(operation);
  return it == kAtomics.end() ? nullptr : it->second;
}

// ---- copies ----

void land(Warp& w, const PendingCopy& c, int l) {
  Block& block = *w.block;
  const uint64_t to = c.to[l] - kSharedWindow;
  if (block.checker) block.checker->copy_landed(w, *c.site, l, to, c.site->bytes);
  unsigned char* d = block.shared + to;
  if (c.valid[l]) std::memcpy(d, DeviceMemory::instance().host(c.from[l]), c.valid[l]);
  std::memset(d + c.valid[l], 0, static_cast<size_t>(c.site->bytes - c.valid[l]));
}

}  // namespace

namespace ops {

Handler load(int bytes, bool is_signed, bool wide) {
  using U8 = uint8_t;
  switch (bytes) {
    case 1:
      if (is_signed) return wide ? sim::load<int8_t, int64_t> : sim::load<int8_t, int32_t>;
      return wide ? sim::load<U8, uint64_t> : sim::load<U8, uint32_t>;
    case 2:
      // A 16-bit register keeps its upper half clear; a wider one gets the sign.
      if (is_signed) return wide ? sim::load<int16_t, int64_t> : sim::load<int16_t, int32_t>;
      return wide ? sim::load<uint16_t, uint64_t> : sim::load<uint16_t, uint32_t>;
    case 4:
      if (is_signed && wide) return sim::load<int32_t, int64_t>;
      return wide ? sim::load<uint32_t, uint64_t> : sim::load<uint32_t, uint32_t>;
    default:
      return sim::load<uint64_t, uint64_t>;
  }
}

Handler store(int bytes, bool wide) {
  switch (bytes) {
    case 1:
      return wide ? sim::store<uint8_t, uint64_t> : sim::store<uint8_t, uint32_t>;
    case 2:
      return wide ? sim::store<uint16_t, uint64_t> : sim::store<uint16_t, uint32_t>;
    case 4:
      return wide ? sim::store<uint32_t, uint64_t> : sim::store<uint32_t, uint32_t>;
    default:
      return sim::store<uint64_t, uint64_t>;
  }
}

void pack(Warp& w, const Instruction& in, uint32_t mask) {
  const uint64_t ones = (uint64_t{1} << (8 * in.bytes)) - 1;
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    uint64_t v = 0;
    for (int i = 0; i < in.vector; ++i)
      v |= (w.get<uint32_t>(in.src[i])[l] & ones) << (8 * in.bytes * i);
    if (in.wide_value) {
      w.at<uint64_t>(in.dst[0])[l] = v;
    } else {
      w.at<uint32_t>(in.dst[0])[l] = static_cast<uint32_t>(v);
    }
  }
}

void unpack(Warp& w, const Instruction& in, uint32_t mask) {
  const uint64_t ones = (uint64_t{1} << (8 * in.bytes)) - 1;
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    const uint64_t v =
        in.wide_value ? w.get<uint64_t>(in.src[0])[l] : w.get<uint32_t>(in.src[0])[l];
    for (int i = 0; i < in.vector; ++i)
      w.at<uint32_t>(in.dst[i])[l] = static_cast<uint32_t>(v >> (8 * in.bytes * i) & ones);
  }
}

void convert_address(Warp& w, const Instruction& in, uint32_t mask) {
  // Symbols of parameters and constants have generic addresses already.
  const uint64_t window = in.space == Space::kShared  ? kSharedWindow
                          : in.space == Space::kLocal ? kLocalWindow
                                                      : 0;
  const uint64_t* from = w.get<uint64_t>(in.src[0]);
  uint64_t* to = w.at<uint64_t>(in.dst[0]);
  for (int l = 0; l < kLanes; ++l)
    if (mask >> l & 1) to[l] = in.variant ? from[l] - window : from[l] + window;
}

Handler atomic(const std::string& operation, Type type) {
  if (type.kind == 'f') {
    if (operation != "add" && operation != "exch") return nullptr;
    if (type.bytes == 4)
      return operation == "add" ? sim::atomic<AtomicAdd, float>
                                : sim::atomic<AtomicExchange, float>;
    return nullptr;
  }
  if (type.kind == 's')
    return type.bytes == 4   ? integer_atomic<int32_t>(operation)
           : type.bytes == 8 ? integer_atomic<int64_t>(operation)
                             : nullptr;
  return type.bytes == 4   ? integer_atomic<uint32_t>(operation)
         : type.bytes == 8 ? integer_atomic<uint64_t>(operation)
                           : nullptr;
}

void copy_async(Warp& w, const Instruction& in, uint32_t mask) {
  if (!mask) return;
  Block& block = *w.block;
  PendingCopy copy{&in, mask, {}, {}, {}, {}};
  unsigned char* host[kLanes];
  gather(w, in, copy.to);
  const uint64_t* from = w.get<uint64_t>(in.address2);
  const uint32_t* valid = w.get<uint32_t>(in.src[0]);
  uint32_t reading = 0;
  uint64_t offset[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    if (!(mask >> l & 1)) continue;
    copy.from[l] = from[l] + static_cast<uint64_t>(in.offset2);
    copy.valid[l] = static_cast<uint8_t>(std::min<uint32_t>(valid[l], in.bytes));
    copy.group[l] = w.committed[l];
    offset[l] = copy.to[l] - kSharedWindow;
    if (copy.to[l] % in.bytes || copy.from[l] % in.bytes) fail(w, in, l, "misaligned cp.async");
    if (offset[l] + in.bytes > block.launch->shared_bytes)
      outside(w, in, l, Use::kWrite, "shared byte " + std::to_string(offset[l]));
    reading |= uint32_t{copy.valid[l] > 0} << l;
    if (block.checker) block.checker->copy_issued(w, in, l, offset[l], in.bytes);
  }
  // Zero-filled lanes read nothing, wherever their source points.
  for (uint32_t bytes : {16u, 8u, 4u}) {
    uint32_t whole = 0;
    for (int l = 0; l < kLanes; ++l)
      whole |= uint32_t{(reading >> l & 1) && copy.valid[l] == bytes} << l;
    if (whole) {
      resolve_global(w, in, whole, copy.from, static_cast<int>(bytes), Use::kRead, host);
      reading &= ~whole;
    }
  }
  if (reading)
    fail(w, in, first_lane(reading), "cp.async of a size that is not 0, 4, 8 or 16 bytes");
  if (block.options->copies_early) {
    for (int l = 0; l < kLanes; ++l)
      if (mask >> l & 1) land(w, copy, l);
    // Kept, with nothing left to do, so that forgetting the wait still shows at the end.
    for (int l = 0; l < kLanes; ++l) copy.valid[l] = 0xff;
  }
  w.copies.push_back(copy);
}

void commit_copies(Warp& w, const Instruction&, uint32_t mask) {
  for (int l = 0; l < kLanes; ++l) w.committed[l] += mask >> l & 1;
}

void wait_copies(Warp& w, const Instruction& in, uint32_t mask) {
  const uint32_t allowed = w.get<uint32_t>(in.src[0])[0];
  for (PendingCopy& c : w.copies) {
    for (int l = 0; l < kLanes; ++l) {
      // A group is open until it is committed; wait_all covers that one too.
      if (!(mask & c.lanes & 1u << l)) continue;
      if (!in.variant && c.group[l] + allowed >= w.committed[l]) continue;
      if (c.valid[l] != 0xff) land(w, c, l);
      c.lanes &= ~(1u << l);
    }
  }
  std::erase_if(w.copies, [](const PendingCopy& c) { return c.lanes == 0; });
}

void load_matrix(Warp& w, const Instruction& in, uint32_t mask) {
  if (mask != ~0u) fail(w, in, first_lane(mask ? mask : 1), "ldmatrix without the whole warp");
  uint64_t at[kLanes];
  unsigned char* host[kLanes];
  gather(w, in, at);
  const int rows = 8 * in.vector;
  const uint32_t giving = rows == 32 ? ~0u : (1u << rows) - 1;
  // Lanes that give no address are not looked at.
  for (int l = rows; l < kLanes; ++l) at[l] = at[0];
  resolve(w, in, giving, at, 16, Use::kRead, host);
  for (int matrix = 0; matrix < in.vector; ++matrix) {
    uint16_t tile[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(tile[row], host[matrix * 8 + row], 16);
    uint32_t* to = w.at<uint32_t>(in.dst[matrix]);
    for (int l = 0; l < kLanes; ++l) {
      const int major = l / 4, minor = l % 4 * 2;
      const uint32_t low = in.variant ? tile[minor][major] : tile[major][minor];
      const uint32_t high = in.variant ? tile[minor + 1][major] : tile[major][minor + 1];
      to[l] = high << 16 | low;
    }
  }
}

}  // namespace ops

}  // namespace qvl::sim
