// Keys and values of new tokens into a head's key block [D][32] and value block [32][Dp].

#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/transpose.h"

namespace qvl::kernels {
namespace {

constexpr int64_t kChunk = 64;  // numbers of a row that are rounded and then transposed

template <Format kFormat>
struct Stored {
  using Type = uint16_t;
};
template <>
struct Stored<Format::kF32> {
  using Type = uint32_t;
};

template <Format kFormat>
void round_row(typename Stored<kFormat>::Type* to, const float* from, int64_t count) {
  if constexpr (kFormat == Format::kF32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  } else if constexpr (kFormat == Format::kBF16) {
    for (int64_t i = 0; i < count; ++i) to[i] = f32_to_bf16(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = f32_to_f16(from[i]);
  }
}

// Rows of k as columns of the key block; `keys` is at the first one's slot.
template <Format kFormat>
void store_keys(typename Stored<kFormat>::Type* keys, int64_t head_dim, int64_t count,
                const float* k, int64_t k_stride) {
  using T = typename Stored<kFormat>::Type;
  constexpr int64_t kSide = kSquareSide<T>;
  constexpr int64_t kSize = sizeof(T);
  T rounded[kSide][kChunk];
  const void* rows[kSide];
  for (int64_t token = 0; token < count; token += kSide) {
    const int64_t height = count - token < kSide ? count - token : kSide;
    for (int64_t d = 0; d < head_dim; d += kChunk) {
      const int64_t length = head_dim - d < kChunk ? head_dim - d : kChunk;
      for (int64_t i = 0; i < height; ++i) {
        const float* row = k + (token + i) * k_stride + d;
        rows[i] = row;
        if (kFormat == Format::kF32) continue;
        round_row<kFormat>(rounded[i], row, length);
        rows[i] = rounded[i];
      }
      T* const to = keys + d * kBlockTokens + token;
      int64_t done = 0;
      if (height == kSide) {
        for (; done + kSide <= length; done += kSide) {
          transpose_square(to + done * kBlockTokens, int64_t{kBlockTokens}, rows, done);
        }
      }
      for (; done < length; ++done) {
        for (int64_t i = 0; i < height; ++i) {
          std::memcpy(to + done * kBlockTokens + i,
                      static_cast<const char*>(rows[i]) + done * kSize, sizeof(T));
        }
      }
    }
  }
}

template <Format kFormat>
void store_kv_in(void* key_block, void* value_block, int64_t head_dim, int64_t first_slot,
                 int64_t count, const float* k, int64_t k_stride, const float* v,
                 int64_t v_stride) {
  using T = typename Stored<kFormat>::Type;
  store_keys<kFormat>(static_cast<T*>(key_block) + first_slot, head_dim, count, k, k_stride);
  const int64_t padded = padded_head_dim(head_dim);
  for (int64_t i = 0; i < count; ++i) {
    T* const to = static_cast<T*>(value_block) + (first_slot + i) * padded;
    round_row<kFormat>(to, v + i * v_stride, head_dim);
    for (int64_t d = head_dim; d < padded; ++d) to[d] = 0;
  }
}

}  // namespace

void store_kv(void* key_block, void* value_block, Format format, int64_t head_dim,
              int64_t first_slot, int64_t count, const float* k, int64_t k_stride, const float* v,
              int64_t v_stride) {
  with_format(format, [&](auto constant) {
    store_kv_in<decltype(constant)::value>(key_block, value_block, head_dim, first_slot, count, k,
                                           k_stride, v, v_stride);
  });
}

}  // namespace qvl::kernels
