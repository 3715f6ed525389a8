#include "sample.cuh"

namespace qvl {

static_assert(sizeof(SampleShared) <= kSampleDrawSharedBytes);

extern "C" {

__global__ void __launch_bounds__(kSampleThreads)
    sample_count(const __grid_constant__ SampleParams p) {
  sample_count_row(p);
}
__global__ void __launch_bounds__(kSampleThreads)
    sample_scores(const __grid_constant__ SampleParams p) {
  sample_scores_slice(p);
}
__global__ void __launch_bounds__(kSampleThreads)
    sample_weights(const __grid_constant__ SampleParams p) {
  sample_weights_slice(p);
}
// One block: else ptxas gives it no more than 32 registers on sm_100, and spills.
__global__ void __launch_bounds__(kSampleDrawThreads, 1)
    sample_draw(const __grid_constant__ SampleParams p) {
  sample_draw_row(p);
}

}  // extern "C"

}  // namespace qvl
