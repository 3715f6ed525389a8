#pragma once

#include <napi.h>

namespace qvl::addon {

/// limitNames(): string[].
Napi::Value limit_names(Napi::Env env);
/// measureLimit(name, threads, seconds): Promise<number>, measured on a thread of its own.
Napi::Value measure_limit(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
