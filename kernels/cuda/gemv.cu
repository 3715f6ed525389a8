#include "gemv.cuh"

namespace qvl {

using QkvParams = GemvKernelParams<QkvEpilogue>;
using ResidualParams = GemvKernelParams<ResidualEpilogue>;
using SwiGluParams = GemvKernelParams<SwiGluEpilogue>;
using LogitsParams = GemvKernelParams<LogitsEpilogue>;

extern "C" {

__global__ void __launch_bounds__(kGemvThreads) gemv_qkv_bf16(const __grid_constant__ QkvParams p) {
  gemv<bf16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads) gemv_qkv_fp16(const __grid_constant__ QkvParams p) {
  gemv<fp16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_residual_bf16(const __grid_constant__ ResidualParams p) {
  gemv<bf16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_residual_fp16(const __grid_constant__ ResidualParams p) {
  gemv<fp16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_swiglu_bf16(const __grid_constant__ SwiGluParams p) {
  gemv<bf16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_swiglu_fp16(const __grid_constant__ SwiGluParams p) {
  gemv<fp16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_logits_bf16(const __grid_constant__ LogitsParams p) {
  gemv<bf16>(p.gemv, p.epilogue);
}
__global__ void __launch_bounds__(kGemvThreads)
    gemv_logits_fp16(const __grid_constant__ LogitsParams p) {
  gemv<fp16>(p.gemv, p.epilogue);
}

}  // extern "C"

}  // namespace qvl
