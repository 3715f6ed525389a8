// Blocks that a multiprocessor holds at once, by the rules of the toolkit's cuda_occupancy.h.
//
// Input lines: <compute capability> <registers> <static shared bytes> <threads> <dynamic shared
// bytes>. Output lines: <blocks> <what limits them>.

#include <cuda_occupancy.h>

#include <climits>
#include <cstdio>
#include <string>

namespace {

/// What cuda_occupancy.h does not know of an architecture; from the programming guide's table of
/// compute capabilities.
struct Architecture {
  int capability;
  int threads;
  int shared_kib;  // of a multiprocessor
};
constexpr Architecture kArchitectures[] = {{80, 2048, 164}, {86, 1536, 100},  {89, 1536, 100},
                                           {90, 2048, 228}, {100, 2048, 228}, {120, 1536, 100}};

cudaOccDeviceProp properties_of(const Architecture& arch) {
  constexpr size_t kReserved = 1024;  // of every block
  cudaOccDeviceProp device;
  device.computeMajor = arch.capability / 10;
  device.computeMinor = arch.capability % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = arch.threads;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 << 10;
  device.sharedMemPerMultiprocessor = static_cast<size_t>(arch.shared_kib) << 10;
  device.numSms = 1;
  device.reservedSharedMemPerBlock = kReserved;
  device.sharedMemPerBlockOptin = device.sharedMemPerMultiprocessor - kReserved;
  return device;
}

std::string limits_of(unsigned factors) {
  std::string text;
  const auto add = [&](unsigned factor, const char* name) {
    if (!(factors & factor)) return;
    if (!text.empty()) text += ',';
    text += name;
  };
  add(OCC_LIMIT_WARPS, "warps");
  add(OCC_LIMIT_REGISTERS, "registers");
  add(OCC_LIMIT_SHARED_MEMORY, "shared");
  add(OCC_LIMIT_BLOCKS, "blocks");
  return text;
}

}  // namespace

int main() {
  int capability, registers, threads;
  size_t static_shared, dynamic_shared;
  while (std::scanf("%d %d %zu %d %zu", &capability, &registers, &static_shared, &threads,
                    &dynamic_shared) == 5) {
    const Architecture* found = nullptr;
    for (const Architecture& arch : kArchitectures) {
      if (arch.capability == capability) found = &arch;
    }
    if (!found) {
      std::fprintf(stderr, "kernel_occupancy: nothing is known of compute capability %d\n",
                   capability);
      return 1;
    }
    cudaOccDeviceProp device = properties_of(*found);
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = INT_MAX;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = static_shared;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin;
    kernel.numBlockBarriers = 1;
    cudaOccDeviceState state;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads,
                                                dynamic_shared) != CUDA_OCC_SUCCESS) {
      std::fprintf(stderr,
                   "kernel_occupancy: cuda_occupancy.h rejects sm_%d, %d registers, %d threads\n",
                   capability, registers, threads);
      return 1;
    }
    std::printf("%d %s\n", result.activeBlocksPerMultiprocessor,
                limits_of(result.limitingFactors).c_str());
  }
  return 0;
}
