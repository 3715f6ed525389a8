#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "machine.h"

namespace qvl::sim {

/// Appends one line of JSON about a launch to `file`; its fields are described in
/// test/cuda/README.md.
void write_report(const std::string& file, const Launch& launch,
                  const std::vector<SiteCounters>& counters, uint64_t touched_sectors);

/// Appends a line about a copy between host and device, where `file` has a name. `direction` is
/// "to_host" or "to_device".
void write_copy(const std::string& file, const char* direction, uint64_t bytes);

}  // namespace qvl::sim
