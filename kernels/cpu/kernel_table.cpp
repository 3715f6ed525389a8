#include "kernels/cpu/attention.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/swiglu.h"

namespace qvl::kernels {

const KernelTable& scalar_kernels() {
  // The scalar `linear` takes any number of rows, so the packed way is never asked for.
  static constexpr KernelTable table = {
      .name = "scalar",
      .linear = scalar::linear,
      .max_unpacked_rows = INT64_MAX,
      .pack_rows = nullptr,
      .num_row_tiles = nullptr,
      .linear_packed = nullptr,
      .linear_scratch_floats = 0,
      .attention = scalar::attention,
      .max_attention_rows = scalar::kMaxAttentionRows,
      .attention_scratch_floats = scalar::attention_scratch_floats,
      .rms_norm = scalar::rms_norm,
      .layer_norm = scalar::layer_norm,
      .swiglu = scalar::swiglu,
  };
  return table;
}

const KernelTable* avx2_kernels() {
#if defined(__x86_64__) || defined(_M_X64)
  static const KernelTable table = {
      .name = "avx2",
      .linear = avx2::linear,
      .max_unpacked_rows = avx2::kMaxUnpackedRows,
      .pack_rows = avx2::pack_rows,
      .num_row_tiles = avx2::num_row_tiles,
      .linear_packed = avx2::linear_packed,
      .linear_scratch_floats = avx2::kLinearScratchFloats,
      .attention = avx2::attention,
      .max_attention_rows = avx2::kMaxAttentionRows,
      .attention_scratch_floats = avx2::attention_scratch_floats,
      .rms_norm = avx2::rms_norm,
      .layer_norm = avx2::layer_norm,
      .swiglu = avx2::swiglu,
  };
  return &table;
#else
  return nullptr;
#endif
}

}  // namespace qvl::kernels
