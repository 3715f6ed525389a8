#include "addon/model_loading.h"

#include <chrono>
#include <exception>
#include <memory>
#include <thread>
#include <utility>
#include <variant>

#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/model_handle.h"
#include "addon/model_wrap.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "common/cancellation.h"

namespace qvl::addon {
namespace {

using Clock = std::chrono::steady_clock;

/// Progress reaches JavaScript at most this often; the last report always does.
constexpr auto kProgressInterval = std::chrono::milliseconds(50);

using Event = std::variant<LoadProgress, std::shared_ptr<ModelHandle>, std::exception_ptr>;

/// Owned by its thread-safe function, whose finalizer cancels, joins and deletes: after the end,
/// and also when the environment closes in the middle.
struct Loading {
  Loading(Napi::Env env, LoadOptions load_options)
      : options(std::move(load_options)), deferred(Napi::Promise::Deferred::New(env)) {}

  LoadOptions options;
  std::shared_ptr<CancellationFlag> cancellation = std::make_shared<CancellationFlag>();
  Napi::Promise::Deferred deferred;
  Napi::FunctionReference on_progress;
  std::thread thread;
};

void deliver(Napi::Env env, Napi::Function, Loading* loading, Event* event);

using EventFunction = Napi::TypedThreadSafeFunction<Loading, Event, deliver>;

void deliver(Napi::Env env, Napi::Function, Loading* loading, Event* event) {
  const std::unique_ptr<Event> owned(event);
  if (env == nullptr) return;  // the environment is closing: nobody listens
  if (const auto* progress = std::get_if<LoadProgress>(event)) {
    if (loading->on_progress.IsEmpty()) return;
    Napi::Object report = Napi::Object::New(env);
    report.Set("loadedBytes", static_cast<double>(progress->loaded_bytes));
    report.Set("totalBytes", static_cast<double>(progress->total_bytes));
    loading->on_progress.Call({report});
  } else if (auto* model = std::get_if<std::shared_ptr<ModelHandle>>(event)) {
    loading->deferred.Resolve(ModelWrap::create(env, std::move(*model)));
  } else {
    const auto& exception = std::get<std::exception_ptr>(*event);
    loading->deferred.Reject(to_js_error(env, exception).Value());
  }
}

void send(EventFunction& function, Event event) {
  auto owned = std::make_unique<Event>(std::move(event));
  // The finalizer joins this thread before the function goes away, so a call is always safe; one
  // that fails means that the environment is closing.
  if (function.NonBlockingCall(owned.get()) == napi_ok) static_cast<void>(owned.release());
}

std::shared_ptr<Backend> create_backend(const LoadOptions& options) {
  if (options.cuda_device) {
    return create_cuda_backend({*options.cuda_device, options.model.kv_dtype});
  }
  return create_cpu_backend({options.threads, options.instruction_set});
}

std::shared_ptr<ModelHandle> load(const LoadOptions& options, const CancellationFlag& cancellation,
                                  EventFunction& function) {
  Clock::time_point last_report{};
  const auto report = [&](const LoadProgress& progress) {
    const Clock::time_point now = Clock::now();
    const bool is_last = progress.loaded_bytes == progress.total_bytes;
    if (!is_last && now - last_report < kProgressInterval) return;
    last_report = now;
    send(function, progress);
  };
  const auto checkpoint = Checkpoint::open(options.weight_files);
  const std::shared_ptr<Backend> backend = create_backend(options);
  auto model =
      load_qwen2_vl(checkpoint, options.config, backend, options.model, report, &cancellation);
  if (cancellation.cancelled()) throw Cancelled{};
  auto handle = std::make_shared<ModelHandle>();
  handle->device = backend->device();
  handle->backend = backend;
  handle->vocab_size = options.config.vocab_size;
  const WeightSizes sizes =
      measure_weights(*checkpoint, options.config.stored_quantization, options.model);
  handle->num_parameters = sizes.num_parameters;
  handle->weight_bytes = sizes.size_bytes;
  handle->engine = std::make_unique<Engine>(std::move(model), options.engine);
  return handle;
}

void run(Loading* loading, EventFunction function) {
  try {
    send(function, load(loading->options, *loading->cancellation, function));
  } catch (...) {
    send(function, std::current_exception());
  }
  function.Release();
}

void finalize(Napi::Env, void*, Loading* loading) {
  const std::unique_ptr<Loading> owned(loading);
  owned->cancellation->cancel();
  if (owned->thread.joinable()) owned->thread.join();
}

}  // namespace

Napi::Value start_loading(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto owned = std::make_unique<Loading>(env, read_load_options(info[0]));
  if (info[1].IsFunction()) {
    owned->on_progress = Napi::Persistent(info[1].As<Napi::Function>());
  } else if (!info[1].IsUndefined()) {
    throw_invalid("onProgress", "a function or undefined");
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("promise", owned->deferred.Promise());
  result.Set("cancel", Napi::Function::New(
                           env,
                           [cancellation = owned->cancellation](const Napi::CallbackInfo&) {
                             cancellation->cancel();
                           },
                           "cancel"));
  Loading* loading = owned.get();
  EventFunction function =
      EventFunction::New(env, "qwen2-vl.loadModel", /*maxQueueSize=*/0, /*initialThreadCount=*/1,
                         loading, finalize, static_cast<void*>(nullptr));
  static_cast<void>(owned.release());  // the function's finalizer owns it now
  try {
    loading->thread = std::thread(run, loading, function);
  } catch (...) {
    function.Release();
    throw;
  }
  return result;
}

}  // namespace qvl::addon
