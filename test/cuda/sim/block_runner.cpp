#include "block_runner.h"

#include <algorithm>
#include <bit>
#include <climits>
#include <cstring>

#include "checker.h"

namespace qvl::sim {
namespace {

constexpr uint64_t kInstructionLimit = uint64_t{1} << 32;  // of a block; more never ends

}  // namespace

BlockRunner::BlockRunner(const Launch& launch, const Options& options, Checker* checker,
                         SiteCounters* counters, uint32_t launch_serial)
    : launch_(launch), program_(*launch.program), options_(options), hints_(program_.code.size()) {
  block_.launch = &launch;
  block_.program = &program_;
  block_.options = &options;
  block_.checker = checker;
  block_.counters = counters;
  block_.hints = &hints_;
  block_.launch_serial = launch_serial;
  const auto& d = launch.block;
  block_.threads = static_cast<int>(d[0] * d[1] * d[2]);
  const int warps = (block_.threads + kLanes - 1) / kLanes;
  block_.warps.resize(static_cast<size_t>(warps));
  // Aligned for whole vectors.
  const size_t registers = (program_.register_bytes + 127) / 128 * 128;
  const size_t local = program_.local_bytes * kLanes;
  registers_.resize((registers * warps + 128) / 8);
  local_.resize(local * warps + 16);
  constants_.resize(program_.constants.size() / 8 + 17);
  auto* base = align(registers_.data());
  auto* constants = align(constants_.data());
  if (!program_.constants.empty())
    std::memcpy(constants, program_.constants.data(), program_.constants.size());
  for (int i = 0; i < warps; ++i) {
    Warp& w = block_.warps[static_cast<size_t>(i)];
    w.block = &block_;
    w.index = i;
    w.registers = base + registers * i;
    w.constants = constants;
    w.local = local_.data() + local * i;
  }
  shared_.resize((launch.shared_bytes + 16) / 8 + 16);
  block_.shared = align(shared_.data());
  random_.seed(options.seed);
}

void BlockRunner::run(std::array<uint32_t, 3> index, uint32_t serial) {
  begin(index, serial);
  uint64_t budget = kInstructionLimit;
  while (block_.alive > 0) {
    const int next = pick();
    if (next >= 0) {
      uint64_t slice = options_.order == Order::kRandom ? random_() % 100 + 1 : budget;
      budget -= std::min(budget, run_warp(block_.warps[static_cast<size_t>(next)], slice));
      if (budget == 0) throw KernelError(where(0, 0) + "still runs after 2^32 instructions");
      if (block_.warps[static_cast<size_t>(next)].groups.empty()) check_divergence(next);
    } else if (!release_barriers()) {
      throw KernelError(stuck());
    }
  }
}

unsigned char* BlockRunner::align(uint64_t* p) {
  return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(p) + 127) / 128 * 128);
}

void BlockRunner::begin(std::array<uint32_t, 3> index, uint32_t serial) {
  block_.index = index;
  block_.serial = serial;
  block_.alive = block_.threads;
  block_.arrived.fill(0);
  if (options_.check) {
    // All ones is a NaN in every float format: what nobody wrote shows.
    std::memset(align(registers_.data()), 0xff, registers_.size() * 8 - 128);
  }
  std::memset(block_.shared, 0xff, launch_.shared_bytes);
  for (Warp& w : block_.warps) {
    const int threads = std::min(kLanes, block_.threads - w.index * kLanes);
    w.alive = threads == kLanes ? ~0u : (1u << threads) - 1;
    w.waited_lanes = 0;
    std::fill(std::begin(w.known), std::end(w.known), 0u);
    w.known[w.index] = 1;
    w.groups.assign(1, Group{0, w.alive});
    w.waiting.clear();
    w.copies.clear();
    std::fill(std::begin(w.committed), std::end(w.committed), 0u);
    set_special_registers(w);
  }
  if (block_.checker) block_.checker->begin_block(block_);
}

void BlockRunner::set_special_registers(Warp& w) {
  const auto& d = launch_.block;
  for (uint32_t l = 0; l < kLanes; ++l) {
    const uint32_t t = static_cast<uint32_t>(w.index) * kLanes + l;
    const uint32_t values[kSpecials] = {t % d[0],
                                        t / d[0] % d[1],
                                        t / d[0] / d[1],
                                        d[0],
                                        d[1],
                                        d[2],
                                        block_.index[0],
                                        block_.index[1],
                                        block_.index[2],
                                        launch_.grid[0],
                                        launch_.grid[1],
                                        launch_.grid[2],
                                        l,
                                        static_cast<uint32_t>(w.index)};
    for (int i = 0; i < kSpecials; ++i)
      if (program_.special[i] != kNone) w.at<uint32_t>(program_.special[i])[l] = values[i];
  }
}

int BlockRunner::pick() {
  const int n = static_cast<int>(block_.warps.size());
  const int start =
      options_.order == Order::kRandom ? static_cast<int>(random_() % static_cast<uint64_t>(n)) : 0;
  for (int i = 0; i < n; ++i) {
    const int w = options_.order == Order::kReverse ? n - 1 - i : (start + i) % n;
    if (!block_.warps[static_cast<size_t>(w)].groups.empty()) return w;
  }
  return -1;
}

Group BlockRunner::take_least(Warp& w, int* stop) {
  size_t least = 0;
  for (size_t i = 1; i < w.groups.size(); ++i)
    if (w.groups[i].pc < w.groups[least].pc) least = i;
  Group group = w.groups[least];
  group.lanes = 0;
  *stop = INT_MAX;
  size_t kept = 0;
  for (const Group& g : w.groups) {
    if (g.pc == group.pc) {
      group.lanes |= g.lanes;
    } else {
      *stop = std::min(*stop, g.pc);
      w.groups[kept++] = g;
    }
  }
  w.groups.resize(kept);
  return group;
}

uint64_t BlockRunner::run_warp(Warp& w, uint64_t limit) {
  const Instruction* code = program_.code.data();
  uint64_t done = 0;
  while (!w.groups.empty() && done < limit) {
    int stop;
    Group g = take_least(w, &stop);
    while (g.lanes && g.pc < stop && done < limit) {
      const Instruction& in = code[g.pc];
      ++done;
      uint32_t mask = g.lanes;
      if (in.guard != kNone) {
        const uint32_t p = *w.get<uint32_t>(in.guard);
        mask &= in.negated ? ~p : p;
      }
      if (block_.counters)
        block_.counters[g.pc].lanes += static_cast<uint64_t>(std::popcount(mask));
      if (in.step == Step::kRun) {
        if (mask) in.handler(w, in, mask);
        ++g.pc;
      } else {
        stop = std::min(stop, control(w, in, &g, mask));
      }
    }
    if (g.lanes) w.groups.push_back(g);
  }
  return done;
}

int BlockRunner::control(Warp& w, const Instruction& in, Group* g, uint32_t mask) {
  const int pc = g->pc++;
  if (mask == 0) return INT_MAX;
  switch (in.step) {
    case Step::kBranch:
      if (mask == g->lanes) {
        g->pc = in.target;
        return INT_MAX;
      }
      g->lanes &= ~mask;
      w.groups.push_back({in.target, mask});
      return in.target;
    case Step::kExit:
      leave(w, in, mask);
      g->lanes &= ~mask;
      return INT_MAX;
    case Step::kBarrier:
      return arrive(w, in, g, mask, pc);
    default:
      if (mask == g->lanes && whole(w, in, mask)) {
        in.handler(w, in, mask);
        return INT_MAX;
      }
      return meet(w, in, g, mask, pc);
  }
}

bool BlockRunner::whole(const Warp& w, const Instruction& in, uint32_t lanes) {
  const uint32_t* masks = w.get<uint32_t>(in.src[kMaskOperand]);
  uint32_t different = 0;
  for (int l = 0; l < kLanes; ++l) different |= uint32_t{masks[l] != lanes} << l;
  return (different & lanes) == 0;
}

int BlockRunner::meet(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc) {
  const uint32_t* masks = w.get<uint32_t>(in.src[kMaskOperand]);
  uint32_t todo = mask;
  g->lanes &= ~mask;
  int least = INT_MAX;
  while (todo) {
    const int lane = std::countr_zero(todo);
    const uint32_t needed = masks[lane];
    uint32_t here = 0;
    for (int l = 0; l < kLanes; ++l) here |= uint32_t{(todo >> l & 1) && masks[l] == needed} << l;
    todo &= ~here;
    if (here & ~needed)
      fail(w, in, std::countr_zero(here & ~needed),
           "takes part in a collective whose mask leaves it out");
    if (needed & ~w.alive) fail(w, in, lane, "waits for lanes that do not exist or have left");
    auto it = std::find_if(w.waiting.begin(), w.waiting.end(), [&](const Waiting& x) {
      return x.barrier < 0 && x.pc == pc && x.needed == needed;
    });
    if (it == w.waiting.end()) it = w.waiting.insert(it, Waiting{pc, 0, needed});
    it->lanes |= here;
    if (it->lanes != needed) continue;
    w.waiting.erase(it);
    in.handler(w, in, needed);
    w.groups.push_back({pc + 1, needed});
    least = pc + 1;
  }
  return least;
}

void BlockRunner::leave(Warp& w, const Instruction& in, uint32_t mask) {
  for (const PendingCopy& c : w.copies)
    if (const uint32_t lanes = c.lanes & mask)
      fail(w, *c.site, std::countr_zero(lanes), "a cp.async that its thread never waits for");
  for (const Waiting& x : w.waiting)
    if (x.barrier < 0 && (x.needed & mask))
      fail(w, in, std::countr_zero(x.needed & mask),
           "leaves while its warp waits for it at " +
               program_.describe(program_.code[static_cast<size_t>(x.pc)]));
  w.alive &= ~mask;
  block_.alive -= std::popcount(mask);
}

int BlockRunner::arrive(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc) {
  const int lane = std::countr_zero(mask);
  const uint32_t id = w.get<uint32_t>(in.src[0])[lane];
  if (id >= 16) fail(w, in, lane, "barrier " + std::to_string(id) + " of 16");
  const int count = in.src[1] == kNone ? 0 : static_cast<int>(w.get<uint32_t>(in.src[1])[lane]);
  if (in.variant) {  // bar.arrive does not stay
    block_.arrived[id] += std::popcount(mask);
    return INT_MAX;
  }
  g->lanes &= ~mask;
  for (Waiting& x : w.waiting) {
    if (x.barrier == static_cast<int>(id) && x.pc == pc) {
      x.lanes |= mask;
      return INT_MAX;
    }
  }
  w.waiting.push_back({pc, mask, 0, static_cast<int>(id), count});
  return INT_MAX;
}

void BlockRunner::check_divergence(int index) {
  const Warp& w = block_.warps[static_cast<size_t>(index)];
  for (size_t i = 1; i < w.waiting.size(); ++i) {
    const Waiting &a = w.waiting[0], &b = w.waiting[i];
    if (a.barrier < 0 || b.barrier < 0 || a.pc == b.pc) continue;
    const auto& code = program_.code;
    fail(w, code[static_cast<size_t>(b.pc)], std::countr_zero(b.lanes),
         "divergence at a barrier: thread " +
             std::to_string(index * kLanes + std::countr_zero(a.lanes)) +
             " of the same warp waits at " + program_.describe(code[static_cast<size_t>(a.pc)]));
  }
}

bool BlockRunner::release_barriers() {
  bool released = false;
  for (int id = 0; id < 16; ++id) {
    int waiting = 0, count = 0;
    const Waiting* first = nullptr;
    for (const Warp& w : block_.warps)
      for (const Waiting& x : w.waiting) {
        if (x.barrier != id) continue;
        waiting += std::popcount(x.lanes);
        if (!first) first = &x, count = x.count;
        if (x.count == 0 && x.pc != first->pc)
          fail(w, program_.code[static_cast<size_t>(x.pc)], std::countr_zero(x.lanes),
               "divergence at a barrier: other warps wait at " +
                   program_.describe(program_.code[static_cast<size_t>(first->pc)]));
      }
    if (!first) continue;
    const int arrived = waiting + block_.arrived[static_cast<size_t>(id)];
    if (arrived < (count ? count : block_.alive)) continue;
    block_.arrived[static_cast<size_t>(id)] = 0;
    release(id);
    released = true;
  }
  return released;
}

void BlockRunner::release(int id) {
  uint32_t joined[32] = {};
  std::vector<Warp*> together;
  for (Warp& w : block_.warps) {
    bool here = false;
    for (size_t i = 0; i < w.waiting.size(); ++i) {
      if (w.waiting[i].barrier != id) continue;
      w.groups.push_back({w.waiting[i].pc + 1, w.waiting[i].lanes});
      w.waiting.erase(w.waiting.begin() + static_cast<std::ptrdiff_t>(i--));
      here = true;
    }
    if (!here) continue;
    ++w.known[w.index];
    together.push_back(&w);
    for (int v = 0; v < 32; ++v) joined[v] = std::max(joined[v], w.known[v]);
  }
  if (block_.checker) block_.checker->joined(together);
  for (Warp* w : together) std::copy(std::begin(joined), std::end(joined), w->known);
}

std::string BlockRunner::where(int warp, int lane) const {
  const auto& b = block_.index;
  return program_.name + ", block (" + std::to_string(b[0]) + "," + std::to_string(b[1]) + "," +
         std::to_string(b[2]) + ") thread " + std::to_string(warp * kLanes + lane) + ": ";
}

std::string BlockRunner::stuck() const {
  std::string text = where(0, 0) + "deadlock:";
  int lines = 0;
  for (const Warp& w : block_.warps)
    for (const Waiting& x : w.waiting)
      if (lines++ < 8)
        text += std::string(" ") + std::to_string(std::popcount(x.lanes)) + " lanes of warp " +
                std::to_string(w.index) + " wait at " +
                program_.describe(program_.code[static_cast<size_t>(x.pc)]) + ";";
  text += std::string(" ") + std::to_string(block_.alive) + " of " +
          std::to_string(block_.threads) + " threads have not left";
  return text;
}

}  // namespace qvl::sim
