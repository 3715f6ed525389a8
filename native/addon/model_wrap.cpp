#include "addon/model_wrap.h"

#include <utility>

#include "addon/addon.h"
#include "addon/async.h"
#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/generation.h"
#include "addon/grammar_wrap.h"
#include "addon/image_wrap.h"

namespace qvl::addon {

Napi::Function ModelWrap::define(Napi::Env env) {
  return DefineClass(
      env, "NativeModel",
      {InstanceMethod<&ModelWrap::generate>("generate", napi_default_method),
       InstanceMethod<&ModelWrap::set_vocabulary>("setVocabulary", napi_default_method),
       InstanceMethod<&ModelWrap::compile_grammar>("compileGrammar", napi_default_method),
       InstanceMethod<&ModelWrap::metrics>("metrics", napi_default_method),
       InstanceMethod<&ModelWrap::available_bytes>("availableBytes", napi_default_method),
       InstanceMethod<&ModelWrap::clear_cache>("clearCache", napi_default_method),
       InstanceMethod<&ModelWrap::pin>("pin", napi_default_method),
       InstanceMethod<&ModelWrap::unpin>("unpin", napi_default_method),
       InstanceMethod<&ModelWrap::dispose>("dispose", napi_default_method),
       InstanceAccessor<&ModelWrap::device>("device", napi_enumerable),
       InstanceAccessor<&ModelWrap::num_parameters>("numParameters", napi_enumerable),
       InstanceAccessor<&ModelWrap::weight_bytes>("weightBytes", napi_enumerable)});
}

Napi::Object ModelWrap::create(Napi::Env env, std::shared_ptr<ModelHandle> model) {
  Addon& addon = Addon::of(env);
  return addon.construct(addon.model_constructor, addon.pending_model, std::move(model));
}

ModelWrap::ModelWrap(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      model_(std::move(Addon::of(info.Env()).pending_model)),
      reaper_(Addon::of(info.Env()).reaper()) {
  if (model_ == nullptr) {
    throw Napi::TypeError::New(info.Env(), "NativeModel is made by loadModel() only.");
  }
}

ModelWrap::~ModelWrap() { reaper_->release(std::move(model_)); }

Napi::Value ModelWrap::generate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return start_generation(info, model_); });
}

Napi::Value ModelWrap::set_vocabulary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::set_vocabulary(info, model_); });
}

Napi::Value ModelWrap::compile_grammar(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::compile_grammar(info, model_); });
}

Napi::Value ModelWrap::metrics(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return to_js(info.Env(), model_->engine->metrics()); });
}

Napi::Value ModelWrap::available_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return run_async<int64_t>(
        info.Env(), "qwen2-vl.availableBytes",
        [weak = model_->backend] {
          const std::shared_ptr<Backend> backend = weak.lock();
          return backend == nullptr ? 0 : backend->available_bytes();
        },
        [](Napi::Env env, int64_t bytes) -> Napi::Value {
          return Napi::Number::New(env, static_cast<double>(bytes));
        });
  });
}

Napi::Value ModelWrap::clear_cache(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return run_async<Nothing>(
        info.Env(), "qwen2-vl.clearCache",
        [engine = model_->engine.get()] {
          engine->clear_cache();
          return Nothing{};
        },
        [model = model_](Napi::Env env, Nothing) { return env.Undefined(); });
  });
}

Napi::Value ModelWrap::pin(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    model_->engine->pin(content_hash(read_vision_item(info[0], "item")));
    return info.Env().Undefined();
  });
}

Napi::Value ModelWrap::unpin(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    model_->engine->unpin(content_hash(read_vision_item(info[0], "item")));
    return info.Env().Undefined();
  });
}

Napi::Value ModelWrap::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return run_async<Nothing>(
        info.Env(), "qwen2-vl.dispose",
        [engine = model_->engine.get()] {
          engine->shutdown();
          return Nothing{};
        },
        // Holds the model until the engine has ended.
        [model = model_](Napi::Env env, Nothing) { return env.Undefined(); });
  });
}

Napi::Value ModelWrap::device(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), model_->device);
}

Napi::Value ModelWrap::num_parameters(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(model_->num_parameters));
}

Napi::Value ModelWrap::weight_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(model_->weight_bytes));
}

}  // namespace qvl::addon
