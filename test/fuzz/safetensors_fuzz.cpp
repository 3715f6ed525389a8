// Feeds arbitrary bytes to the safetensors reader. Whatever is accepted must be consistent;
// whatever is not must be refused with one of the documented codes.
//
// The input is the JSON text of a header. As the size of the data section the largest number in the
// text is tried, which gives valid offsets a chance to fit, and 0.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/error.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

/// The largest run of digits as a number: a data size that gives the offsets a chance to fit.
uint64_t largest_number(std::string_view text) {
  uint64_t largest = 0;
  uint64_t current = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9' && current < UINT64_MAX / 10 - 1) {
      current = current * 10 + static_cast<uint64_t>(c - '0');
      largest = std::max(largest, current);
    } else {
      current = 0;
    }
  }
  return largest;
}

/// Counts the bytes of a tensor once more, in 128 bits, where nothing wraps.
void check_entry(const qvl::TensorEntry& entry) {
  unsigned __int128 bits = 1;
  bool empty = false;
  for (const int64_t dim : entry.shape) {
    require(dim >= 0, "dimensions are not negative");
    if (dim == 0) empty = true;
    if (dim > 0) bits *= static_cast<uint64_t>(dim);
    require(bits <= static_cast<unsigned __int128>(INT64_MAX), "the product fits int64");
  }
  const std::string& dtype = entry.dtype;
  const auto ends_with = [&](std::string_view s) {
    return dtype.size() >= s.size() && dtype.compare(dtype.size() - s.size(), s.size(), s) == 0;
  };
  const unsigned width = dtype == "BOOL" || dtype[1] == '8' || dtype.rfind("F8", 0) == 0 ? 8
                         : dtype.rfind("F6_", 0) == 0                                    ? 6
                         : dtype == "F4"                                                 ? 4
                         : ends_with("16")                                               ? 16
                         : ends_with("32")                                               ? 32
                                                                                         : 64;
  bits = empty ? 0 : bits * width;
  require(entry.begin <= entry.end, "a range is not backwards");
  require(bits % 8 == 0 && bits / 8 == entry.end - entry.begin, "shape and dtype give the bytes");
}

void fuzz_header(std::string_view text, uint64_t data_size) {
  try {
    uint64_t end = 0;
    for (const qvl::TensorEntry& entry : qvl::parse_safetensors_header(text, data_size, "f")) {
      check_entry(entry);
      require(entry.begin == end, "ranges follow each other without hole or overlap");
      end = entry.end;
    }
    require(end == data_size, "ranges cover the data");
  } catch (const qvl::Error& error) {
    require(error.code().rfind("ERR_CHECKPOINT_", 0) == 0, "the code is a documented one");
    require(std::string_view(error.what()).size() < 2000, "messages stay short");
  }
}

void fuzz_json(std::string_view text) {
  try {
    qvl::JsonReader json(text, {.error_code = "ERR_JSON", .source = "f"});
    json.skip_value();
    json.finish();
  } catch (const qvl::Error& error) {
    require(error.code() == "ERR_JSON", "the code is the given one");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz_json(text);
  fuzz_header(text, largest_number(text));
  fuzz_header(text, 0);
  return 0;
}
