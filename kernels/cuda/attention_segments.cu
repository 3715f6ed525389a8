#include "attention_segments.cuh"

#define QVL_ATTENTION_SEGMENTS(name, type, head_dim, queries)                                      \
  extern "C" __global__ void __launch_bounds__(qvl::kAttentionThreads)                             \
      attention_segments_##name##_##type(const __grid_constant__ qvl::AttentionSegmentsParams p) { \
    qvl::attention_segments<qvl::AttentionConfig<type, head_dim, /*kCausal=*/false, queries>>(p);  \
  }

QVL_ATTENTION_SEGMENTS(80, bf16, 80, qvl::kAttentionQueries)
QVL_ATTENTION_SEGMENTS(80, fp16, 80, qvl::kAttentionQueries)
QVL_ATTENTION_SEGMENTS(80_wide, bf16, 80, qvl::kAttentionWideQueries)
QVL_ATTENTION_SEGMENTS(80_wide, fp16, 80, qvl::kAttentionWideQueries)
QVL_ATTENTION_SEGMENTS(64, bf16, 64, qvl::kAttentionQueries)
QVL_ATTENTION_SEGMENTS(64, fp16, 64, qvl::kAttentionQueries)
QVL_ATTENTION_SEGMENTS(32, bf16, 32, qvl::kAttentionQueries)
QVL_ATTENTION_SEGMENTS(32, fp16, 32, qvl::kAttentionQueries)
