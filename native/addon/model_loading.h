#pragma once

#include <napi.h>

namespace qvl::addon {

/// loadModel(options, onProgress?): returns `{ promise, cancel() }`. Loading has a thread of its
/// own: it takes too long for libuv's pool, whose threads others need.
Napi::Value start_loading(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
