#include "addon/addon.h"

#include <string>

#include "addon/async.h"
#include "addon/convert.h"
#include "addon/cpu_info.h"
#include "addon/cuda_info.h"
#include "addon/errors.h"
#include "addon/image_wrap.h"
#include "addon/limits.h"
#include "addon/model_loading.h"
#include "addon/model_wrap.h"
#include "addon/quantize.h"

namespace qvl::addon {

Addon::Addon(Napi::Env env, Napi::Object exports) {
  image_constructor = Napi::Persistent(ImageWrap::define(env));
  grammar_constructor = Napi::Persistent(GrammarWrap::define(env));
  model_constructor = Napi::Persistent(ModelWrap::define(env));
  DefineAddon(exports, {InstanceMethod<&Addon::load_model>("loadModel"),
                        InstanceMethod<&Addon::read_tensor_table>("readTensorTable"),
                        InstanceMethod<&Addon::check_weights>("checkWeights"),
                        InstanceMethod<&Addon::quantize_matrix>("quantizeMatrix"),
                        InstanceMethod<&Addon::prepare_image>("prepareImage"),
                        InstanceMethod<&Addon::extract_patches>("extractPatches"),
                        InstanceMethod<&Addon::compute_positions>("computePositions"),
                        InstanceMethod<&Addon::cpu_info>("cpuInfo"),
                        InstanceMethod<&Addon::cuda_info>("cudaInfo"),
                        InstanceMethod<&Addon::limit_names>("limitNames"),
                        InstanceMethod<&Addon::measure_limit>("measureLimit"),
                        InstanceMethod<&Addon::measure_gpu_copy>("measureGpuCopy")});
}

Napi::Value Addon::load_model(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return start_loading(info); });
}

Napi::Value Addon::read_tensor_table(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto files = read_strings(info[0], "weightFiles");
    return run_async<std::shared_ptr<const Checkpoint>>(
        info.Env(), "qwen2-vl.readTensorTable",
        [files = std::move(files)] { return Checkpoint::open(files); },
        [](Napi::Env env, const std::shared_ptr<const Checkpoint>& checkpoint) {
          return to_js(env, *checkpoint);
        });
  });
}

Napi::Value Addon::check_weights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto files = read_strings(info[0], "weightFiles");
    const ModelConfig config = read_model_config({info[1], "config"});
    return run_async<WeightSizes>(
        info.Env(), "qwen2-vl.checkWeights",
        [files = std::move(files), config] {
          const auto checkpoint = Checkpoint::open(files);
          check_qwen2_vl(*checkpoint, config);
          return measure_weights(*checkpoint, config.stored_quantization, {});
        },
        [](Napi::Env env, const WeightSizes& sizes) {
          Napi::Object object = Napi::Object::New(env);
          object.Set("numParameters", static_cast<double>(sizes.num_parameters));
          object.Set("weightBytes", static_cast<double>(sizes.size_bytes));
          return object;
        });
  });
}

Napi::Value Addon::quantize_matrix(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::quantize_matrix(info); });
}

Napi::Value Addon::prepare_image(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::prepare_image(info); });
}

Napi::Value Addon::extract_patches(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::extract_patches(info); });
}

Napi::Value Addon::compute_positions(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<int32_t> token_ids = read_int32_array(info[0], "tokenIds");
    if (!info[1].IsArray()) throw_invalid("grids", "an array");
    const auto array = info[1].As<Napi::Array>();
    std::vector<VisionGrid> grids;
    for (uint32_t i = 0; i < array.Length(); ++i) {
      grids.push_back(read_vision_grid(array.Get(i), "grids[" + std::to_string(i) + "]"));
    }
    if (!info[2].IsNumber()) throw_invalid("imageTokenId", "a number");
    if (!info[3].IsNumber()) throw_invalid("videoTokenId", "a number");
    return to_js(info.Env(),
                 qvl::compute_positions(token_ids, grids, info[2].As<Napi::Number>().Int32Value(),
                                        info[3].As<Napi::Number>().Int32Value()));
  });
}

Napi::Value Addon::cpu_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return addon::cpu_info(info.Env()); });
}

Napi::Value Addon::cuda_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::cuda_info(info); });
}

Napi::Value Addon::limit_names(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return addon::limit_names(info.Env()); });
}

Napi::Value Addon::measure_gpu_copy(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::measure_gpu_copy(info); });
}

Napi::Value Addon::measure_limit(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return addon::measure_limit(info); });
}

}  // namespace qvl::addon

using QwenAddon = qvl::addon::Addon;
NODE_API_ADDON(QwenAddon)
