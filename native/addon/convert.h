#pragma once

// JavaScript values <-> the core's structures. Strict: a missing property, a wrong type, a fraction
// where an integer belongs or a number out of range throws Error(ERR_INVALID_ARGUMENT).

#include <napi.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "io/image.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "model/positions.h"

namespace qvl::addon {

/// Reads the properties of an object that JavaScript passed.
class ObjectReader {
 public:
  /// `path` names the object in messages: "request", "options.config".
  ObjectReader(Napi::Value value, std::string path);

  Napi::Value value(const char* key) const;
  int64_t integer(const char* key, int64_t min, int64_t max) const;
  /// A finite number within [min, max].
  double number(const char* key, double min, double max) const;
  bool boolean(const char* key) const;
  std::string string(const char* key) const;
  uint64_t unsigned_bigint(const char* key) const;
  ObjectReader object(const char* key) const;
  Napi::Array array(const char* key) const;
  std::vector<int32_t> int32_array(const char* key) const;
  /// Three finite numbers.
  std::array<double, 3> triple(const char* key) const;

  std::string path(const char* key) const { return path_ + "." + key; }

 private:
  Napi::Object object_;
  std::string path_;
};

[[noreturn]] void throw_invalid(const std::string& path, const std::string& expected);

std::vector<std::string> read_strings(Napi::Value value, const std::string& path);
std::vector<int32_t> read_int32_array(Napi::Value value, const std::string& path);

/// Everything that loading needs, free of JavaScript.
struct LoadOptions {
  std::vector<std::string> weight_files;
  ModelConfig config;
  /// The GPU's number; or none: the CPU.
  std::optional<int> cuda_device;
  int threads = 0;
  std::string instruction_set;
  ModelOptions model;
  EngineOptions engine;
};

LoadOptions read_load_options(Napi::Value value);
ModelConfig read_model_config(const ObjectReader& reader);
StoredQuantization read_stored_quantization(const ObjectReader& reader);
/// "bf16", "fp16" or "fp32".
DType read_dtype(const ObjectReader& reader, const char* key);

/// A request without its vision items; image_wrap.h reads those.
GenerationRequest read_generation_request(const ObjectReader& request);

VisionGrid read_vision_grid(Napi::Value value, const std::string& path);

Napi::Object to_js(Napi::Env env, const EngineMetrics& metrics);
Napi::Object to_js(Napi::Env env, const GenerationStats& stats);
Napi::Object to_js(Napi::Env env, const DeviceInfo& device);
Napi::Object to_js(Napi::Env env, const MropePositions& positions);
/// The tensor table of a checkpoint, in the order of the names.
Napi::Array to_js(Napi::Env env, const Checkpoint& checkpoint);
Napi::Object to_js(Napi::Env env, const TokenOutput& token);
Napi::String to_js(Napi::Env env, FinishReason reason);

}  // namespace qvl::addon
