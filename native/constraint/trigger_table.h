#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qvl {

/// Finds the first end of any of some strings in a stream of bytes (Aho-Corasick, as a table).
/// State 0 is the start: nothing of a trigger has been read.
struct TriggerTable {
  static constexpr uint32_t kFound = UINT32_MAX;
  std::vector<std::array<uint32_t, 256>> next;  // [states][byte]: a state, or kFound
};

/// None of the strings may be empty.
TriggerTable build_trigger_table(std::span<const std::string> triggers);

}  // namespace qvl
