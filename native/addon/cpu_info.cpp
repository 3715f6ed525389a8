#include "addon/cpu_info.h"

#include "backend/cpu/cpu_features.h"

namespace qvl::addon {

Napi::Object cpu_info(Napi::Env env) {
  const CpuFeatures features = detect_cpu_features();
  Napi::Array sets = Napi::Array::New(env, features.instruction_sets.size());
  for (uint32_t i = 0; i < features.instruction_sets.size(); ++i) {
    sets.Set(i, features.instruction_sets[i]);
  }
  Napi::Object info = Napi::Object::New(env);
  info.Set("name", features.name);
  info.Set("instructionSets", sets);
  info.Set("physicalCores", features.physical_cores);
  info.Set("availableMemoryBytes", static_cast<double>(available_memory_bytes()));
  return info;
}

}  // namespace qvl::addon
