#pragma once

// The layers of test/golden/quantized, whose matrices and products the reference has recorded.

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/stored_quantization.h"

namespace qvl::test {

struct RecordedLayer {
  std::string name;
  StoredQuantization format;
  int64_t out_features;
  int64_t in_features;
  bool has_zeros;
};

inline std::string recorded_quantized(const std::string& name) {
  return std::string(QVL_TEST_DIR) + "/golden/quantized/" + name;
}

inline std::vector<RecordedLayer> recorded_layers() {
  using Method = StoredQuantization::Method;
  std::ifstream file(recorded_quantized("cases.txt"));
  std::vector<RecordedLayer> layers;
  RecordedLayer layer;
  std::string method;
  while (file >> layer.name >> method >> layer.format.bits >> layer.format.group_size >>
         layer.format.zeros_less_one >> layer.out_features >> layer.in_features >>
         layer.has_zeros) {
    layer.format.method = method == "awq" ? Method::kAwq : Method::kGptq;
    layers.push_back(layer);
  }
  return layers;
}

inline std::vector<float> read_floats(const Checkpoint& checkpoint, const std::string& name) {
  const TensorEntry& entry = *checkpoint.find(name);
  std::vector<float> values((entry.end - entry.begin) / sizeof(float));
  checkpoint.read(entry, 0, values.size() * sizeof(float), values.data());
  return values;
}

}  // namespace qvl::test
