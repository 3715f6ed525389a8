#include "norm.cuh"

#define QVL_NORM(name, W, centred)                                   \
  extern "C" __global__ void __launch_bounds__(qvl::kNormMaxThreads) \
      name(const __grid_constant__ qvl::NormParams p) {              \
    qvl::norm<W, centred>(p);                                        \
  }

QVL_NORM(rms_norm_bf16, bf16, false)
QVL_NORM(rms_norm_fp16, fp16, false)
QVL_NORM(layer_norm_bf16, bf16, true)
QVL_NORM(layer_norm_fp16, fp16, true)
