#include "addresses.h"

#include <algorithm>
#include <bit>

#include "checker.h"
#include "machine.h"

namespace qvl::sim {
namespace {

void count_global(Block& block, SiteCounters& c, uint32_t lanes, const uint64_t* at, int bytes) {
  uint64_t sectors[kLanes * 2];
  int n = 0;
  for (int l = 0; l < kLanes; ++l) {
    if (!(lanes >> l & 1)) continue;
    const uint64_t begin = at[l] / 32, end = (at[l] + static_cast<uint64_t>(bytes) - 1) / 32;
    for (uint64_t s = begin; s <= end; ++s)
      if (n == 0 || sectors[n - 1] != s) sectors[n++] = s;
  }
  if (!std::is_sorted(sectors, sectors + n)) std::sort(sectors, sectors + n);
  n = static_cast<int>(std::unique(sectors, sectors + n) - sectors);
  const int active = std::popcount(lanes);
  ++c.requests;
  c.bytes += static_cast<uint64_t>(bytes) * active;
  c.transfers += n;
  c.ideal += (static_cast<uint64_t>(bytes) * active + 31) / 32;
  for (int i = 0; i < n; ++i) {
    uint32_t& launch = DeviceMemory::instance().sector_launch(sectors[i] * 32);
    block.touched_sectors += launch != block.launch_serial;
    launch = block.launch_serial;
  }
}

// Wide accesses are served in groups of lanes that together ask for 128 bytes; a bank gives one
// word.
void count_shared(SiteCounters& c, uint32_t lanes, const uint64_t* at, int bytes) {
  const int group = std::min(kLanes, 128 / std::max(4, bytes));
  ++c.requests;
  c.bytes += static_cast<uint64_t>(bytes) * std::popcount(lanes);
  for (int begin = 0; begin < kLanes; begin += group) {
    uint64_t words[kLanes * 2];
    int n = 0;
    for (int l = begin; l < begin + group; ++l) {
      if (!(lanes >> l & 1)) continue;
      const uint64_t last = (at[l] + static_cast<uint64_t>(bytes) - 1) / 4;
      for (uint64_t word = at[l] / 4; word <= last; ++word) words[n++] = word;
    }
    if (n == 0) continue;
    if (!std::is_sorted(words, words + n)) std::sort(words, words + n);
    n = static_cast<int>(std::unique(words, words + n) - words);
    int bank[32] = {}, worst = 0;
    for (int i = 0; i < n; ++i) worst = std::max(worst, ++bank[words[i] % 32]);
    c.transfers += worst;
    ++c.ideal;
  }
}

void resolve_shared(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                    Use use, unsigned char** host) {
  Block& block = *w.block;
  uint64_t offset[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    offset[l] = at[l] - kSharedWindow;
    host[l] = block.shared + offset[l];
    if ((lanes >> l & 1) && offset[l] + static_cast<uint64_t>(bytes) > block.launch->shared_bytes)
      outside(w, in, l, use,
              "shared byte " + std::to_string(offset[l]) + " of " +
                  std::to_string(block.launch->shared_bytes));
  }
  if (block.checker) block.checker->shared(w, in, lanes, offset, bytes, use);
  if (block.counters)
    count_shared(block.counters[&in - block.program->code.data()], lanes, offset, bytes);
}

unsigned char* resolve_other(Warp& w, const Instruction& in, int l, uint64_t at, int bytes,
                             Use use) {
  const Block& block = *w.block;
  const auto size = static_cast<size_t>(bytes);
  switch (at >> kWindowBits) {
    case kLocalWindow >> kWindowBits: {
      const uint64_t offset = at - kLocalWindow;
      if (offset + size > block.program->local_bytes) outside(w, in, l, use, "local memory");
      return w.local + static_cast<size_t>(l) * block.program->local_bytes + offset;
    }
    case kParamWindow >> kWindowBits: {
      const uint64_t offset = at - kParamWindow;
      if (use != Use::kRead || offset + size > block.launch->parameters.size())
        outside(w, in, l, use, "the kernel's parameters");
      return const_cast<unsigned char*>(block.launch->parameters.data()) + offset;
    }
    case kConstantWindow >> kWindowBits: {
      const unsigned char* p = constant_host(at, size);
      if (use != Use::kRead || !p) outside(w, in, l, use, "the module's constants");
      return const_cast<unsigned char*>(p);
    }
    default:
      outside(w, in, l, use, DeviceMemory::instance().describe(at));
  }
}

}  // namespace

void gather(const Warp& w, const Instruction& in, uint64_t* at) {
  const bool shared = in.space == Space::kShared, local = in.space == Space::kLocal;
  const uint64_t window = shared ? kSharedWindow : local ? kLocalWindow : 0;
  const auto offset = static_cast<uint64_t>(in.offset);
  if (in.wide_address) {
    const auto* base = w.get<uint64_t>(in.address);
    for (int l = 0; l < kLanes; ++l) at[l] = base[l] + offset;
  } else {
    const auto* base = w.get<uint32_t>(in.address);
    for (int l = 0; l < kLanes; ++l) at[l] = base[l] + offset;
  }
  if (!window) return;
  // The windows are 4 GiB: what is beyond wraps, to be found out of bounds.
  for (int l = 0; l < kLanes; ++l) at[l] = window + static_cast<uint32_t>(at[l]);
}

void outside(const Warp& w, const Instruction& in, int lane, Use use, const std::string& where) {
  fail(w, in, lane,
       std::string(use == Use::kRead ? "reads" : "writes") + " out of bounds: " + where,
       KernelError::Kind::kIllegalAddress);
}

void resolve_global(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                    Use use, unsigned char** host) {
  Block& block = *w.block;
  DeviceMemory& memory = DeviceMemory::instance();
  const size_t site = static_cast<size_t>(&in - block.program->code.data());
  Allocation& hint = (*block.hints)[site];
  for (int l = 0; l < kLanes; ++l) {
    if (!(lanes >> l & 1)) continue;
    if (!hint.contains(at[l], static_cast<size_t>(bytes))) {
      hint = memory.find(at[l], static_cast<size_t>(bytes));
      if (!hint.bytes) outside(w, in, l, use, memory.describe(at[l]));
    }
    host[l] = memory.host(at[l]);
  }
  if (block.checker) block.checker->global(w, in, lanes, at, bytes, use);
  if (block.counters) count_global(block, block.counters[site], lanes, at, bytes);
}

void resolve(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes, Use use,
             unsigned char** host) {
  const uint64_t window = at[first_lane(lanes)] >> kWindowBits;
  uint32_t same = 0;
  for (int l = 0; l < kLanes; ++l) {
    if (!(lanes >> l & 1)) continue;
    if (at[l] % static_cast<uint64_t>(bytes))
      fail(w, in, l,
           "misaligned: address " + std::to_string(at[l]) + " for " + std::to_string(bytes) +
               " bytes");
    same |= uint32_t{at[l] >> kWindowBits == window} << l;
  }
  if (same != lanes) {  // a generic access to several spaces
    resolve(w, in, same, at, bytes, use, host);
    resolve(w, in, lanes & ~same, at, bytes, use, host);
  } else if (window == kSharedWindow >> kWindowBits) {
    resolve_shared(w, in, lanes, at, bytes, use, host);
  } else if (window == kGlobalWindow >> kWindowBits) {
    resolve_global(w, in, lanes, at, bytes, use, host);
  } else {
    for (int l = 0; l < kLanes; ++l)
      if (lanes >> l & 1) host[l] = resolve_other(w, in, l, at[l], bytes, use);
  }
}

}  // namespace qvl::sim
