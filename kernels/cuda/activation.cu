#include "activation.cuh"

#define QVL_ACTIVATION(name, ...)                                       \
  extern "C" __global__ void __launch_bounds__(qvl::kActivationThreads) \
      name(const __grid_constant__ qvl::ActivationParams p) {           \
    __VA_ARGS__(p);                                                     \
  }

QVL_ACTIVATION(swiglu_bf16, qvl::swiglu<bf16>)
QVL_ACTIVATION(swiglu_fp16, qvl::swiglu<fp16>)
QVL_ACTIVATION(bias_bf16, qvl::bias_activation<bf16, qvl::Identity>)
QVL_ACTIVATION(bias_fp16, qvl::bias_activation<fp16, qvl::Identity>)
QVL_ACTIVATION(bias_quick_gelu_bf16, qvl::bias_activation<bf16, qvl::QuickGelu>)
QVL_ACTIVATION(bias_quick_gelu_fp16, qvl::bias_activation<fp16, qvl::QuickGelu>)
QVL_ACTIVATION(bias_gelu_bf16, qvl::bias_activation<bf16, qvl::Gelu>)
QVL_ACTIVATION(bias_gelu_fp16, qvl::bias_activation<fp16, qvl::Gelu>)
QVL_ACTIVATION(bias_f32, qvl::bias_activation<float, qvl::Identity>)
