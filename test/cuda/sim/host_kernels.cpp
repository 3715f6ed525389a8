#include "host_kernels.h"

#include <dlfcn.h>

#include <cstdlib>

#include "emulation/launch.h"
#include "error.h"

namespace qvl::sim {
namespace {

const char* library_path() { return std::getenv("QWEN2_VL_SIM_HOST_KERNELS"); }

emulation::Emulate find_emulate() {
  void* const library = dlopen(library_path(), RTLD_NOW | RTLD_LOCAL);
  void* const symbol = library == nullptr ? nullptr : dlsym(library, "qvl_emulate");
  if (symbol == nullptr) {
    const char* const error = dlerror();
    throw KernelError(std::string("QWEN2_VL_SIM_HOST_KERNELS: ") +
                      (error != nullptr ? error : "no such library"));
  }
  return reinterpret_cast<emulation::Emulate>(symbol);
}

}  // namespace

bool uses_host_kernels() { return library_path() != nullptr; }

void run_host_launch(const Launch& launch, const Options& options) {
  static const emulation::Emulate emulate = find_emulate();
  const emulation::HostLaunch host{launch.program->name.c_str(),
                                   {launch.grid[0], launch.grid[1], launch.grid[2]},
                                   {launch.block[0], launch.block[1], launch.block[2]},
                                   launch.shared_bytes,
                                   launch.parameters.data(),
                                   launch.parameters.size(),
                                   options.order == Order::kForward   ? emulation::Order::kForward
                                   : options.order == Order::kReverse ? emulation::Order::kReverse
                                                                      : emulation::Order::kRandom,
                                   options.copies_early,
                                   options.seed};
  if (const char* const error = emulate(&host)) throw KernelError(error);
}

}  // namespace qvl::sim
