#include "checker.h"

#include <algorithm>

namespace qvl::sim {
namespace {

// An Access: site 16 | thread 10 | atomic 1 | clock of the thread's warp 37.
constexpr int kSiteShift = 48, kThreadShift = 38, kAtomicShift = 37;

// A writer_detail: thread 10 | clock of its warp 22.
constexpr int kDetailClockBits = 22;
constexpr uint32_t kDetailClockMask = (1u << kDetailClockBits) - 1;

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
  acquired_.assign(block.warps.size(), Knowledge{});
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

void Checker::merge(View& to, const View& from) {
  for (int v = 0; v < 32; ++v) to.known[v] = std::max(to.known[v], from.known[v]);
  for (const uint32_t thread : from.threads)
    if (std::find(to.threads.begin(), to.threads.end(), thread) == to.threads.end())
      to.threads.push_back(thread);
}

void Checker::merge(Knowledge& to, const Knowledge& from) {
  for (const auto& [serial, view] : from) merge(to[serial], view);
}

bool Checker::knows(const Warp& w, uint32_t serial) const {
  return acquired_[static_cast<size_t>(w.index)].count(serial) != 0;
}

bool Checker::comes_after(const Warp& w, int lane, uint32_t serial, uint32_t detail) const {
  const int thread = static_cast<int>(detail >> kDetailClockBits), warp = thread / kLanes;
  const uint32_t clock = detail & kDetailClockMask;
  if (serial == block_->serial && (thread == w.index * kLanes + lane || w.known[warp] > clock))
    return true;
  const Knowledge& acquired = acquired_[static_cast<size_t>(w.index)];
  const auto it = acquired.find(serial);
  if (it == acquired.end()) return false;
  const View& view = it->second;
  return view.known[warp] > clock ||
         std::find(view.threads.begin(), view.threads.end(), detail) != view.threads.end();
}

void Checker::global_word(const Warp& w, const Instruction& in, int lane, GlobalShadow& word,
                          uint32_t& detail, bool is_read) {
  const uint32_t me = block_->serial;
  const auto unfinished = [&](uint32_t serial) {
    return serial >= unfinished_ && serial < first_block_;
  };
  if (programmatic_ && !(w.waited_lanes >> lane & 1) &&
      (unfinished(word.writer) || (!is_read && unfinished(word.reader))))
    fail(w, in, lane, "touches, before griddepcontrol.wait, what the kernel before works on");
  if (word.writer >= first_block_ && !comes_after(w, lane, word.writer, detail)) {
    if (word.writer == me)
      fail(w, in, lane,
           std::string(is_read ? "reads" : "writes") + " the global bytes that thread " +
               std::to_string(detail >> kDetailClockBits) +
               " of its block wrote, with no barrier between");
    fail(w, in, lane,
         is_read ? "reads what another block of this launch wrote"
                 : "two blocks write the same global bytes");
  }
  if (is_read) {
    word.reader = me;
    return;
  }
  if (word.reader >= first_block_ && word.reader != me && !knows(w, word.reader))
    fail(w, in, lane, "writes what another block of this launch reads");
  word.writer = me;
  detail = static_cast<uint32_t>(w.index * kLanes + lane) << kDetailClockBits |
           (w.known[w.index] & kDetailClockMask);
}

void Checker::global(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                     Use use) {
  if (use == Use::kAtomic) return;
  const DeviceMemory& memory = DeviceMemory::instance();
  for (int l = 0; l < kLanes; ++l) {
    if (!(lanes >> l & 1)) continue;
    GlobalShadow* word = memory.shadow(at[l]);
    uint32_t* detail = memory.writer_detail(at[l]);
    const GlobalShadow* end = memory.shadow(at[l] + static_cast<uint64_t>(bytes) - 1) + 1;
    for (; word != end; ++word, ++detail) {
      // Most often: read what no kernel has written, or what this block reads again.
      if (use == Use::kRead && word->writer < unfinished_) {
        word->reader = block_->serial;
      } else {
        global_word(w, in, l, *word, *detail, use == Use::kRead);
      }
    }
  }
}

void Checker::ordering_atomic(const Warp& w, int lane, uint64_t at) {
  Knowledge& released = released_[at];
  Knowledge& acquired = acquired_[static_cast<size_t>(w.index)];
  merge(acquired, released);
  released = acquired;
  View mine;
  std::copy(std::begin(w.known), std::end(w.known), mine.known);
  mine.threads.push_back(static_cast<uint32_t>(w.index * kLanes + lane) << kDetailClockBits |
                         (w.known[w.index] & kDetailClockMask));
  merge(released[block_->serial], mine);
}

void Checker::joined(const std::vector<Warp*>& warps) {
  Knowledge all;
  for (const Warp* w : warps) merge(all, acquired_[static_cast<size_t>(w->index)]);
  if (all.empty()) return;
  for (const Warp* w : warps) acquired_[static_cast<size_t>(w->index)] = all;
}

}  // namespace qvl::sim
