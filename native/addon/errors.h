#pragma once

// Turns the core's exceptions into JavaScript errors with `code` and `details`.

#include <napi.h>

#include <exception>
#include <utility>

namespace qvl::addon {

/// The JavaScript error of an exception: qvl::Error keeps its code and details (snake_case keys
/// become camelCase), Cancelled is ERR_ABORTED, bad_alloc ERR_OUT_OF_MEMORY, the rest ERR_INTERNAL.
Napi::Error to_js_error(Napi::Env env, std::exception_ptr exception);

/// Runs a function that JavaScript called: what it throws becomes a JavaScript exception.
template <typename Function>
auto guarded(Napi::Env env, Function&& function) -> decltype(function()) {
  try {
    return std::forward<Function>(function)();
  } catch (const Napi::Error&) {
    throw;  // already JavaScript's
  } catch (...) {
    throw to_js_error(env, std::current_exception());
  }
}

}  // namespace qvl::addon
