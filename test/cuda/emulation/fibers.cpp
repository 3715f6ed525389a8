#include "fibers.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace qvl::emulation {
namespace {

// ---- switching between stacks ----

#if defined(__x86_64__)
// Saves the registers that a call keeps on the current stack, and goes on with the other's: a
// system call less than swapcontext() makes for each.
extern "C" void qvl_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.globl qvl_switch_stack
.hidden qvl_switch_stack
.type qvl_switch_stack,@function
qvl_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size qvl_switch_stack,.-qvl_switch_stack
.popsection
)");

class Context {
 public:
  void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
    auto** frame = reinterpret_cast<void**>(stack + bytes) - 8;
    for (int i = 0; i < 6; ++i) frame[i] = nullptr;  // registers
    frame[6] = reinterpret_cast<void*>(entry);       // where the switch returns to
    frame[7] = nullptr;                              // where `entry` would return to
    stack_ = frame;
  }
  void switch_to(Context& other) { qvl_switch_stack(&stack_, other.stack_); }

 private:
  void* stack_ = nullptr;
};
#else
class Context {
 public:
  void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_;
};
#endif

// ---- a block ----

constexpr size_t kStackBytes = 128 << 10;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 227 << 10;

struct Copy {
  void* dst;
  const void* src;
  bool valid;
};

enum class State { kReady, kInBarrier, kInWarp, kEnded };

struct Fiber : Place {
  Context context;
  State state = State::kReady;
  std::deque<std::vector<Copy>> groups;  // committed, the oldest first
  std::vector<Copy> open;
};

/// Lanes of a warp that wait for each other.
struct Meeting {
  const char* kind;
  uint32_t mask;
  uint32_t arrived;
};

struct WarpState {
  Slot slots[32];
  std::vector<Meeting> meetings;  // several where masks do not overlap
};

struct Abandoned {};  // unwinds the threads of a launch that went wrong

class Machine {
 public:
  Machine() : stacks_(reserve(kStackBytes * kMaxThreads)), shared_(reserve(kMaxSharedBytes)) {}

  void run(const HostLaunch& launch, const std::function<void()>& body);
  void sync_block();
  void meet(const char* kind, uint32_t mask, const void* in, size_t in_bytes, void* out,
            size_t out_bytes, WarpOperation operation);
  Fiber& self() { return *static_cast<Fiber*>(current); }
  unsigned char* shared() { return shared_; }
  size_t shared_bytes() const { return launch_->shared_bytes; }
  bool copies_early() const { return launch_->copies_early; }
  [[noreturn]] void fail(const std::string& what);
  void thread_main();

 private:
  static unsigned char* reserve(size_t bytes) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    return static_cast<unsigned char*>(at);
  }
  void run_block(Index3 index);
  Fiber* pick();
  int first_ready(int from) const;
  int last_ready() const;
  void set(Fiber& fiber, State state);
  void wait(State state);
  void release_barrier();
  std::string who_waits() const;

  unsigned char* stacks_;
  unsigned char* shared_;
  const HostLaunch* launch_ = nullptr;
  const std::function<void()>* body_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<WarpState> warps_;
  uint64_t ready_[kMaxThreads / 64] = {};  // bits of the threads that can go on
  Context scheduler_;
  int threads_ = 0, alive_ = 0, in_barrier_ = 0;
  std::mt19937_64 random_;
  std::string error_;
};

Machine& machine() {
  static auto* machine = new Machine;
  return *machine;
}

void thread_entry() { machine().thread_main(); }

/// The first thread at or behind `from` that can go on; -1: there is none.
int Machine::first_ready(int from) const {
  for (int word = from / 64; word < (threads_ + 63) / 64; ++word) {
    uint64_t bits = ready_[word];
    if (word == from / 64) bits &= ~uint64_t{0} << (from % 64);
    if (bits != 0) return word * 64 + std::countr_zero(bits);
  }
  return -1;
}

int Machine::last_ready() const {
  for (int word = (threads_ + 63) / 64 - 1; word >= 0; --word) {
    if (ready_[word] != 0) return word * 64 + 63 - std::countl_zero(ready_[word]);
  }
  return -1;
}

Fiber* Machine::pick() {
  int found = -1;
  if (launch_->order == Order::kReverse) {
    found = last_ready();
  } else {
    const bool is_random = launch_->order == Order::kRandom;
    const auto from = is_random ? static_cast<int>(random_() % static_cast<uint64_t>(threads_)) : 0;
    found = first_ready(from);
    if (found < 0) found = first_ready(0);
  }
  return found < 0 ? nullptr : fibers_[static_cast<size_t>(found)].get();
}

void Machine::set(Fiber& fiber, State state) {
  fiber.state = state;
  const uint64_t bit = uint64_t{1} << (fiber.number % 64);
  uint64_t& word = ready_[fiber.number / 64];
  word = state == State::kReady ? word | bit : word & ~bit;
}

void Machine::wait(State state) {
  Fiber& me = self();
  set(me, state);
  me.context.switch_to(scheduler_);
  if (!error_.empty()) throw Abandoned{};
}

void Machine::fail(const std::string& what) {
  if (error_.empty()) {
    const Fiber& me = self();
    error_ = std::string(launch_->kernel) + ": block (" + std::to_string(me.block.x) + ", " +
             std::to_string(me.block.y) + ", " + std::to_string(me.block.z) + "), thread " +
             std::to_string(me.number) + ": " + what;
  }
  throw Abandoned{};
}

void Machine::thread_main() {
  try {
    if (!error_.empty()) throw Abandoned{};  // before it began
    (*body_)();
    const Fiber& me = self();
    const auto has_copies = [](const std::vector<Copy>& group) { return !group.empty(); };
    if (!me.open.empty() || std::any_of(me.groups.begin(), me.groups.end(), has_copies)) {
      fail("it ends with copies that nobody waited for");
    }
  } catch (const Abandoned&) {
  } catch (const std::exception& error) {
    if (error_.empty()) error_ = error.what();
  }
  set(self(), State::kEnded);
  --alive_;
  if (alive_ > 0 && in_barrier_ == alive_) release_barrier();
  self().context.switch_to(scheduler_);
  __builtin_unreachable();
}

void Machine::release_barrier() {
  in_barrier_ = 0;
  for (int i = 0; i < threads_; ++i) {
    Fiber& fiber = *fibers_[static_cast<size_t>(i)];
    if (fiber.state == State::kInBarrier) set(fiber, State::kReady);
  }
}

void Machine::sync_block() {
  if (++in_barrier_ == alive_) return release_barrier();
  wait(State::kInBarrier);
}

void Machine::meet(const char* kind, uint32_t mask, const void* in, size_t in_bytes, void* out,
                   size_t out_bytes, WarpOperation operation) {
  Fiber& me = self();
  const int first = me.number / 32 * 32, lane = me.number % 32;
  WarpState& warp = warps_[static_cast<size_t>(me.number / 32)];
  if ((mask >> lane & 1) == 0) fail(std::string(kind) + " by a lane outside its mask");
  if (threads_ - first < 32 && mask >> (threads_ - first) != 0) {
    fail(std::string(kind) + " of lanes that are not there");
  }
  std::memcpy(warp.slots[lane].in, in, in_bytes);
  Meeting* meeting = nullptr;
  for (Meeting& other : warp.meetings) {
    if ((other.mask & mask) == 0) continue;
    if (other.mask != mask || std::strcmp(other.kind, kind) != 0) {
      fail(std::string(kind) + " while other lanes are at " + other.kind);
    }
    meeting = &other;
  }
  if (meeting == nullptr) meeting = &warp.meetings.emplace_back(Meeting{kind, mask, 0});
  meeting->arrived |= 1u << lane;
  if (meeting->arrived != mask) {
    wait(State::kInWarp);
  } else {
    std::erase_if(warp.meetings, [&](const Meeting& one) { return one.mask == mask; });
    operation(warp.slots, mask);
    for (uint32_t rest = mask & ~(1u << lane); rest != 0; rest &= rest - 1) {
      set(*fibers_[static_cast<size_t>(first + std::countr_zero(rest))], State::kReady);
    }
  }
  if (out_bytes != 0) std::memcpy(out, warp.slots[lane].out, out_bytes);
}

std::string Machine::who_waits() const {
  int in_warp = 0;
  for (int i = 0; i < threads_; ++i) {
    in_warp += fibers_[static_cast<size_t>(i)]->state == State::kInWarp;
  }
  return std::string(launch_->kernel) + ": nobody can go on: " + std::to_string(in_barrier_) +
         " of " + std::to_string(alive_) + " threads wait at a barrier, " +
         std::to_string(in_warp) + " for their warp";
}

void Machine::run_block(Index3 index) {
  const uint32_t* const size = launch_->block;
  alive_ = threads_;
  in_barrier_ = 0;
  warps_.resize(static_cast<size_t>((threads_ + 31) / 32));
  for (WarpState& warp : warps_) warp.meetings.clear();
  while (static_cast<int>(fibers_.size()) < threads_) {
    fibers_.push_back(std::make_unique<Fiber>());
  }
  for (int i = 0; i < threads_; ++i) {
    Fiber& fiber = *fibers_[static_cast<size_t>(i)];
    const auto n = static_cast<uint32_t>(i);
    fiber.number = i;
    fiber.thread = {n % size[0], n / size[0] % size[1], n / (size[0] * size[1])};
    fiber.block = index;
    fiber.block_size = {size[0], size[1], size[2]};
    fiber.grid_size = {launch_->grid[0], launch_->grid[1], launch_->grid[2]};
    set(fiber, State::kReady);
    fiber.groups.clear();
    fiber.open.clear();
    fiber.context.prepare(stacks_ + static_cast<size_t>(i) * kStackBytes, kStackBytes,
                          thread_entry);
  }
  std::memset(shared_, 0xff, launch_->shared_bytes);
  while (alive_ > 0) {
    Fiber* const next = pick();
    if (next == nullptr && error_.empty()) error_ = who_waits();
    if (!error_.empty()) {
      // Every thread is woken, to leave by the exception that its wait throws.
      for (int i = 0; i < threads_ && alive_ > 0; ++i) {
        Fiber& fiber = *fibers_[static_cast<size_t>(i)];
        if (fiber.state == State::kEnded) continue;
        current = &fiber;
        scheduler_.switch_to(fiber.context);
      }
      break;
    }
    current = next;
    scheduler_.switch_to(next->context);
  }
  current = nullptr;
  if (!error_.empty()) throw EmulationError(error_);
}

void Machine::run(const HostLaunch& launch, const std::function<void()>& body) {
  launch_ = &launch;
  body_ = &body;
  error_.clear();
  random_.seed(launch.seed);
  const uint64_t threads = uint64_t{launch.block[0]} * launch.block[1] * launch.block[2];
  if (threads == 0 || threads > kMaxThreads || launch.shared_bytes > kMaxSharedBytes) {
    throw EmulationError(std::string(launch.kernel) + ": a launch beyond the limits");
  }
  threads_ = static_cast<int>(threads);
  const uint64_t total = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  std::vector<uint64_t> blocks(total);
  for (uint64_t i = 0; i < total; ++i) {
    blocks[i] = launch.order == Order::kReverse ? total - 1 - i : i;
  }
  if (launch.order == Order::kRandom) std::shuffle(blocks.begin(), blocks.end(), random_);
  for (const uint64_t i : blocks) {
    run_block({static_cast<uint32_t>(i % launch.grid[0]),
               static_cast<uint32_t>(i / launch.grid[0] % launch.grid[1]),
               static_cast<uint32_t>(i / launch.grid[0] / launch.grid[1])});
  }
}

void land(const Copy& copy) {
  if (copy.valid) {
    std::memcpy(copy.dst, copy.src, 16);
  } else {
    std::memset(copy.dst, 0, 16);
  }
}

/// Any struct of more than 16 bytes is passed in memory, whatever it holds: by its place on the
/// stack (x86-64) or by its address (arm64), from its first byte on.
struct AnyParams {
  alignas(8) unsigned char bytes[1024];
};

}  // namespace

Place* current = nullptr;

void run(const HostLaunch& launch, const std::function<void()>& body) {
  machine().run(launch, body);
}
unsigned char* shared_memory() { return machine().shared(); }
size_t shared_bytes() { return machine().shared_bytes(); }
void sync_block() { machine().sync_block(); }
void meet(const char* kind, uint32_t mask, const void* in, size_t in_bytes, void* out,
          size_t out_bytes, WarpOperation operation) {
  machine().meet(kind, mask, in, in_bytes, out, out_bytes, operation);
}

void copy_async(void* dst, const void* src, bool valid) {
  const auto at = reinterpret_cast<uintptr_t>(dst);
  const auto begin = reinterpret_cast<uintptr_t>(shared_memory());
  if (at % 16 != 0 || reinterpret_cast<uintptr_t>(src) % 16 != 0) {
    machine().fail("a copy of 16 bytes that is not aligned");
  }
  if (at < begin || at + 16 > begin + shared_bytes()) {
    machine().fail("a copy to outside of shared memory");
  }
  const Copy copy{dst, src, valid};
  if (machine().copies_early()) land(copy);
  machine().self().open.push_back(copy);
}

void commit_copies() {
  Fiber& me = machine().self();
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void wait_for_copies(int pending) {
  Fiber& me = machine().self();
  while (static_cast<int>(me.groups.size()) > pending) {
    if (!machine().copies_early()) {
      for (const Copy& copy : me.groups.front()) land(copy);
    }
    me.groups.pop_front();
  }
}

}  // namespace qvl::emulation

extern "C" __attribute__((visibility("default"))) const char* qvl_emulate(
    const qvl::emulation::HostLaunch* launch) {
  using namespace qvl::emulation;
  static std::string error;
  // Kernels are this library's own functions, by their names.
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&qvl_emulate), &self);
  void* const library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  void* const kernel = library == nullptr ? nullptr : dlsym(library, launch->kernel);
  AnyParams params{};
  if (kernel == nullptr) {
    error = std::string("there is no kernel ") + launch->kernel + " made by the host's compiler";
    return error.c_str();
  }
  if (launch->params_bytes <= 16 || launch->params_bytes > sizeof params) {
    error = std::string(launch->kernel) + ": parameters of " +
            std::to_string(launch->params_bytes) + " bytes, not of 17 to 1024";
    return error.c_str();
  }
  std::memcpy(&params, launch->params, launch->params_bytes);
  const auto call = reinterpret_cast<void (*)(AnyParams)>(kernel);
  try {
    run(*launch, [&] { call(params); });
    return nullptr;
  } catch (const std::exception& failed) {
    error = failed.what();
    return error.c_str();
  }
}
