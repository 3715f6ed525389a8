#include "attention_prefill.cuh"

#define QVL_ATTENTION_PREFILL(head_dim, type)                                          \
  extern "C" __global__ void __launch_bounds__(qvl::kAttentionThreads)                 \
      attention_prefill_##head_dim##_##type(                                           \
          const __grid_constant__ qvl::AttentionPrefillParams p) {                     \
    qvl::attention_prefill<qvl::AttentionConfig<type, head_dim, /*kCausal=*/true>>(p); \
  }

QVL_ATTENTION_PREFILL(128, bf16)
QVL_ATTENTION_PREFILL(128, fp16)
QVL_ATTENTION_PREFILL(64, bf16)
QVL_ATTENTION_PREFILL(64, fp16)
QVL_ATTENTION_PREFILL(32, bf16)
QVL_ATTENTION_PREFILL(32, fp16)
