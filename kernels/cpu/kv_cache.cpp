// Keys and values of new tokens into a head's key block [D][32] and value block [32][Dp].

#include "kernels/cpu/convert.h"

namespace qvl::kernels {

void store_kv(void* key_block, void* value_block, Format format, int64_t head_dim,
              int64_t first_slot, int64_t count, const float* k, int64_t k_stride, const float* v,
              int64_t v_stride) {
  const int64_t padded = padded_head_dim(head_dim);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t slot = first_slot + i;
    const int64_t value_base = slot * padded;
    for (int64_t d = 0; d < head_dim; ++d) {
      store(key_block, format, d * kBlockTokens + slot, k[i * k_stride + d]);
      store(value_block, format, value_base + d, v[i * v_stride + d]);
    }
    for (int64_t d = head_dim; d < padded; ++d) store(value_block, format, value_base + d, 0.0f);
  }
}

}  // namespace qvl::kernels
