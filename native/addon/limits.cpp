#include "addon/limits.h"

#include <string>
#include <utility>

#include "addon/async.h"
#include "addon/convert.h"
#include "backend/cpu/machine_limits.h"
#include "backend/cuda/cuda_limits.h"

namespace qvl::addon {
namespace {

constexpr double kMaxThreads = 1024;
constexpr double kMaxDevices = 1024;
constexpr double kMaxSeconds = 60;

double read_number(const Napi::Value& value, const char* name, double least, double most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  // Written so that NaN is refused.
  if (!(number >= least && number <= most)) {
    throw_invalid(name, "a number from " + std::to_string(static_cast<int>(least)) + " to " +
                            std::to_string(static_cast<int>(most)));
  }
  return number;
}

}  // namespace

Napi::Value limit_names(Napi::Env env) {
  const std::vector<std::string> names = MachineLimits::names();
  Napi::Array array = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, names[i]);
  return array;
}

Napi::Value measure_gpu_copy(const Napi::CallbackInfo& info) {
  const auto ordinal = static_cast<int>(read_number(info[0], "ordinal", 0, kMaxDevices));
  const double seconds = read_number(info[1], "seconds", 0, kMaxSeconds);
  return run_async<double>(
      info.Env(), "qwen2-vl.measureGpuCopy",
      [ordinal, seconds] { return cuda::measure_copy_rate(ordinal, seconds); },
      [](Napi::Env env, double rate) { return Napi::Number::New(env, rate); });
}

Napi::Value measure_limit(const Napi::CallbackInfo& info) {
  if (!info[0].IsString()) throw_invalid("name", "a string");
  std::string name = info[0].As<Napi::String>();
  const auto threads = static_cast<int>(read_number(info[1], "threads", 0, kMaxThreads));
  const double seconds = read_number(info[2], "seconds", 0, kMaxSeconds);
  return run_async<double>(
      info.Env(), "qwen2-vl.measureLimit",
      [name = std::move(name), threads, seconds] {
        return MachineLimits(threads).measure(name, seconds);
      },
      [](Napi::Env env, double rate) { return Napi::Number::New(env, rate); });
}

}  // namespace qvl::addon
