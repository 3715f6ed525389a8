#include "constraint/frames.h"

#include <algorithm>

namespace qvl {
namespace {

uint64_t hash_of(std::span<const ReturnPoint> points) {
  uint64_t hash = points.size();
  for (const ReturnPoint& point : points) {
    hash = mix_hash(mix_hash(hash, (uint64_t{point.node} << 32) | point.count), point.frame);
  }
  return hash;
}

const Action* repeat_at(const Program& program, NodeId node) {
  const auto actions = program.actions(node);
  const bool is_repeat = actions.size() == 1 && actions[0].kind == ActionKind::kRepeat;
  return is_repeat ? &actions[0] : nullptr;
}

}  // namespace

FrameTable::FrameTable(const Program* program, uint32_t horizon)
    : program_(program), horizon_(horizon) {}

std::span<const ReturnPoint> FrameTable::points(FrameId frame) const {
  return std::span(points_).subspan(frames_[frame].first, frames_[frame].count);
}

uint32_t FrameTable::next_count(const Action& repeat, uint32_t count) {
  // Without a bound, only what is still missing counts.
  return repeat.max == kUnbounded && count >= repeat.min ? repeat.min : count + 1;
}

/// Each match of a repetition takes a byte at least: a bound that is farther away than the horizon
/// may as well be much farther.
uint32_t FrameTable::canonical_count(const ReturnPoint& point) const {
  const Action* repeat = repeat_at(*program_, point.node);
  if (repeat == nullptr) return point.count;
  if (point.count < repeat->min && repeat->min - point.count > horizon_) return 0;
  const bool is_last_far = repeat->max == kUnbounded || repeat->max - point.count > horizon_;
  return point.count >= repeat->min && is_last_far ? repeat->min : point.count;
}

/// Sorts, and leaves out what others make superfluous: of counts from which a repetition may end,
/// the smallest allows all that the others do.
void FrameTable::normalize(std::vector<ReturnPoint>& points) const {
  std::sort(points.begin(), points.end(), [](const ReturnPoint& a, const ReturnPoint& b) {
    if (a.node != b.node) return a.node < b.node;
    return a.frame != b.frame ? a.frame < b.frame : a.count < b.count;
  });
  size_t kept = 0;
  for (const ReturnPoint& point : points) {
    if (kept > 0 && points[kept - 1].node == point.node && points[kept - 1].frame == point.frame) {
      const uint32_t count = points[kept - 1].count;
      const Action* repeat = repeat_at(*program_, point.node);
      if (count == point.count || (repeat != nullptr && count >= repeat->min)) continue;
    }
    points[kept++] = point;
  }
  points.resize(kept);
}

FrameId FrameTable::find(std::span<const ReturnPoint> points, uint64_t hash) const {
  return table_.find(
      hash, [&](uint32_t frame) { return std::ranges::equal(this->points(frame), points); });
}

FrameId FrameTable::add(std::span<const ReturnPoint> points, uint64_t hash, FrameId canonical) {
  const auto id = static_cast<FrameId>(frames_.size());
  uint32_t depth = 0;
  for (const ReturnPoint& point : points) {
    if (point.node != kAcceptNode) depth = std::max(depth, frames_[point.frame].depth + 1);
  }
  frames_.push_back({static_cast<uint32_t>(points_.size()), static_cast<uint32_t>(points.size()),
                     depth, canonical == InternTable::kNone ? id : canonical});
  points_.insert(points_.end(), points.begin(), points.end());
  table_.insert(hash, id);
  return id;
}

FrameId FrameTable::intern(std::vector<ReturnPoint>& points) {
  normalize(points);
  const uint64_t hash = hash_of(points);
  const FrameId known = find(points, hash);
  if (known != InternTable::kNone) return known;

  std::vector<ReturnPoint> canonical = points;
  for (ReturnPoint& point : canonical) {
    point.count = canonical_count(point);
    if (point.node != kAcceptNode) point.frame = frames_[point.frame].canonical;
  }
  normalize(canonical);
  if (canonical == points) return add(points, hash, InternTable::kNone);
  const uint64_t canonical_hash = hash_of(canonical);
  FrameId representative = find(canonical, canonical_hash);
  if (representative == InternTable::kNone) {
    representative = add(canonical, canonical_hash, InternTable::kNone);
  }
  return add(points, hash, representative);
}

size_t FrameTable::size_bytes() const {
  return points_.size() * sizeof(ReturnPoint) + frames_.size() * sizeof(Frame) +
         table_.size_bytes();
}

}  // namespace qvl
