#pragma once

#include <cstdint>
#include <vector>

namespace qvl {

/// kWaiting -> (kVision) -> kPrefill -> kDecode -> kFinished; a preempted sequence goes back to
/// kWaiting.
enum class SequencePhase : uint8_t { kWaiting, kVision, kPrefill, kDecode, kFinished };

/// What the scheduler knows of a request: counts and blocks, no tokens and no tensors.
struct Sequence {
  uint64_t id = 0;
  int64_t num_tokens = 0;     // prompt plus answer so far
  int64_t max_cached = 0;     // the most tokens it can ever have in the KV cache
  bool needs_vision = false;  // it has visual items that are not encoded yet

  // Set by the scheduler.
  SequencePhase phase = SequencePhase::kWaiting;
  int64_t num_cached = 0;       // its tokens in the KV cache
  std::vector<int32_t> blocks;  // block table
};

}  // namespace qvl
