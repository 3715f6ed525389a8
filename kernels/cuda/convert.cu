#include "convert.cuh"

extern "C" {

__global__ void __launch_bounds__(qvl::kConvertThreads)
    convert_bf16(const __grid_constant__ qvl::ConvertParams p) {
  qvl::convert<bf16>(p);
}
__global__ void __launch_bounds__(qvl::kConvertThreads)
    convert_fp16(const __grid_constant__ qvl::ConvertParams p) {
  qvl::convert<fp16>(p);
}

}  // extern "C"
