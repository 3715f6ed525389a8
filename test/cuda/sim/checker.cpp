#include "checker.h"

#include <algorithm>

namespace qvl::sim {
namespace {

// An Access: site 16 | thread 10 | atomic 1 | clock of the thread's warp 37.
constexpr int kSiteShift = 48, kThreadShift = 38, kAtomicShift = 37;

int thread_of(uint64_t a) { return static_cast<int>(a >> kThreadShift & 1023); }
uint64_t clock_of(uint64_t a) { return a & ((uint64_t{1} << kAtomicShift) - 1); }
bool is_atomic(uint64_t a) { return a >> kAtomicShift & 1; }

}  // namespace

void Checker::begin_launch(uint32_t first_block, uint32_t unfinished, bool programmatic) {
  first_block_ = first_block;
  unfinished_ = unfinished;
  programmatic_ = programmatic;
  released_.clear();
}

void Checker::begin_block(const Block& block) {
  block_ = &block;
  granule_ = static_cast<size_t>(block.program->shared_granule);
  granules_.assign(block.launch->shared_bytes / granule_ + 1, Granule{});
  pending_.assign(granules_.size(), 0);
  acquired_.clear();
}

Checker::Access Checker::stamp(const Warp& w, const Instruction& in, int lane, bool atomic) const {
  const auto site = static_cast<uint64_t>(&in - block_->program->code.data());
  return std::min<uint64_t>(site, 0xffff) << kSiteShift |
         static_cast<uint64_t>(w.index * kLanes + lane) << kThreadShift |
         uint64_t{atomic} << kAtomicShift | w.known[w.index];
}

bool Checker::ordered(Access before, const Warp& w, Access now) const {
  if (before == 0 || w.known[thread_of(before) / kLanes] > clock_of(before)) return true;
  return thread_of(before) == thread_of(now) || (is_atomic(before) && is_atomic(now));
}

void Checker::race(const Warp& w, const Instruction& in, int lane, const char* kind, size_t at,
                   Access before) const {
  const Instruction& other = block_->program->code[before >> kSiteShift];
  fail(w, in, lane,
       std::string(kind) + " on shared byte " + std::to_string(at) + ": thread " +
           std::to_string(thread_of(before)) + " at " + block_->program->describe(other) +
           ", then thread " + std::to_string(w.index * kLanes + lane) +
           ", with no barrier between");
}

void Checker::note_read(Granule& g, const Warp& w, Access now) {
  // Two readers suffice: whoever writes without a barrier differs from one of them.
  if (ordered(g.reader[0], w, now)) {
    g.reader[0] = now;
    return;
  }
  Access& second = g.reader[1];
  const int first_warp = thread_of(g.reader[0]) / kLanes;
  if (ordered(second, w, now) ||
      (thread_of(second) / kLanes == first_warp && w.index != first_warp))
    second = now;
}

void Checker::touch(Warp& w, const Instruction& in, int lane, uint64_t at, int bytes, Use use) {
  const Access now = stamp(w, in, lane, use == Use::kAtomic);
  const size_t last = (at + static_cast<size_t>(bytes) - 1) / granule_;
  for (size_t i = at / granule_; i <= last; ++i) {
    Granule& g = granules_[i];
    if (pending_[i]) fail(w, in, lane, "touches shared memory that a cp.async is still writing");
    if (!ordered(g.writer, w, now))
      race(w, in, lane, use == Use::kRead ? "read after write" : "write after write", i * granule_,
           g.writer);
    if (use == Use::kRead) {
      if (g.writer == 0)
        fail(w, in, lane,
             "reads shared memory that nobody wrote, byte " + std::to_string(i * granule_));
      note_read(g, w, now);
      continue;
    }
    for (const Access r : g.reader)
      if (!ordered(r, w, now)) race(w, in, lane, "write after read", i * granule_, r);
    if (use == Use::kAtomic && g.writer == 0)
      fail(w, in, lane,
           "reads shared memory that nobody wrote, byte " + std::to_string(i * granule_));
    // A thread's own plain write is not made atomic by what it does next.
    const bool keep = use == Use::kAtomic && thread_of(g.writer) == thread_of(now) &&
                      clock_of(g.writer) == clock_of(now) && !is_atomic(g.writer);
    if (!keep) g.writer = now;
  }
}

void Checker::shared(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                     Use use) {
  for (int l = 0; l < kLanes; ++l)
    if (lanes >> l & 1) touch(w, in, l, at[l], bytes, use);
}

void Checker::copy_issued(Warp& w, const Instruction& in, int lane, uint64_t to, int bytes) {
  touch(w, in, lane, to, bytes, Use::kWrite);  // it may land at once ...
  for (size_t i = to / granule_; i * granule_ < to + static_cast<size_t>(bytes); ++i)
    pending_[i] = 1;
}

void Checker::copy_landed(Warp& w, const Instruction& in, int lane, uint64_t to, int bytes) {
  for (size_t i = to / granule_; i * granule_ < to + static_cast<size_t>(bytes); ++i)
    pending_[i] = 0;
  touch(w, in, lane, to, bytes, Use::kWrite);  // ... or as late as its wait
}

void Checker::global(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                     Use use) {
  if (use == Use::kAtomic) return;
  DeviceMemory& memory = DeviceMemory::instance();
  const uint32_t me = block_->serial;
  for (int l = 0; l < kLanes; ++l) {
    if (!(lanes >> l & 1)) continue;
    GlobalShadow* shadow = memory.shadow(at[l]);
    const GlobalShadow* end = memory.shadow(at[l] + static_cast<uint64_t>(bytes) - 1) + 1;
    const bool too_early = programmatic_ && !(w.waited_lanes >> l & 1);
    for (; shadow != end; ++shadow) {
      if (too_early &&
          ((shadow->writer >= unfinished_ && shadow->writer < first_block_) ||
           (use == Use::kWrite && shadow->reader >= unfinished_ && shadow->reader < first_block_)))
        fail(w, in, l, "touches, before griddepcontrol.wait, what the kernel before works on");
      if (shadow->writer >= first_block_ && shadow->writer != me &&
          !acquired_.count(shadow->writer))
        fail(w, in, l,
             use == Use::kRead ? "reads what another block of this launch wrote"
                               : "two blocks write the same global bytes");
      if (use == Use::kRead) {
        shadow->reader = me;
      } else {
        if (shadow->reader >= first_block_ && shadow->reader != me &&
            !acquired_.count(shadow->reader))
          fail(w, in, l, "writes what another block of this launch reads");
        shadow->writer = me;
      }
    }
  }
}

void Checker::ordering_atomic(uint64_t at) {
  auto& blocks = released_[at];
  acquired_.insert(blocks.begin(), blocks.end());
  if (std::find(blocks.begin(), blocks.end(), block_->serial) == blocks.end())
    blocks.push_back(block_->serial);
}

}  // namespace qvl::sim
