// Feeds arbitrary shapes, types and bytes of AWQ and GPTQ tensors to their reader. Whatever is
// accepted must be taken apart within its bounds, whatever is not must be refused with a documented
// code.
//
// The first bytes choose the format and the widths, then changes to the shapes that belong to them;
// the rest, repeated, is what the tensors hold.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "io/safetensors.h"
#include "model/quantized_reader.h"
#include "model/quantized_tensor.h"

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

/// Takes bytes of the input one after the other; zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t next() { return at_ < size_ ? data_[at_++] : uint8_t{0}; }
  /// The rest, again and again.
  std::string repeated(size_t count) const {
    std::string bytes(count, '\0');
    for (size_t i = 0; i < count && at_ < size_; ++i) {
      bytes[i] = static_cast<char>(data_[at_ + i % (size_ - at_)]);
    }
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
};

/// A file in memory, with the path of its descriptor.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes) : descriptor_(memfd_create("fuzz", 0)) {
    require(descriptor_ >= 0, "memory for a file");
    require(write(descriptor_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
            "the file is written");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

std::string file_of(const std::vector<Tensor>& tensors, const Input& input) {
  std::string header = "{";
  size_t offset = 0;
  for (const Tensor& tensor : tensors) {
    size_t bytes = tensor.dtype == "F16" || tensor.dtype == "BF16" ? 2 : 4;
    std::string shape;
    for (const int64_t side : tensor.shape) {
      bytes *= static_cast<size_t>(side);
      shape += (shape.empty() ? "" : ",") + std::to_string(side);
    }
    header += (offset == 0 ? "\"" : ",\"") + tensor.name + "\":{\"dtype\":\"" + tensor.dtype +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + bytes) + "]}";
    offset += bytes;
  }
  header += "}";
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(uint64_t{header.size()} >> (8 * i));
  return file + header + input.repeated(offset);
}

/// Takes every block apart and looks at what the backend will rely on.
void check_blocks(const qvl::QuantizedTensor& tensor) {
  qvl::QuantizedReader reader;
  const int64_t rows = tensor.out_features();
  const unsigned most = (1u << tensor.format().bits) - 1;
  reader.read(tensor, {0, tensor.num_groups(), 0, rows});
  for (int64_t group = 0; group < tensor.num_groups(); ++group) {
    const int64_t inputs = tensor.group_begin(group + 1) - tensor.group_begin(group);
    require(inputs > 0, "no group is empty");
    const qvl::QuantizedReader::Block block = reader.decode(group, 0, rows);
    for (int64_t i = 0; i < inputs * rows; ++i) {
      require(block.codes[i] <= most, "codes fit their bits");
    }
    for (int64_t i = 0; i < rows; ++i) {
      require((block.scales[i] & 0x7c00u) != 0x7c00u, "scales are finite");
      require(block.zeros == nullptr || block.zeros[i] <= most, "zero points fit their bits");
    }
  }
}

void run(Input input) {
  const uint8_t kind = input.next();
  const bool is_awq = kind % 3 == 0;
  const int bits = kind % 3 == 2 ? 8 : 4;
  constexpr int64_t kGroups[] = {32, 64, 128, 0};
  const qvl::StoredQuantization format{
      is_awq ? qvl::StoredQuantization::Method::kAwq : qvl::StoredQuantization::Method::kGptq, bits,
      kGroups[kind / 3 % 4], kind % 2 == 1};
  const int64_t out = input.next() % 80 + 1;
  const int64_t in = input.next() + 1;
  const int64_t groups =
      format.group_size == 0 ? 1 : (in + format.group_size - 1) / format.group_size;
  const int64_t per_word = 32 / bits;
  std::vector<Tensor> tensors = {
      {"qweight", "I32", is_awq ? std::vector{in, out / 8} : std::vector{in / per_word, out}},
      {"qzeros", "I32", {groups, out / per_word}},
      {"scales", "F16", {groups, out}},
      {"g_idx", "I32", {in}},
  };
  constexpr const char* kDtypes[] = {"I32", "F16", "BF16", "F32", "U32"};
  const uint8_t change = input.next();
  Tensor& changed = tensors[change % 4];
  if (change & 0x40) changed.dtype = kDtypes[input.next() % 5];
  if (change & 0x80) changed.shape[change / 4 % changed.shape.size()] = input.next();
  const MemoryFile file(file_of(tensors, input));
  try {
    const auto checkpoint = qvl::Checkpoint::open({file.path()});
    qvl::QuantizedEntries entries{checkpoint->find("qweight"), checkpoint->find("qzeros"),
                                  checkpoint->find("scales"), nullptr};
    if (change & 0x20) entries.g_idx = checkpoint->find("g_idx");
    check_blocks(qvl::QuantizedTensor(*checkpoint, format, entries, out, in));
  } catch (const qvl::Error& error) {
    require(error.code().rfind("ERR_CHECKPOINT_", 0) == 0, "the code is a documented one");
    require(std::string_view(error.what()).size() < 2000, "messages stay short");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  run(Input(data, size));
  return 0;
}
