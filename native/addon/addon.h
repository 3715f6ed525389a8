#pragma once

#include <napi.h>

#include <memory>
#include <utility>

#include "addon/grammar_wrap.h"
#include "addon/model_handle.h"

namespace qvl::addon {

/// The state of the addon in one Node environment. A worker thread has an instance of its own;
/// nothing is shared between them.
class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports);

  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

  /// Makes a JavaScript object of a wrapped class that native code alone may construct: the
  /// constructor takes `content` from the `pending` pointer of its class.
  template <typename Content>
  Napi::Object construct(const Napi::FunctionReference& constructor,
                         std::shared_ptr<Content>& pending, std::shared_ptr<Content> content) {
    pending = std::move(content);
    Napi::Object object = constructor.New({});
    pending.reset();
    return object;
  }

  const std::shared_ptr<Reaper>& reaper() const { return reaper_; }

  Napi::FunctionReference image_constructor;
  std::shared_ptr<const RgbImage> pending_image;
  Napi::FunctionReference grammar_constructor;
  std::shared_ptr<ModelGrammar> pending_grammar;
  Napi::FunctionReference model_constructor;
  std::shared_ptr<ModelHandle> pending_model;

 private:
  Napi::Value load_model(const Napi::CallbackInfo& info);
  Napi::Value read_tensor_table(const Napi::CallbackInfo& info);
  Napi::Value check_weights(const Napi::CallbackInfo& info);
  Napi::Value quantize_matrix(const Napi::CallbackInfo& info);
  Napi::Value prepare_image(const Napi::CallbackInfo& info);
  Napi::Value extract_patches(const Napi::CallbackInfo& info);
  Napi::Value compute_positions(const Napi::CallbackInfo& info);
  Napi::Value cpu_info(const Napi::CallbackInfo& info);
  Napi::Value cuda_info(const Napi::CallbackInfo& info);
  Napi::Value limit_names(const Napi::CallbackInfo& info);
  Napi::Value measure_gpu_copy(const Napi::CallbackInfo& info);
  Napi::Value measure_limit(const Napi::CallbackInfo& info);

  std::shared_ptr<Reaper> reaper_ = std::make_shared<Reaper>();
};

}  // namespace qvl::addon
