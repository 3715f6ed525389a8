#include "attention_decode.cuh"

namespace qvl {

extern "C" {

__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_128_bf16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<bf16, 128>(p);
}
__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_128_fp16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<fp16, 128>(p);
}
__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_64_bf16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<bf16, 64>(p);
}
__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_64_fp16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<fp16, 64>(p);
}
__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_32_bf16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<bf16, 32>(p);
}
__global__ void __launch_bounds__(kAttentionDecodeThreads)
    attention_decode_32_fp16(const __grid_constant__ AttentionDecodeParams p) {
  attention_decode<fp16, 32>(p);
}

}  // extern "C"

}  // namespace qvl
