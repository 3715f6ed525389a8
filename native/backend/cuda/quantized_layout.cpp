#include "backend/cuda/quantized_layout.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "common/error.h"

namespace qvl::cuda {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

[[noreturn]] void fail(const QuantizedMatrixSpec& spec, const std::string& what) {
  throw Error("ERR_CHECKPOINT_UNSUPPORTED",
              "A quantised matrix of " + std::to_string(spec.out_features) + " x " +
                  std::to_string(spec.in_features) + " has " + what +
                  "; load the unquantised checkpoint, or use device 'cpu'.");
}

bool is_whole_row(const QuantizedMatrixSpec& spec) {
  return spec.group_size == 0 || spec.group_size >= spec.in_features;
}

void check(const QuantizedMatrixSpec& spec) {
  if (spec.bits != 4 && spec.bits != 8) {
    fail(spec,
         "codes of " + std::to_string(spec.bits) + " bits, where the CUDA kernels know 4 and 8");
  }
  if (spec.out_features <= 0 || spec.in_features <= 0 || spec.in_features % 8 != 0) {
    fail(spec, "a width that is no multiple of 8");
  }
  if (spec.group_size < 0 || (!is_whole_row(spec) && spec.group_size % 32 != 0)) {
    fail(spec, "groups of " + std::to_string(spec.group_size) +
                   " inputs, where the CUDA kernels know multiples of 32 and whole rows");
  }
  const int s = spec.segments;
  if ((s != 1 && s != 2 && s != 4 && s != 8) || spec.in_features % (8 * s) != 0) {
    fail(spec, std::to_string(s) + " segments, which do not divide it");
  }
  if (spec.pair_distance < 8 || spec.pair_distance > spec.out_features + 8) {
    fail(spec, "rows paired at a distance of " + std::to_string(spec.pair_distance));
  }
}

}  // namespace

QuantizedMatrixLayout::QuantizedMatrixLayout(const QuantizedMatrixSpec& spec) : spec_(spec) {
  check(spec);
  group_ = is_whole_row(spec) || spec.group_size % 128 == 0 ? 128 : 32;
  if (spec.segments > 1 && !is_whole_row(spec) && segment_columns() % group_ != 0) {
    fail(spec, "segments of " + std::to_string(segment_columns()) +
                   " inputs, which cut groups of " + std::to_string(spec.group_size));
  }
  unit_columns_ = spec.bits == 4 ? 128 : 64;
  segment_units_ = ceil_div(segment_columns(), kQuantizedPaddedColumns) * kQuantizedPaddedColumns /
                   unit_columns_;
  span_tiles_ = ceil_div(spec.pair_distance, 8);
  num_tiles_ = ceil_div(spec.out_features, 2 * spec.pair_distance) * span_tiles_;
  if (num_tiles_ * units() > std::numeric_limits<int32_t>::max()) fail(spec, "too many numbers");
}

int64_t QuantizedMatrixLayout::code_bytes() const {
  return num_tiles_ * units() * kQuantizedUnitBytes;
}
int64_t QuantizedMatrixLayout::scales_per_tile() const {
  return units() * unit_columns_ / group_ * kQuantizedTileRows;
}
int64_t QuantizedMatrixLayout::scale_bytes() const { return num_tiles_ * scales_per_tile() * 2; }
int64_t QuantizedMatrixLayout::zero_bytes() const {
  return spec_.has_zeros ? num_tiles_ * scales_per_tile() : 0;
}

QuantizedMatrix QuantizedMatrixLayout::matrix(const QuantizedArrays& arrays) const {
  QuantizedMatrix matrix{};
  matrix.codes = arrays.codes;
  matrix.scales = arrays.scales;
  matrix.zeros = spec_.has_zeros ? arrays.zeros : nullptr;
  matrix.out_features = static_cast<int32_t>(spec_.out_features);
  matrix.in_features = static_cast<int32_t>(spec_.in_features);
  matrix.pair_distance = static_cast<int32_t>(spec_.pair_distance);
  matrix.segments = spec_.segments;
  matrix.segment_units = static_cast<int32_t>(segment_units_);
  matrix.span_tiles = static_cast<int32_t>(span_tiles_);
  matrix.num_tiles = static_cast<int32_t>(num_tiles_);
  return matrix;
}

QuantizedMatrixLayout::Place QuantizedMatrixLayout::place(int64_t row) const {
  const int64_t distance = spec_.pair_distance;
  const int64_t span = row / (2 * distance), in_span = row % (2 * distance);
  const int64_t i = in_span % distance;
  return {span * span_tiles_ + i / 8, static_cast<int>(i % 8),
          static_cast<int>(in_span / distance)};
}

int64_t QuantizedMatrixLayout::scale_index(const Place& place, int64_t column) const {
  const int64_t block_columns = std::max(unit_columns_, group_);
  const int64_t block_scales = block_columns / group_;
  const int64_t segment = column / segment_columns(), in_segment = column % segment_columns();
  const int64_t blocks = segment_units_ * unit_columns_ / block_columns;  // of a segment
  const int64_t block =
      (place.tile * spec_.segments + segment) * blocks + in_segment / block_columns;
  return ((block * 8 + place.quad) * block_scales + in_segment % block_columns / group_) * 2 +
         place.half;
}

/// Four neighbouring columns of a row, which share a word.
void QuantizedMatrixLayout::write_codes(void* codes, const Place& place, int64_t column,
                                        const uint8_t* src, int64_t stride) const {
  const int64_t segment = column / segment_columns(), in_segment = column % segment_columns();
  const int64_t unit = place.tile * units() + segment * segment_units_ + in_segment / unit_columns_;
  const int64_t in_unit = in_segment % unit_columns_;
  const int64_t block = in_unit / 32, lane = place.quad * 4 + in_unit % 32 / 8;
  const int64_t product = in_unit % 8 / 4;
  const uint32_t q[4] = {src[0], src[stride], src[2 * stride], src[3 * stride]};
  uint32_t* words = static_cast<uint32_t*>(codes) + unit * (kQuantizedUnitBytes / 4);
  if (spec_.bits == 8) {
    words[(block * 32 + lane) * 4 + product * 2 + place.half] =
        q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24;
    return;
  }
  // The other row of the pair has the rest of the word, and perhaps another thread.
  const int shift = 4 * place.half;
  const uint32_t bits =
      q[0] << shift | q[1] << (16 + shift) | q[2] << (8 + shift) | q[3] << (24 + shift);
  std::atomic_ref word(words[(block / 2 * 32 + lane) * 4 + block % 2 * 2 + product]);
  word.fetch_or(bits, std::memory_order_relaxed);
}

void QuantizedMatrixLayout::write_group(const QuantizedArrays& host, int64_t group,
                                        int64_t first_row, int64_t num_rows, const uint8_t* codes,
                                        const uint16_t* scales, const uint8_t* zeros) const {
  const int64_t size = is_whole_row(spec_) ? spec_.in_features : spec_.group_size;
  const int64_t begin = group * size, end = std::min(begin + size, spec_.in_features);
  for (int64_t i = 0; i < num_rows; ++i) {
    const Place at = place(first_row + i);
    for (int64_t column = begin; column < end; column += 4) {
      write_codes(host.codes, at, column, codes + (column - begin) * num_rows + i, num_rows);
    }
    // A step of 8 meets every group of the layout, wherever segments end.
    for (int64_t column = begin; column < end; column += 8) {
      const int64_t index = scale_index(at, column);
      host.scales[index] = scales[i];
      if (spec_.has_zeros) host.zeros[index] = zeros[i];
    }
  }
}

void QuantizedMatrixLayout::write_panel(const QuantizedArrays& host,
                                        const kernels::QuantizedLayout& source, const void* panel,
                                        int64_t first_row, int64_t num_rows) const {
  constexpr int64_t kWidth = kernels::kPanelWidth;
  const auto* at = static_cast<const uint8_t*>(panel);
  std::vector<uint8_t> codes;
  for (int64_t group = 0; group < source.num_groups(); ++group) {
    const int64_t size = source.group_end(group) - source.group_begin(group);
    uint16_t scales[kWidth];
    std::memcpy(scales, at, sizeof scales);
    const uint8_t* zeros = at + sizeof scales;
    at += source.header_bytes();
    codes.resize(static_cast<size_t>(size * num_rows));
    for (int64_t k = 0; k < size; ++k) {
      const int64_t in_chunk = k % kernels::kChunk;
      const uint8_t* chunk = at + k / kernels::kChunk * source.chunk_bytes();
      for (int64_t n = 0; n < num_rows; ++n) {
        uint8_t& code = codes[static_cast<size_t>(k * num_rows + n)];
        if (source.bits == 8) {
          code = chunk[(in_chunk / 4 * kWidth + n) * 4 + in_chunk % 4];
        } else {
          code = static_cast<uint8_t>(chunk[n * 4 + in_chunk % 4] >> (in_chunk / 4 * 4) & 15);
        }
      }
    }
    at += ceil_div(size, kernels::kChunk) * source.chunk_bytes();
    write_group(host, group, first_row, num_rows, codes.data(), scales, zeros);
  }
}

QuantizedMatrixLayout::Launch QuantizedMatrixLayout::gemv_launch(int rows, bool is_normalized,
                                                                 size_t max_shared_bytes,
                                                                 int num_multiprocessors) const {
  // The multiprocessor's shared memory is the block's and 1 KB, of which every block takes as much.
  constexpr size_t kReserved = 1024;
  const size_t of_multiprocessor = max_shared_bytes + kReserved;
  const auto bytes = [&](int units) {
    return static_cast<size_t>(quantized_gemv_shared_bytes(units, unit_columns_, rows));
  };
  const auto resident = [&](size_t shared) {
    return std::min<size_t>(kQuantizedGemvBlocks, of_multiprocessor / (shared + kReserved));
  };
  // Three blocks of a large multiprocessor, two of a small one, keep enough loads on their way.
  const size_t wanted_blocks = max_shared_bytes >= (size_t{128} << 10) ? 3 : 2;
  const size_t budget =
      is_normalized ? max_shared_bytes : of_multiprocessor / wanted_blocks - kReserved;

  Launch launch;
  launch.staged_units = quantized_gemv_warp_units(matrix({}));
  if (bytes(launch.staged_units) > budget) {
    int units = launch.staged_units / kQuantizedGemvAhead * kQuantizedGemvAhead;
    while (units > kQuantizedGemvAhead && bytes(units) > budget) units -= kQuantizedGemvAhead;
    launch.staged_units = std::max(units, kQuantizedGemvAhead);
  }
  launch.shared_bytes = bytes(launch.staged_units);
  if (launch.shared_bytes > max_shared_bytes) {
    throw Error("ERR_INTERNAL", "A quantised product needs " + std::to_string(launch.shared_bytes) +
                                    " bytes of shared memory, the device has " +
                                    std::to_string(max_shared_bytes));
  }
  const auto at_once = static_cast<int64_t>(resident(launch.shared_bytes)) * num_multiprocessors;
  // As many blocks as make their numbers of tiles equal.
  launch.blocks = static_cast<unsigned>(ceil_div(num_tiles_, ceil_div(num_tiles_, at_once)));
  return launch;
}

}  // namespace qvl::cuda
