#pragma once

// The first lanes of a vector, where the instruction set has no masked loads and stores: through an
// array. Included by vector_<set>.h behind its loads and stores of all lanes.

#include "kernels/cpu/simd_unroll.h"

namespace qvl::kernels::QVL_ISA {
namespace {

class FirstLanes {
 public:
  explicit FirstLanes(int64_t count)
      : count_(count < 0        ? 0
               : count < kLanes ? static_cast<int>(count)
                                : kLanes) {}
  int count() const { return count_; }

 private:
  int count_;
};

inline Vector load(const float* from, const FirstLanes& lanes) {
  if (lanes.count() == kLanes) return load(from);
  float numbers[kLanes] = {};
  for (int i = 0; i < lanes.count(); ++i) numbers[i] = from[i];
  return load(numbers);
}
inline void store(float* to, const Vector& value, const FirstLanes& lanes) {
  if (lanes.count() == kLanes) return store(to, value);
  float numbers[kLanes];
  store(numbers, value);
  for (int i = 0; i < lanes.count(); ++i) to[i] = numbers[i];
}

}  // namespace
}  // namespace qvl::kernels::QVL_ISA
