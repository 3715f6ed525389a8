#include "gemv_quantized.cuh"

#define QVL_GEMV(name, Epilogue, group, W)                                           \
  extern "C" __global__ void __launch_bounds__(qvl::kQuantizedGemvThreads,           \
                                               qvl::kQuantizedGemvBlocks)            \
      gemv_int8_##name##_g##group##_##W(                                             \
          const __grid_constant__ qvl::QuantizedGemvKernelParams<qvl::Epilogue> p) { \
    qvl::gemv_quantized<W, 8, group>(p);                                             \
  }
#define QVL_GEMVS(name, Epilogue)     \
  QVL_GEMV(name, Epilogue, 32, bf16)  \
  QVL_GEMV(name, Epilogue, 32, fp16)  \
  QVL_GEMV(name, Epilogue, 128, bf16) \
  QVL_GEMV(name, Epilogue, 128, fp16)

QVL_GEMVS(qkv, QkvEpilogue)
QVL_GEMVS(residual, ResidualEpilogue)
QVL_GEMVS(swiglu, SwiGluEpilogue)
QVL_GEMVS(logits, LogitsEpilogue)
