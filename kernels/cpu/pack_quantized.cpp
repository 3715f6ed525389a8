// Codes that somebody else has made, into the panels of quantized.h.

#include "kernels/cpu/pack_quantized.h"

#include <cstring>

#include "kernels/cpu/linear_quantized.h"

namespace qvl::kernels {
namespace {

// Eight inputs of some outputs of a panel: a row of codes each.
struct Chunk {
  const uint8_t* inputs[kChunk];

  uint32_t code(int64_t input, int64_t lane) const { return inputs[input][lane]; }
};

// to [count][4] = the eight inputs in pairs; see quantized.h.
void store_nibbles(char* to, const Chunk& chunk, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) {
    const auto pair = [&](int64_t i) { return chunk.code(i, lane) | chunk.code(4 + i, lane) << 4; };
    const uint32_t word = pair(0) | pair(1) << 8 | pair(2) << 16 | pair(3) << 24;
    std::memcpy(to + 4 * lane, &word, sizeof(word));
  }
}

// to [count][4] = inputs [first, first + 4).
void store_bytes(char* to, const Chunk& chunk, int64_t first, int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) {
    const auto byte = [&](int64_t i) { return chunk.code(first + i, lane); };
    const uint32_t word = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
    std::memcpy(to + 4 * lane, &word, sizeof(word));
  }
}

}  // namespace

void pack_quantized(void* panels, const QuantizedLayout& layout, int64_t group, int64_t first_row,
                    int64_t num_rows, const uint8_t* codes, const uint16_t* scales,
                    const uint8_t* zeros) {
  const int64_t inputs = layout.group_end(group) - layout.group_begin(group);
  uint8_t padding[kPanelWidth];
  std::memset(padding, layout.symmetric_zero(), sizeof(padding));
  for (int64_t done = 0; done < num_rows;) {
    const int64_t lane = (first_row + done) % kPanelWidth;
    const int64_t room = kPanelWidth - lane;
    const int64_t count = room < num_rows - done ? room : num_rows - done;
    char* data =
        const_cast<char*>(group_data(panels, layout, (first_row + done) / kPanelWidth, group));
    std::memcpy(data + 2 * lane, scales + done, static_cast<size_t>(2 * count));
    if (zeros != nullptr) {
      std::memcpy(data + 64 + lane, zeros + done, static_cast<size_t>(count));
      std::memcpy(padding, zeros + done, static_cast<size_t>(count));
    }
    char* to = data + layout.header_bytes() + 4 * lane;
    for (int64_t k = 0; k < inputs; k += kChunk) {
      Chunk chunk;
      for (int64_t i = 0; i < kChunk; ++i) {
        chunk.inputs[i] = k + i < inputs ? codes + (k + i) * num_rows + done : padding;
      }
      if (layout.bits == 4) {
        store_nibbles(to, chunk, count);
      } else {
        store_bytes(to, chunk, 0, count);
        store_bytes(to + layout.chunk_bytes() / 2, chunk, 4, count);
      }
      to += layout.chunk_bytes();
    }
    done += count;
  }
}

}  // namespace qvl::kernels
