#pragma once

// Entry points of the products with quantised weights, for codes of so many bits: every epilogue,
// groups of 32 and of 128 inputs, both types. A file for each number of bits, for they are slow to
// compile.

#include "gemv_quantized.cuh"

#define QVL_QUANTIZED_GEMV(bits, name, Epilogue, group, W)                           \
  extern "C" __global__ void __launch_bounds__(qvl::kQuantizedGemvThreads,           \
                                               qvl::kQuantizedGemvBlocks)            \
      gemv_int##bits##_##name##_g##group##_##W(                                      \
          const __grid_constant__ qvl::QuantizedGemvKernelParams<qvl::Epilogue> p) { \
    qvl::gemv_quantized<W, bits, group>(p);                                          \
  }
#define QVL_QUANTIZED_GEMVS(bits, name, Epilogue)     \
  QVL_QUANTIZED_GEMV(bits, name, Epilogue, 32, bf16)  \
  QVL_QUANTIZED_GEMV(bits, name, Epilogue, 32, fp16)  \
  QVL_QUANTIZED_GEMV(bits, name, Epilogue, 128, bf16) \
  QVL_QUANTIZED_GEMV(bits, name, Epilogue, 128, fp16)
#define QVL_QUANTIZED_GEMV_ENTRIES(bits)                \
  QVL_QUANTIZED_GEMVS(bits, qkv, QkvEpilogue)           \
  QVL_QUANTIZED_GEMVS(bits, residual, ResidualEpilogue) \
  QVL_QUANTIZED_GEMVS(bits, swiglu, SwiGluEpilogue)     \
  QVL_QUANTIZED_GEMVS(bits, logits, LogitsEpilogue)
