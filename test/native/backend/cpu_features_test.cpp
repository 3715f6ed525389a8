#include "backend/cpu/cpu_features.h"

#include <filesystem>
#include <fstream>
#include <random>

#include "check.h"
#include "kernels/cpu/processor.h"

namespace qvl {

namespace fs = std::filesystem;

// A made-up /proc and /sys.
class SystemFiles {
 public:
  SystemFiles() {
    root_ =
        fs::temp_directory_path() / ("qvl-cpu-features-" + std::to_string(std::random_device{}()));
    fs::create_directories(root_);
  }
  ~SystemFiles() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  SystemFiles(const SystemFiles&) = delete;
  SystemFiles& operator=(const SystemFiles&) = delete;

  SystemFiles& write(const std::string& path, const std::string& text) {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
    return *this;
  }
  SystemFiles& write_cpu(int cpu, int package, int core) {
    const std::string topology = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    return write(topology + "physical_package_id", std::to_string(package))
        .write(topology + "core_id", std::to_string(core));
  }
  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

TEST(smt_siblings_are_one_core) {
  SystemFiles files;
  // Two packages of two cores with two threads each; core ids repeat over packages.
  for (int cpu = 0; cpu < 8; ++cpu) files.write_cpu(cpu, cpu / 2 % 2, cpu % 2);
  CHECK_EQ(detail::count_physical_cores(files.root(), {0, 1, 2, 3, 4, 5, 6, 7}), 4);
  CHECK_EQ(detail::count_physical_cores(files.root(), {0, 4}), 1);
  CHECK_EQ(detail::count_physical_cores(files.root(), {0, 1, 2}), 3);
}

TEST(processors_without_topology_count_each) {
  SystemFiles files;
  files.write_cpu(0, 0, 0).write_cpu(1, 0, 0);
  CHECK_EQ(detail::count_physical_cores(files.root(), {0, 1, 8, 9}), 3);
}

TEST(cgroup_v2_quota_is_the_least_of_the_group_and_its_ancestors) {
  SystemFiles files;
  files.write("proc/self/cgroup", "0::/pod/container")
      .write("sys/fs/cgroup/pod/container/cpu.max", "max 100000")
      .write("sys/fs/cgroup/pod/cpu.max", "250000 100000");
  CHECK_EQ(detail::cgroup_cpu_quota(files.root()), 2.5);
  files.write("sys/fs/cgroup/pod/container/cpu.max", "50000 100000");
  CHECK_EQ(detail::cgroup_cpu_quota(files.root()), 0.5);
}

TEST(a_container_that_sees_only_its_own_cgroup_finds_the_quota_at_the_mount) {
  SystemFiles files;
  files.write("proc/self/cgroup", "0::/../../outside")
      .write("sys/fs/cgroup/cpu.max", "300000 100000");
  CHECK_EQ(detail::cgroup_cpu_quota(files.root()), 3.0);
}

TEST(cgroup_v1_quota_is_found_by_its_controller) {
  SystemFiles files;
  files
      .write("proc/self/cgroup",
             "5:cpuset:/a\n4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/ignored")
      .write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "400000")
      .write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "200000");
  CHECK_EQ(detail::cgroup_cpu_quota(files.root()), 2.0);
  files.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1");
  CHECK_EQ(detail::cgroup_cpu_quota(files.root()), 0.0);
}

TEST(no_cgroup_or_nonsense_in_it_is_no_limit) {
  const SystemFiles empty;
  CHECK_EQ(detail::cgroup_cpu_quota(empty.root()), 0.0);
  CHECK_EQ(detail::available_memory(empty.root()), 0u);
  SystemFiles odd;
  odd.write("proc/self/cgroup", "nonsense\n0::/x\n:::")
      .write("sys/fs/cgroup/x/cpu.max", "a lot")
      .write("sys/fs/cgroup/x/memory.max", "max")
      .write("sys/fs/cgroup/x/memory.current", "7");
  CHECK_EQ(detail::cgroup_cpu_quota(odd.root()), 0.0);
  CHECK_EQ(detail::available_memory(odd.root()), 0u);
}

TEST(available_memory_is_the_systems_or_what_the_cgroup_leaves) {
  SystemFiles files;
  files.write("proc/meminfo", "MemTotal:  8000 kB\nMemFree: 10 kB\nMemAvailable:   5000 kB");
  CHECK_EQ(detail::available_memory(files.root()), 5000u * 1024);
  files.write("proc/self/cgroup", "0::/c")
      .write("sys/fs/cgroup/c/memory.max", "3000000")
      .write("sys/fs/cgroup/c/memory.current", "2500000");
  CHECK_EQ(detail::available_memory(files.root()), 500000u);
  // Page cache that was not used lately is as good as free.
  files.write("sys/fs/cgroup/c/memory.stat", "anon 1000000\ninactive_file 1500000");
  CHECK_EQ(detail::available_memory(files.root()), 2000000u);
}

TEST(cgroup_v1_memory_limits_count_too) {
  SystemFiles files;
  files.write("proc/meminfo", "MemAvailable: 100000 kB")
      .write("proc/self/cgroup", "2:memory:/c")
      .write("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "9000")
      .write("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "8000")
      .write("sys/fs/cgroup/memory/c/memory.stat", "total_inactive_file 500");
  CHECK_EQ(detail::available_memory(files.root()), 1500u);
}

TEST(this_machine_is_described) {
  const CpuFeatures features = detect_cpu_features();
  CHECK(!features.name.empty());
  CHECK(features.physical_cores >= 1);
  CHECK_EQ(features.physical_cores, usable_physical_cores());
  CHECK(features.instruction_sets == kernels::processor_features());
#if defined(__linux__)
  CHECK(available_memory_bytes() > 0);
#endif
}

}  // namespace qvl
