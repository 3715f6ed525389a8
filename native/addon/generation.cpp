#include "addon/generation.h"

#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <variant>

#include "addon/addon.h"
#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/grammar_wrap.h"
#include "addon/image_wrap.h"

namespace qvl::addon {
namespace {

struct Finish {
  FinishReason reason;
  GenerationStats stats;
};

using Event = std::variant<TokenOutput, Finish, std::exception_ptr>;

class EventQueue;

/// What belongs to one running generation on the JavaScript side. Owned by its thread-safe
/// function: deleted when that has delivered the last event, or when the environment ends first.
struct Generation {
  std::shared_ptr<EventQueue> events;
  std::shared_ptr<ModelHandle> model;
  std::shared_ptr<Reaper> reaper;
  uint64_t id = 0;  // of the engine; 0 until it has accepted the request
};

void deliver(Napi::Env env, Napi::Function on_event, Generation* generation, Event* event);

using EventFunction = Napi::TypedThreadSafeFunction<Generation, Event, deliver>;

/// The engine's view of a generation: hands its events to the JavaScript thread, never waits.
class EventQueue final : public GenerationListener {
 public:
  /// Before the engine knows the listener.
  void open(EventFunction function) {
    function_ = function;
    is_open_ = true;
  }

  /// After this, no thread touches the thread-safe function any more.
  void close() {
    std::lock_guard lock(mutex_);
    is_open_ = false;
  }

  /// For a request that the engine refused: lets the thread-safe function go without an event.
  void abandon() {
    std::lock_guard lock(mutex_);
    if (std::exchange(is_open_, false)) function_.Release();
  }

  void on_token(const TokenOutput& token) override { send(token, /*is_last=*/false); }
  void on_finish(FinishReason reason, const GenerationStats& stats) override {
    send(Finish{reason, stats}, /*is_last=*/true);
  }
  void on_error(std::exception_ptr error) override { send(std::move(error), /*is_last=*/true); }

 private:
  void send(Event event, bool is_last) {
    auto owned = std::make_unique<Event>(std::move(event));
    std::lock_guard lock(mutex_);
    if (!is_open_) return;
    if (function_.NonBlockingCall(owned.get()) != napi_ok) {
      is_open_ = false;  // the environment is closing, and our hold on the function is gone
      return;
    }
    static_cast<void>(owned.release());  // deliver() owns it now
    if (is_last) {
      is_open_ = false;
      function_.Release();
    }
  }

  std::mutex mutex_;
  EventFunction function_;
  bool is_open_ = false;
};

Napi::Object event_object(Napi::Env env, const Event& event) {
  if (const auto* token = std::get_if<TokenOutput>(&event)) return to_js(env, *token);
  Napi::Object object = Napi::Object::New(env);
  if (const auto* finish = std::get_if<Finish>(&event)) {
    object.Set("type", "finish");
    object.Set("reason", to_js(env, finish->reason));
    object.Set("stats", to_js(env, finish->stats));
  } else {
    object.Set("type", "error");
    object.Set("error", to_js_error(env, std::get<std::exception_ptr>(event)).Value());
  }
  return object;
}

void deliver(Napi::Env env, Napi::Function on_event, Generation*, Event* event) {
  const std::unique_ptr<Event> owned(event);
  if (env == nullptr) return;  // the environment is closing: nobody listens
  on_event.Call({event_object(env, *owned)});
}

void finalize(Napi::Env, void*, Generation* generation) {
  const std::unique_ptr<Generation> owned(generation);
  owned->events->close();
  if (owned->id != 0) owned->model->engine->cancel(owned->id);  // a no-op after the last event
  owned->reaper->release(std::move(owned->model));
}

GenerationRequest read_request(Napi::Value value, const std::shared_ptr<ModelHandle>& model) {
  const ObjectReader reader(value, "request");
  GenerationRequest request = read_generation_request(reader);
  const Napi::Array items = reader.array("items");
  for (uint32_t i = 0; i < items.Length(); ++i) {
    request.items.push_back(
        read_vision_item(items.Get(i), reader.path("items") + "[" + std::to_string(i) + "]"));
  }
  request.grammar = GrammarWrap::read(reader.value("grammar"), reader.path("grammar"), model);
  return request;
}

}  // namespace

Napi::Value start_generation(const Napi::CallbackInfo& info,
                             const std::shared_ptr<ModelHandle>& model) {
  const Napi::Env env = info.Env();
  GenerationRequest request = read_request(info[0], model);
  if (!info[1].IsFunction()) throw_invalid("onEvent", "a function");

  auto owned = std::make_unique<Generation>();
  owned->events = std::make_shared<EventQueue>();
  owned->model = model;
  owned->reaper = Addon::of(env).reaper();
  Generation* generation = owned.get();
  const std::shared_ptr<EventQueue> events = generation->events;
  events->open(EventFunction::New(env, info[1].As<Napi::Function>(), "qwen2-vl.generate",
                                  /*maxQueueSize=*/0, /*initialThreadCount=*/1, generation,
                                  finalize, static_cast<void*>(nullptr)));
  static_cast<void>(owned.release());  // the function's finalizer owns it now
  try {
    generation->id = model->engine->submit(std::move(request), events);
  } catch (...) {
    events->abandon();
    throw;
  }

  Napi::Object result = Napi::Object::New(env);
  const auto cancel = [weak = std::weak_ptr<ModelHandle>(model),
                       id = generation->id](const Napi::CallbackInfo&) {
    if (const std::shared_ptr<ModelHandle> running = weak.lock()) running->engine->cancel(id);
  };
  result.Set("cancel", Napi::Function::New(env, cancel, "cancel"));
  return result;
}

}  // namespace qvl::addon
