#pragma once

#include <cstdint>

namespace qvl {

// Between F32 and the 16-bit types: patches from the host, and weights whose file has another type.
constexpr int kConvertThreads = 256;
// Numbers a block converts.
constexpr int kConvertChunk = kConvertThreads * 8;

// dst[i] = src[i], rounded to nearest even, for i < count. Grid: ceil(count / kConvertChunk).
struct ConvertParams {
  const float* src;
  void* dst;  // W, 16-byte aligned, as src is
  int64_t count;
};

}  // namespace qvl
