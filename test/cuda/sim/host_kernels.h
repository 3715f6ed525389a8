#pragma once

// Launches of kernels that the host's compiler made (test/cuda/emulation), in place of their PTX.

#include <string>

#include "machine.h"

namespace qvl::sim {

/// Whether QWEN2_VL_SIM_HOST_KERNELS names a library with them. Device memory then lies where its
/// addresses say, as such kernels follow them.
bool uses_host_kernels();

/// Runs the launch's kernel of that library. Throws KernelError.
void run_host_launch(const Launch& launch, const Options& options);

}  // namespace qvl::sim
