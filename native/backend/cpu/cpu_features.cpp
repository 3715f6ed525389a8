#include "backend/cpu/cpu_features.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "kernels/cpu/processor.h"

#if defined(__x86_64__) || defined(_M_X64)
#define QVL_X86_64 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#endif

namespace qvl {
namespace {

#ifdef QVL_X86_64
std::array<unsigned, 4> cpuid(unsigned leaf) {
  std::array<unsigned, 4> r{};
#if defined(_MSC_VER)
  int out[4];
  __cpuid(out, static_cast<int>(leaf));
  std::memcpy(r.data(), out, sizeof out);
#else
  __cpuid(leaf, r[0], r[1], r[2], r[3]);
#endif
  return r;
}

std::string x86_name() {
  if (cpuid(0x80000000u)[0] < 0x80000004u) return "x86-64";
  std::array<char, 49> text{};
  for (unsigned i = 0; i < 3; ++i) {
    const std::array<unsigned, 4> words = cpuid(0x80000002u + i);
    std::memcpy(text.data() + 16 * i, words.data(), 16);
  }
  std::string name = text.data();
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "x86-64" : name;
}
#endif

std::optional<std::string> read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<double> read_number(const std::string& path) {
  const auto line = read_line(path);
  if (!line) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(line->c_str(), &end);
  if (end == line->c_str()) return std::nullopt;  // "max"
  return value;
}

// The value behind `key` in a file of lines "key value" or "key: value kB".
std::optional<double> read_field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  double value = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    if (words >> word >> value && word == key) return value;
  }
  return std::nullopt;
}

struct Cgroup {
  std::string mount;  // where its hierarchy is mounted
  std::string path;   // inside, "/a/b" or ""
  bool is_v2 = false;

  /// The folders of the group and of its ancestors, innermost first.
  std::vector<std::string> folders() const {
    std::vector<std::string> result;
    std::string rest = path;
    while (true) {
      result.push_back(mount + rest);
      const size_t slash = rest.rfind('/');
      if (slash == std::string::npos) return result;
      rest.resize(slash);
    }
  }
};

// The process's cgroups that have `controller`, of both versions.
std::vector<Cgroup> find_cgroups(const std::string& root, const std::string& controller) {
  std::vector<Cgroup> found;
  const std::string base = root + "/sys/fs/cgroup";
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    // hierarchy-ID:controller,controller:/path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) {
      found.push_back({base, path, true});
      found.push_back({base + "/unified", path, true});
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      found.push_back({base + "/" + controllers, path, false});
      if (controllers != controller) found.push_back({base + "/" + controller, path, false});
    }
  }
  return found;
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  // The kernel's mask may be larger than cpu_set_t: grow until it fits.
  for (int capacity = 1024; capacity <= (1 << 20); capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(capacity);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(capacity);
    const bool ok = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; ok && cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (ok) break;
  }
#endif
  return cpus;
}

}  // namespace

CpuFeatures detect_cpu_features() {
  CpuFeatures features;
  features.instruction_sets = kernels::processor_features();
#if defined(QVL_X86_64)
  features.name = x86_name();
#elif defined(__APPLE__)
  char name[256] = "Apple";
  size_t size = sizeof name;
  sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0);
  features.name = name;
#elif defined(__aarch64__) || defined(_M_ARM64)
  features.name = "AArch64";
#else
  features.name = "unknown";
#endif
  features.physical_cores = usable_physical_cores();
  return features;
}

int usable_physical_cores() {
#if defined(__APPLE__)
  int cores = 0;
  size_t size = sizeof cores;
  if (sysctlbyname("hw.physicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
#endif
  const std::vector<int> cpus = allowed_cpus();
  int cores = cpus.empty() ? static_cast<int>(std::thread::hardware_concurrency())
                           : detail::count_physical_cores("", cpus);
  const double quota = detail::cgroup_cpu_quota("");
  // More threads than the quota has cores would be stopped in the middle of every step.
  if (quota > 0 && quota < cores) cores = static_cast<int>(std::floor(quota));
  return std::max(cores, 1);
}

uint64_t available_memory_bytes() {
#if defined(_WIN32)
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? status.ullAvailPhys : 0;
#elif defined(__APPLE__)
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  return sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) == 0 ? bytes : 0;
#else
  return detail::available_memory("");
#endif
}

namespace detail {

int count_physical_cores(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::pair<double, double>> cores;  // (package, core)
  int unknown = 0;
  for (const int cpu : cpus) {
    const std::string topology =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const auto package = read_number(topology + "physical_package_id");
    const auto core = read_number(topology + "core_id");
    if (package && core) {
      cores.emplace(*package, *core);
    } else {
      ++unknown;
    }
  }
  return static_cast<int>(cores.size()) + unknown;
}

double cgroup_cpu_quota(const std::string& root) {
  double least = std::numeric_limits<double>::infinity();
  const auto take = [&](double quota, double period) {
    if (quota > 0 && period > 0) least = std::min(least, quota / period);
  };
  for (const Cgroup& group : find_cgroups(root, "cpu")) {
    for (const std::string& folder : group.folders()) {
      if (group.is_v2) {
        std::istringstream words(read_line(folder + "/cpu.max").value_or(""));
        double quota = 0;
        double period = 0;
        if (words >> quota >> period) take(quota, period);  // "max 100000" is no number
      } else {
        take(read_number(folder + "/cpu.cfs_quota_us").value_or(0),
             read_number(folder + "/cpu.cfs_period_us").value_or(0));
      }
    }
  }
  return std::isinf(least) ? 0 : least;
}

uint64_t available_memory(const std::string& root) {
  double available = std::numeric_limits<double>::infinity();
  if (const auto free_kib = read_field(root + "/proc/meminfo", "MemAvailable:")) {
    available = *free_kib * 1024;
  }
  for (const Cgroup& group : find_cgroups(root, "memory")) {
    for (const std::string& folder : group.folders()) {
      const char* const limit_file = group.is_v2 ? "/memory.max" : "/memory.limit_in_bytes";
      const char* const usage_file = group.is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
      const char* const cache_key = group.is_v2 ? "inactive_file" : "total_inactive_file";
      const auto limit = read_number(folder + limit_file);
      const auto usage = read_number(folder + usage_file);
      if (!limit || !usage) continue;
      // Page cache that was not used lately is given up before anything fails.
      const double cache = read_field(folder + "/memory.stat", cache_key).value_or(0);
      available = std::min(available, std::max(0.0, *limit - std::max(0.0, *usage - cache)));
    }
  }
  return std::isinf(available) ? 0 : static_cast<uint64_t>(available);
}

}  // namespace detail
}  // namespace qvl
