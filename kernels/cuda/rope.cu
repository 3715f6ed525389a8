#include "rope.cuh"

#define QVL_ROPE(name, Params, ...)                               \
  extern "C" __global__ void __launch_bounds__(qvl::kRopeThreads) \
      name(const __grid_constant__ qvl::Params p) {               \
    __VA_ARGS__(p);                                               \
  }

QVL_ROPE(rope_bf16, RopeParams, qvl::rope<bf16>)
QVL_ROPE(rope_fp16, RopeParams, qvl::rope<fp16>)
QVL_ROPE(rope_append_bf16, RopeAppendParams, qvl::rope_append<bf16>)
QVL_ROPE(rope_append_fp16, RopeAppendParams, qvl::rope_append<fp16>)
