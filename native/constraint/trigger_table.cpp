#include "constraint/trigger_table.h"

namespace qvl {

TriggerTable build_trigger_table(std::span<const std::string> triggers) {
  // 0 stands for "no child" first: no child is the start.
  TriggerTable table;
  table.next.push_back({});
  for (const std::string& trigger : triggers) {
    uint32_t state = 0;
    for (size_t i = 0; i < trigger.size() && state != TriggerTable::kFound; ++i) {
      const uint8_t byte = static_cast<uint8_t>(trigger[i]);
      if (i + 1 == trigger.size()) {
        table.next[state][byte] = TriggerTable::kFound;  // whatever is longer is never reached
      } else if (table.next[state][byte] == 0) {
        const auto child = static_cast<uint32_t>(table.next.size());
        table.next[state][byte] = child;
        table.next.push_back({});
        state = child;
      } else {
        state = table.next[state][byte];
      }
    }
  }
  // In order of length: the fallback of a state is the longest proper suffix of what it has read
  // that begins a trigger. What a state's own children do not take, the fallback takes; and where
  // the fallback finds a trigger, so does the state.
  std::vector<uint32_t> fallback(table.next.size());
  std::vector<uint32_t> queue;
  for (const uint32_t child : table.next[0]) {
    if (child != 0 && child != TriggerTable::kFound) queue.push_back(child);
  }
  for (size_t i = 0; i < queue.size(); ++i) {
    const uint32_t state = queue[i];
    for (size_t byte = 0; byte < 256; ++byte) {
      uint32_t& next = table.next[state][byte];
      const uint32_t beyond = table.next[fallback[state]][byte];
      if (beyond == TriggerTable::kFound) next = beyond;
      if (next == TriggerTable::kFound) continue;
      if (next == 0) {
        next = beyond;
      } else {
        fallback[next] = beyond;
        queue.push_back(next);
      }
    }
  }
  return table;
}

}  // namespace qvl
