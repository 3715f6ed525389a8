#pragma once

namespace qvl::sim {

/// Instruction::variant of a conversion.
enum Rounding : unsigned char {
  kNearest,
  kZero,
  kDown,
  kUp,
  kNearestInteger,
  kZeroInteger,
  kDownInteger,
  kUpInteger
};

}  // namespace qvl::sim
