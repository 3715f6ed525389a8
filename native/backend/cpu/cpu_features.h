#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qvl {

/// What this processor, and this process on it, may use.
struct CpuFeatures {
  std::string name;                           // "AMD EPYC 9B45 128-Core Processor"
  std::vector<std::string> instruction_sets;  // see kernels::processor_features()
  int physical_cores = 1;                     // usable ones: see usable_physical_cores()
};

/// Asks the processor and the system. Costs some file reads; the result does not change while the
/// process runs unless its affinity or its cgroup does.
CpuFeatures detect_cpu_features();

/// Physical cores this process may use: the processors of its affinity mask, SMT siblings counted
/// once, but not more than its cgroup's (v1 or v2) CPU quota, rounded down; at least 1.
int usable_physical_cores();

/// Bytes that can still be had without swapping: the system's available memory, or what is left of
/// the cgroup's limit where that is less. 0 when unknown.
uint64_t available_memory_bytes();

namespace detail {

// The parts that read /proc and /sys, with the root as an argument for the tests.

/// Number of physical cores among the processors `cpus`.
int count_physical_cores(const std::string& root, const std::vector<int>& cpus);
/// CPU quota in cores, the least of the process's cgroup and its ancestors; 0 = unlimited.
double cgroup_cpu_quota(const std::string& root);
/// See available_memory_bytes().
uint64_t available_memory(const std::string& root);

}  // namespace detail
}  // namespace qvl
