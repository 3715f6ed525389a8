#include "rows.cuh"

namespace qvl {

extern "C" {

__global__ void __launch_bounds__(kRowsThreads) embed_bf16(const __grid_constant__ EmbedParams p) {
  embed<bf16>(p);
}
__global__ void __launch_bounds__(kRowsThreads) embed_fp16(const __grid_constant__ EmbedParams p) {
  embed<fp16>(p);
}
__global__ void __launch_bounds__(kRowsThreads)
    copy_rows(const __grid_constant__ CopyRowsParams p) {
  copy_row(p);
}

}  // extern "C"

}  // namespace qvl
