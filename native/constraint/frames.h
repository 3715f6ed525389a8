#pragma once

// Stacks of the pushdown automaton. A frame is the set of places to which a rule may return, each
// with the frame of its own rule: all stacks of an ambiguous text in one graph without cycles.
// Equal sets are one frame, so that a state of the automaton is found again by its number.

#include <cstdint>
#include <span>
#include <vector>

#include "constraint/intern_table.h"
#include "constraint/program.h"

namespace qvl {

using FrameId = uint32_t;

/// Where a rule returns to when it has matched.
struct ReturnPoint {
  NodeId node = 0;
  uint32_t count = 0;  // at a repetition: matches by then, those that make a difference
  FrameId frame = 0;

  auto operator<=>(const ReturnPoint&) const = default;
};

class FrameTable {
 public:
  /// `horizon`: the most bytes that are ever looked ahead.
  FrameTable(const Program* program, uint32_t horizon);

  /// The frame of these return points, in any order, equal ones among them.
  FrameId intern(std::vector<ReturnPoint>& points);
  std::span<const ReturnPoint> points(FrameId frame) const;
  /// How many returns lead out of the grammar, at most.
  uint32_t depth(FrameId frame) const { return frames_[frame].depth; }
  /// A frame that nothing within the horizon tells from this one; the same for as many as possible.
  FrameId canonical(FrameId frame) const { return frames_[frame].canonical; }
  /// The count of a repetition after one more match.
  static uint32_t next_count(const Action& repeat, uint32_t count);

  size_t size() const { return frames_.size(); }
  size_t size_bytes() const;

 private:
  struct Frame {
    uint32_t first = 0, count = 0;  // points
    uint32_t depth = 0;
    FrameId canonical = 0;
  };

  void normalize(std::vector<ReturnPoint>& points) const;
  uint32_t canonical_count(const ReturnPoint& point) const;
  FrameId find(std::span<const ReturnPoint> points, uint64_t hash) const;
  FrameId add(std::span<const ReturnPoint> points, uint64_t hash, FrameId canonical);

  const Program* program_;
  uint32_t horizon_;
  std::vector<ReturnPoint> points_;
  std::vector<Frame> frames_;  // a frame refers to earlier ones only
  InternTable table_;
};

}  // namespace qvl
