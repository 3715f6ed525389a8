#include "kernels/cpu/attention.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_quantized.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/swiglu.h"

namespace qvl::kernels {

// Each is defined in the file of its instruction set.
const KernelTable* avx2_kernels();
const KernelTable* avx_vnni_kernels();
const KernelTable* avx512_kernels();
const KernelTable* avx512_vnni_kernels();
const KernelTable* neon_kernels();
const KernelTable* neon_dotprod_kernels();
const KernelTable* sse42_kernels();

const KernelTable& scalar_kernels() {
  static constexpr const char* kNothing[] = {nullptr};
  // The scalar `linear` takes any number of rows, so the packed way is never asked for.
  static constexpr KernelTable table = {
      .name = "scalar",
      .processor_features = kNothing,
      .has_scalar_bits = true,
      .linear = scalar::linear,
      .max_unpacked_rows = INT64_MAX,
      .pack_rows = nullptr,
      .num_row_tiles = nullptr,
      .linear_packed = nullptr,
      .linear_scratch_floats = 0,
      .panels_at_once = 1,
      .linear_quantized = scalar::linear,
      .max_unpacked_quantized_rows = INT64_MAX,
      .linear_quantized_packed = nullptr,
      .quantize_rows = scalar::quantize_rows,
      .linear_int8 = scalar::linear_int8,
      .max_int8_rows = scalar::kMaxInt8Rows,
      .attention = scalar::attention,
      .attention_parts = scalar::attention_parts,
      .merge_attention = scalar::merge_attention,
      .max_attention_rows = scalar::kMaxAttentionRows,
      .attention_scratch_floats = scalar::attention_scratch_floats,
      .rms_norm = scalar::rms_norm,
      .layer_norm = scalar::layer_norm,
      .swiglu = scalar::swiglu,
      .rope = scalar::rope,
  };
  return table;
}

std::span<const KernelTable* const> compiled_kernels() {
  static const KernelTable* const tables[] = {
#if defined(__x86_64__) || defined(_M_X64)
    avx512_vnni_kernels(),
    avx512_kernels(),
    avx_vnni_kernels(),
    avx2_kernels(),
    sse42_kernels(),
#elif defined(__aarch64__) || defined(_M_ARM64)
    neon_dotprod_kernels(),
    neon_kernels(),
#endif
    &scalar_kernels(),
  };
  return tables;
}

}  // namespace qvl::kernels
