#include "addon/cpu_info.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "common/error.h"

namespace qvl::addon {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

/// The number that follows `key` in a file of "key number" lines; kUnknown when there is none.
uint64_t read_field(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    try {
      return std::stoull(line.substr(key.size()));
    } catch (const std::exception&) {
      return kUnknown;
    }
  }
  return kUnknown;
}

/// What the control group of the process leaves: its limit less what is used and not mere cache.
uint64_t cgroup_memory(const char* limit_path, const char* usage_path, const char* stat_path) {
  const uint64_t limit = read_field(limit_path, "");  // "max" is no number: no limit
  const uint64_t usage = read_field(usage_path, "");
  if (limit == kUnknown || usage == kUnknown) return kUnknown;
  const uint64_t cache = read_field(stat_path, "inactive_file ");
  const uint64_t used = cache == kUnknown ? usage : usage - std::min(usage, cache);
  return limit - std::min(limit, used);
}

uint64_t available_memory() {
  const uint64_t kibibytes = read_field("/proc/meminfo", "MemAvailable:");
  uint64_t available = kibibytes == kUnknown ? kUnknown : kibibytes * 1024;
  available = std::min(available,
                       cgroup_memory("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                                     "/sys/fs/cgroup/memory.stat"));
  available = std::min(available, cgroup_memory("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                                "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                                                "/sys/fs/cgroup/memory/memory.stat"));
  return available == kUnknown ? 0 : available;
}

bool is_offered(const char* instruction_set) {
  try {
    create_cpu_backend({/*threads=*/1, instruction_set});
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Napi::Object cpu_info(Napi::Env env) {
  const auto backend = create_cpu_backend({});
  Napi::Array sets = Napi::Array::New(env);
  for (const char* name : {"scalar", "avx2"}) {
    if (is_offered(name)) sets.Set(sets.Length(), name);
  }
  Napi::Object info = Napi::Object::New(env);
  info.Set("name", backend->device().name);
  info.Set("instructionSets", sets);
  info.Set("physicalCores", backend->device().threads);
  info.Set("availableMemoryBytes", static_cast<double>(available_memory()));
  return info;
}

}  // namespace qvl::addon
