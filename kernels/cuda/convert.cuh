#pragma once

#include "convert.h"
#include "device.cuh"

namespace qvl {

// A thread converts 8 neighbours: 32 bytes in, 16 out.
template <class W>
QVL_DEVICE void convert(const ConvertParams& p) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kConvertThreads + threadIdx.x) * 8;
  W* dst = static_cast<W*>(p.dst);
  if (first + 8 <= p.count) {
    float v[8];
    const uint4 lower = load_16(p.src + first), upper = load_16(p.src + first + 4);
    const uint32_t words[8] = {lower.x, lower.y, lower.z, lower.w,
                               upper.x, upper.y, upper.z, upper.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = __uint_as_float(words[i]);
    store_16(dst + first, pack_8<W>(v));
    return;
  }
#pragma unroll 1
  for (int64_t i = first; i < p.count; ++i) dst[i] = Element<W>::from_float(p.src[i]);
}

}  // namespace qvl
