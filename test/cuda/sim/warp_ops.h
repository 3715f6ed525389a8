#pragma once

namespace qvl::sim {

/// Instruction::variant of shfl and of vote.
enum class ShuffleMode : unsigned char { kButterfly, kIndex, kDown, kUp };
enum class VoteMode : unsigned char { kBallot, kAll, kAny, kUniform };

}  // namespace qvl::sim
