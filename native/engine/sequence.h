#pragma once

#include <cstdint>
#include <vector>

#include "engine/prefix_cache.h"

namespace qvl {

/// kWaiting -> (kVision) -> kPrefill -> kDecode -> kFinished; a preempted sequence goes back to
/// kWaiting.
enum class SequencePhase : uint8_t { kWaiting, kVision, kPrefill, kDecode, kFinished };

/// What the scheduler knows of a request: counts and blocks; no tensors, and tokens only as the
/// contents by which blocks are found.
struct Sequence {
  virtual ~Sequence() = default;
  /// Of its known tokens [block_tokens * index, block_tokens * (index + 1)).
  virtual BlockContent block_content(int64_t index) const = 0;

  uint64_t id = 0;
  int64_t num_tokens = 0;   // prompt plus answer so far
  int32_t priority = 0;     // higher runs first
  int64_t max_cached = 0;   // the most tokens it can ever have in the KV cache
  bool uses_cache = false;  // its blocks may come from the prefix cache, and go there
  /// Its tokens before this one, where they are not in the KV cache, need visual items that it does
  /// not have yet; 0 = none.
  int64_t vision_end = 0;
  /// Guessed tokens behind the last known one that its next step may verify.
  int64_t num_draft = 0;

  // Set by the scheduler.
  SequencePhase phase = SequencePhase::kWaiting;
  int64_t num_cached = 0;       // its tokens in the KV cache
  std::vector<int32_t> blocks;  // block table
};

}  // namespace qvl
