#pragma once

// Rows by number. A block owns a row, a thread 8 numbers or 16 bytes of it at a time.

#include "device.cuh"
#include "rows.h"

namespace qvl {

template <class W>
QVL_DEVICE void embed(const EmbedParams& p) {
  wait_for_predecessor();
  release_successor();
  const int64_t row = blockIdx.x;
  const W* src = static_cast<const W*>(p.weight) + static_cast<int64_t>(p.ids[row]) * p.cols;
  float* dst = p.out + row * p.out_stride;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < p.cols; i += kRowsThreads * 8) {
    float v[8];
    unpack_8<W>(v, load_16(src + i));
    uint32_t bits[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) bits[j] = __float_as_uint(v[j]);
    store_16(dst + i, make_uint4(bits[0], bits[1], bits[2], bits[3]));
    store_16(dst + i + 4, make_uint4(bits[4], bits[5], bits[6], bits[7]));
  }
}

QVL_DEVICE void copy_row(const CopyRowsParams& p) {
  wait_for_predecessor();
  release_successor();
  const int64_t i = blockIdx.x;
  const int64_t from = p.src_rows == nullptr ? i : p.src_rows[i];
  const int64_t to = p.dst_rows == nullptr ? i : p.dst_rows[i];
  const char* src = static_cast<const char*>(p.src) + from * p.src_stride;
  char* dst = static_cast<char*>(p.dst) + to * p.dst_stride;
  // Left to nvcc, the unrolled loop spills registers on sm_100.
#pragma unroll 2
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * 16; at < p.row_bytes;
       at += kRowsThreads * 16) {
    store_16(dst + at, load_16(src + at));
  }
}

}  // namespace qvl
