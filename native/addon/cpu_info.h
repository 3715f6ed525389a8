#pragma once

#include <napi.h>

namespace qvl::addon {

/// cpuInfo(): the processor's name, instruction sets, physical cores and the memory to be had.
Napi::Object cpu_info(Napi::Env env);

}  // namespace qvl::addon
