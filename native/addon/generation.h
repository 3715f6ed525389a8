#pragma once

#include <napi.h>

#include <memory>

#include "addon/model_handle.h"

namespace qvl::addon {

/// generate(request, onEvent): submits to the engine and returns `{ cancel() }`. Throws what the
/// engine refuses. `onEvent` is called on the JavaScript thread with each event, the last one of
/// which is 'finish' or 'error'; until then the process is kept alive.
Napi::Value start_generation(const Napi::CallbackInfo& info,
                             const std::shared_ptr<ModelHandle>& model);

}  // namespace qvl::addon
