#include "addon/cuda_info.h"

#include "addon/async.h"
#include "addon/convert.h"
#include "backend/cuda/cuda_info.h"

namespace qvl::addon {
namespace {

Napi::Object library_to_js(Napi::Env env, const cuda::LibraryInfo& library) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("found", library.found);
  object.Set("path", library.path);
  object.Set("version", library.version);
  return object;
}

Napi::Value info_to_js(Napi::Env env, const cuda::CudaInfo& info) {
  Napi::Array devices = Napi::Array::New(env, info.devices.size());
  for (uint32_t i = 0; i < info.devices.size(); ++i) {
    const cuda::DeviceSummary& device = info.devices[i];
    Napi::Object object = Napi::Object::New(env);
    const cuda::DeviceProperties& properties = device.properties;
    object.Set("name", properties.name);
    object.Set("computeCapability", cuda::capability_text(properties.compute_capability));
    object.Set("memoryBytes", static_cast<double>(properties.memory_bytes));
    object.Set("multiprocessors", properties.num_multiprocessors);
    object.Set("clockHz", 1e3 * properties.clock_khz);
    object.Set("memoryClockHz", 1e3 * properties.memory_clock_khz);
    object.Set("memoryBusBits", properties.memory_bus_bits);
    object.Set("freeBytes", device.free_bytes
                                ? Napi::Number::New(env, static_cast<double>(*device.free_bytes))
                                : env.Null());
    object.Set("reason", device.reason);
    devices.Set(i, object);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("built", info.built);
  object.Set("builtReason", info.built_reason);
  object.Set("driver", library_to_js(env, info.driver));
  object.Set("cublasLt", library_to_js(env, info.cublas_lt));
  object.Set("devices", devices);
  object.Set("usable", info.usable);
  object.Set("reason", info.reason);
  return object;
}

}  // namespace

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  std::optional<int> ordinal;
  if (info[0].IsNumber()) {
    ordinal = info[0].As<Napi::Number>().Int32Value();
  } else if (!info[0].IsUndefined()) {
    throw_invalid("ordinal", "a number or undefined");
  }
  return run_async<cuda::CudaInfo>(
      info.Env(), "qwen2-vl.cudaInfo", [ordinal] { return cuda::cuda_info(ordinal); }, info_to_js);
}

}  // namespace qvl::addon
