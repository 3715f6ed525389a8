#pragma once

// Runs a function on a thread of libuv's pool and settles a promise with its result.

#include <napi.h>

#include <exception>
#include <functional>
#include <optional>
#include <utility>

#include "addon/errors.h"

namespace qvl::addon {

/// What a promise of an operation without a result resolves with.
struct Nothing {};

/// One run; deletes itself when the promise is settled or the environment ends.
template <typename Result>
class PromiseWorker final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Convert = std::function<Napi::Value(Napi::Env, Result)>;

  PromiseWorker(Napi::Env env, const char* name, Work work, Convert convert)
      : AsyncWorker(env, name),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      result_.emplace(work_());
    } catch (...) {
      exception_ = std::current_exception();
    }
  }

  void OnOK() override {
    const Napi::Env env = Env();
    Napi::HandleScope scope(env);
    try {
      if (exception_) std::rethrow_exception(exception_);
      deferred_.Resolve(convert_(env, std::move(*result_)));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (...) {
      deferred_.Reject(to_js_error(env, std::current_exception()).Value());
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  std::optional<Result> result_;
  std::exception_ptr exception_;
};

/// `work` runs on the pool and may not touch JavaScript; `convert` runs on the JavaScript thread.
/// Whatever either holds, references to JavaScript values among it, lives until the promise is
/// settled and is destroyed on the JavaScript thread.
template <typename Result>
Napi::Promise run_async(Napi::Env env, const char* name, typename PromiseWorker<Result>::Work work,
                        typename PromiseWorker<Result>::Convert convert) {
  auto* worker =
      new PromiseWorker<Result>(env, name, std::move(work), std::move(convert));  // self-deleting
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace qvl::addon
