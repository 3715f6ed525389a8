#pragma once

#include <string>
#include <vector>

#include "machine.h"

namespace qvl::sim {

/// Appends one line of JSON about a launch to `file`; its fields are described in
/// test/cuda/README.md.
void write_report(const std::string& file, const Launch& launch,
                  const std::vector<SiteCounters>& counters, uint64_t touched_sectors);

}  // namespace qvl::sim
