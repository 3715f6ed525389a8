#pragma once

#include <napi.h>

namespace qvl::addon {

/// limitNames(): string[].
Napi::Value limit_names(Napi::Env env);
/// measureGpuCopy(ordinal, seconds): Promise<number>, bytes read and written a second.
Napi::Value measure_gpu_copy(const Napi::CallbackInfo& info);
/// measureLimit(name, threads, seconds): Promise<number>, measured on a thread of its own.
Napi::Value measure_limit(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
