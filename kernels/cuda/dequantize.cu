#include "dequantize.cuh"

#define QVL_DEQUANTIZE(bits, group, W)                                                         \
  extern "C" __global__ void __launch_bounds__(qvl::kDequantizeThreads)                        \
      dequantize_int##bits##_g##group##_##W(const __grid_constant__ qvl::DequantizeParams p) { \
    qvl::dequantize<W, bits, group>(p);                                                        \
  }

QVL_DEQUANTIZE(4, 32, bf16)
QVL_DEQUANTIZE(4, 32, fp16)
QVL_DEQUANTIZE(4, 128, bf16)
QVL_DEQUANTIZE(4, 128, fp16)
QVL_DEQUANTIZE(8, 32, bf16)
QVL_DEQUANTIZE(8, 32, fp16)
QVL_DEQUANTIZE(8, 128, bf16)
QVL_DEQUANTIZE(8, 128, fp16)

extern "C" __global__ void __launch_bounds__(qvl::kEmbedQuantizedThreads)
    embed_int8(const __grid_constant__ qvl::EmbedQuantizedParams p) {
  qvl::embed_int8(p);
}
