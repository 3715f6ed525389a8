#pragma once

#include <napi.h>

#include <memory>

#include "addon/model_handle.h"

namespace qvl::addon {

/// The JavaScript object `NativeModel`.
class ModelWrap : public Napi::ObjectWrap<ModelWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, std::shared_ptr<ModelHandle> model);

  explicit ModelWrap(const Napi::CallbackInfo& info);
  ~ModelWrap() override;

 private:
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value set_vocabulary(const Napi::CallbackInfo& info);
  Napi::Value compile_grammar(const Napi::CallbackInfo& info);
  Napi::Value metrics(const Napi::CallbackInfo& info);
  Napi::Value available_bytes(const Napi::CallbackInfo& info);
  Napi::Value clear_cache(const Napi::CallbackInfo& info);
  Napi::Value pin(const Napi::CallbackInfo& info);
  Napi::Value unpin(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value num_parameters(const Napi::CallbackInfo& info);
  Napi::Value weight_bytes(const Napi::CallbackInfo& info);

  std::shared_ptr<ModelHandle> model_;
  std::shared_ptr<Reaper> reaper_;
};

}  // namespace qvl::addon
