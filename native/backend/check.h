#pragma once

// What the backends check of their callers.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "common/error.h"

namespace qvl {

/// Throws Error(ERR_INTERNAL) when `condition` is false: a caller broke the interface.
inline void require(bool condition, const char* what) {
  if (!condition) {
    throw Error("ERR_INTERNAL", std::string("The backend was called wrongly: ") + what);
  }
}

/// a * b, sizes that a file or a caller gave. Throws Error(ERR_OUT_OF_MEMORY) where no memory is as
/// large.
inline size_t checked_bytes(int64_t a, int64_t b) {
  constexpr int64_t limit = std::numeric_limits<int64_t>::max();
  if (a < 0 || b < 0 || (b != 0 && a > limit / b)) {
    throw Error("ERR_OUT_OF_MEMORY",
                "A size of " + std::to_string(a) + " x " + std::to_string(b) +
                    " bytes is more than a process can address.",
                {{"required_bytes", limit}});
  }
  return static_cast<size_t>(a * b);
}

}  // namespace qvl
