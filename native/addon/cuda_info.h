#pragma once

#include <napi.h>

namespace qvl::addon {

/// cudaInfo(ordinal?): a promise of what there is of CUDA. Off the JavaScript thread, as starting a
/// device takes a while.
Napi::Value cuda_info(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
