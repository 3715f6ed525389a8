#include "machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "checker.h"
#include "report.h"

namespace qvl::sim {
namespace {

constexpr size_t kSharedLimit = 227 * 1024;
constexpr uint64_t kInstructionLimit = uint64_t{1} << 32;  // of a block; more never ends

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

// Runs blocks one after the other; keeps its memory between them.
class BlockRunner {
 public:
  BlockRunner(const Launch& launch, const Options& options, Checker* checker,
              SiteCounters* counters, uint32_t launch_serial)
      : launch_(launch),
        program_(*launch.program),
        options_(options),
        hints_(program_.code.size()) {
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

  void run(std::array<uint32_t, 3> index, uint32_t serial) {
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
  uint64_t touched_sectors() const { return block_.touched_sectors; }

 private:
  static unsigned char* align(uint64_t* p) {
    return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(p) + 127) / 128 * 128);
  }

  void begin(std::array<uint32_t, 3> index, uint32_t serial) {
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

  void set_special_registers(Warp& w) {
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

  // A warp that can run, by the chosen order, or -1.
  int pick() {
    const int n = static_cast<int>(block_.warps.size());
    const int start = options_.order == Order::kRandom
                          ? static_cast<int>(random_() % static_cast<uint64_t>(n))
                          : 0;
    for (int i = 0; i < n; ++i) {
      const int w = options_.order == Order::kReverse ? n - 1 - i : (start + i) % n;
      if (!block_.warps[static_cast<size_t>(w)].groups.empty()) return w;
    }
    return -1;
  }

  // The lanes that are furthest behind go first, so that they catch up with the others.
  static Group take_least(Warp& w, int* stop) {
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

  // Runs the warp until it waits, has left, or `limit` instructions are done; returns how many
  // were.
  uint64_t run_warp(Warp& w, uint64_t limit) {
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

  // Instructions that change which lanes run where; returns the least pc of lanes parted with.
  int control(Warp& w, const Instruction& in, Group* g, uint32_t mask) {
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

  // Whether a collective's mask is, for all of its lanes, exactly the lanes that are here.
  static bool whole(const Warp& w, const Instruction& in, uint32_t lanes) {
    const uint32_t* masks = w.get<uint32_t>(in.src[kMaskOperand]);
    uint32_t different = 0;
    for (int l = 0; l < kLanes; ++l) different |= uint32_t{masks[l] != lanes} << l;
    return (different & lanes) == 0;
  }

  // Lanes come to a collective apart from others that it names.
  int meet(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc) {
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

  void leave(Warp& w, const Instruction& in, uint32_t mask) {
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

  int arrive(Warp& w, const Instruction& in, Group* g, uint32_t mask, int pc) {
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

  // All lanes of a warp that wait must do so at one place: barriers are for whole warps.
  void check_divergence(int index) {
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

  // Lets go on whom a complete barrier held; false when there is none.
  bool release_barriers() {
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

  void release(int id) {
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

  std::string where(int warp, int lane) const {
    const auto& b = block_.index;
    return program_.name + ", block (" + std::to_string(b[0]) + "," + std::to_string(b[1]) + "," +
           std::to_string(b[2]) + ") thread " + std::to_string(warp * kLanes + lane) + ": ";
  }

  std::string stuck() const {
    std::string text = where(0, 0) + "deadlock:";
    int lines = 0;
    for (const Warp& w : block_.warps)
      for (const Waiting& x : w.waiting)
        if (lines++ < 8)
          text += " " + std::to_string(std::popcount(x.lanes)) + " lanes of warp " +
                  std::to_string(w.index) + " wait at " +
                  program_.describe(program_.code[static_cast<size_t>(x.pc)]) + ";";
    text += " " + std::to_string(block_.alive) + " of " + std::to_string(block_.threads) +
            " threads have not left";
    return text;
  }

  const Launch& launch_;
  const Program& program_;
  const Options& options_;
  Block block_;
  std::vector<uint64_t> registers_, constants_, shared_;
  std::vector<unsigned char> local_;
  std::vector<Allocation> hints_;
  std::mt19937_64 random_;
};

// Serials across launches; launches are run one at a time.
struct History {
  std::mutex mutex;
  uint32_t next_block = 1;
  uint32_t unfinished = 1;  // first block of the launches that a programmatic one may overlap
  uint32_t launches = 0;
};
History& history() {
  static auto* h = new History;
  return *h;
}

void check_shape(const Launch& launch) {
  uint64_t threads = 1;
  for (const uint32_t n : launch.block) threads *= n;
  if (threads == 0 || threads > static_cast<uint64_t>(launch.program->max_threads))
    throw KernelError(launch.program->name + ": a block of " + std::to_string(threads) +
                      " threads; the kernel's limit is " +
                      std::to_string(launch.program->max_threads));
  if (launch.shared_bytes > kSharedLimit)
    throw KernelError(launch.program->name + ": " + std::to_string(launch.shared_bytes) +
                      " bytes of shared memory; no supported GPU has more than " +
                      std::to_string(kSharedLimit));
  if (launch.grid[1] > 65535 || launch.grid[2] > 65535)
    throw KernelError("grid y or z exceeds 65535");
}

std::vector<uint64_t> block_order(const Options& options, uint64_t total) {
  std::vector<uint64_t> order(total);
  for (uint64_t i = 0; i < total; ++i)
    order[i] = options.order == Order::kReverse ? total - 1 - i : i;
  if (options.order == Order::kRandom) {
    std::mt19937_64 random(options.seed);
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

// Runs `work` on several threads, each with a function that hands it block after block. Rethrows
// the first failure.
void run_in_parallel(const std::vector<uint64_t>& order, size_t num_threads,
                     const std::function<void(const std::function<bool(uint64_t*)>&)>& work) {
  std::atomic<size_t> taken{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const std::function<bool(uint64_t*)> next = [&](uint64_t* i) {
    const size_t at = taken++;
    if (at >= order.size()) return false;
    *i = order[at];
    return true;
  };
  std::vector<std::thread> threads;
  for (size_t t = 0; t < num_threads; ++t) {
    threads.emplace_back([&] {
      try {
        work(next);
      } catch (...) {
        taken = order.size();
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Options Options::from_environment() {
  Options o;
  const std::string order = environment("QWEN2_VL_SIM_ORDER", "forward");
  o.order = order == "reverse"  ? Order::kReverse
            : order == "random" ? Order::kRandom
                                : Order::kForward;
  o.copies_early = environment("QWEN2_VL_SIM_COPIES", "late") == "early";
  o.seed = std::strtoull(environment("QWEN2_VL_SIM_SEED", "1").c_str(), nullptr, 10);
  o.check = environment("QWEN2_VL_SIM_CHECK", "1") != "0";
  o.report = environment("QWEN2_VL_SIM_REPORT", "");
  const std::string threads = std::to_string(std::thread::hardware_concurrency());
  o.threads =
      std::strtoul(environment("QWEN2_VL_SIM_THREADS", threads.c_str()).c_str(), nullptr, 10);
  return o;
}

void fail(const Warp& w, const Instruction& in, int lane, const std::string& what,
          KernelError::Kind kind) {
  const Block& block = *w.block;
  const auto& b = block.index;
  throw KernelError(block.program->name + ", block (" + std::to_string(b[0]) + "," +
                        std::to_string(b[1]) + "," + std::to_string(b[2]) + ") thread " +
                        std::to_string(w.index * kLanes + lane) + " at " +
                        block.program->describe(in) + ": " + what,
                    kind);
}

void run_launch(const Launch& launch, const Options& options) {
  check_shape(launch);
  History& h = history();
  std::lock_guard lock(h.mutex);
  const uint64_t total = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  const uint32_t first_block = h.next_block;
  h.next_block += static_cast<uint32_t>(total);
  ++h.launches;
  Checker checker;
  if (options.check) checker.begin_launch(first_block, h.unfinished, launch.programmatic);
  // A launch of the ordinary kind comes after everything before it.
  if (!launch.programmatic) h.unfinished = first_block;

  const std::vector<uint64_t> order = block_order(options, total);
  const auto run = [&](BlockRunner& runner, uint64_t i) {
    const auto& g = launch.grid;
    runner.run({static_cast<uint32_t>(i % g[0]), static_cast<uint32_t>(i / g[0] % g[1]),
                static_cast<uint32_t>(i / g[0] / g[1])},
               first_block + static_cast<uint32_t>(i));
  };
  const size_t threads = std::min<uint64_t>(options.threads, total);
  if (!options.check && options.report.empty() && threads > 1) {
    run_in_parallel(order, threads, [&](const std::function<bool(uint64_t*)>& next) {
      BlockRunner runner(launch, options, nullptr, nullptr, h.launches);
      for (uint64_t i = 0; next(&i);) run(runner, i);
    });
    return;
  }
  std::vector<SiteCounters> counters(options.report.empty() ? 0 : launch.program->code.size());
  BlockRunner runner(launch, options, options.check ? &checker : nullptr,
                     counters.empty() ? nullptr : counters.data(), h.launches);
  for (const uint64_t i : order) run(runner, i);
  if (!counters.empty()) write_report(options.report, launch, counters, runner.touched_sectors());
}

void synchronize_launches() {
  History& h = history();
  std::lock_guard lock(h.mutex);
  h.unfinished = h.next_block;
}

void note_library_kernel(uint64_t address, size_t bytes) {
  History& h = history();
  std::lock_guard lock(h.mutex);
  const uint32_t serial = h.next_block++;
  h.unfinished = serial;
  if (bytes == 0) return;
  DeviceMemory& memory = DeviceMemory::instance();
  GlobalShadow* end = memory.shadow(address + bytes - 1) + 1;
  for (GlobalShadow* s = memory.shadow(address); s != end; ++s) s->writer = serial;
}

}  // namespace qvl::sim
