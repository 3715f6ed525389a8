#include "attention_segments.cuh"

#define QVL_ATTENTION_SEGMENTS(head_dim, type)                                           \
  extern "C" __global__ void __launch_bounds__(qvl::kAttentionThreads)                   \
      attention_segments_##head_dim##_##type(                                            \
          const __grid_constant__ qvl::AttentionSegmentsParams p) {                      \
    qvl::attention_segments<qvl::AttentionConfig<type, head_dim, /*kCausal=*/false>>(p); \
  }

QVL_ATTENTION_SEGMENTS(80, bf16)
QVL_ATTENTION_SEGMENTS(80, fp16)
QVL_ATTENTION_SEGMENTS(64, bf16)
QVL_ATTENTION_SEGMENTS(64, fp16)
QVL_ATTENTION_SEGMENTS(32, bf16)
QVL_ATTENTION_SEGMENTS(32, fp16)
