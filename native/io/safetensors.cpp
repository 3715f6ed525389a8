#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "io/json.h"

namespace qvl {
namespace {

constexpr uint64_t kLengthBytes = 8;  // the header's length, little-endian

struct DtypeSize {
  std::string_view name;
  uint64_t bits;
};

// Every type of the format. Which of them the model can use is the model's business.
constexpr DtypeSize kDtypes[] = {
    {"BOOL", 8},    {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16},    {"BF16", 16},
    {"I32", 32},    {"U32", 32}, {"F32", 32}, {"F64", 64},    {"I64", 64},
    {"U64", 64},    {"C64", 64}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

/// A name from a file as it may stand in a message: control characters replaced, long ones cut.
std::string printable(std::string_view name) {
  constexpr size_t kMaxBytes = 200;
  size_t size = std::min(name.size(), kMaxBytes);
  // Do not cut a UTF-8 sequence in two.
  while (size < name.size() && size > 0 && (static_cast<unsigned char>(name[size]) & 0xC0) == 0x80)
    --size;
  std::string out(name.substr(0, size));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  if (size < name.size()) out += "...";
  return out;
}

std::string text(uint64_t value) { return std::to_string(value); }

[[noreturn]] void fail_file(const std::string& code, const std::string& file,
                            const std::string& what) {
  throw Error(code, file + ": " + what, {{"file", file}});
}

[[noreturn]] void fail_tensor(const std::string& code, const std::string& file,
                              std::string_view tensor, const std::string& what) {
  const std::string name = printable(tensor);
  throw Error(code, file + ": tensor '" + name + "': " + what, {{"file", file}, {"tensor", name}});
}

/// Number of elements; empty when a product of dimensions does not fit int64, in whatever order it
/// is taken (so a zero does not excuse the others).
std::optional<uint64_t> element_count(const std::vector<int64_t>& shape) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  uint64_t count = 1;
  bool empty = false;
  for (const int64_t dim : shape) {
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (count > kMax / static_cast<uint64_t>(dim)) return std::nullopt;
    count *= static_cast<uint64_t>(dim);
  }
  return empty ? 0 : count;
}

/// Reads one entry of the header: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}.
class EntryReader {
 public:
  EntryReader(JsonReader& json, const std::string& file, const std::string& name)
      : json_(json), file_(file) {
    entry_.name = name;
  }

  TensorEntry read() {
    if (json_.kind() != JsonKind::kObject) {
      fail("ERR_CHECKPOINT_HEADER", "its entry is not an object with dtype, shape, data_offsets");
    }
    json_.read_object([&](const std::string& key) { read_field(key); });
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      const char* missing = !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets";
      fail("ERR_CHECKPOINT_HEADER", std::string("its entry has no ") + missing);
    }
    check();
    return std::move(entry_);
  }

 private:
  [[noreturn]] void fail(const char* code, const std::string& what) const {
    fail_tensor(code, file_, entry_.name, what);
  }

  void read_field(const std::string& key) {
    if (key == "dtype") {
      read_dtype();
      has_dtype_ = true;
    } else if (key == "shape") {
      read_integers("ERR_CHECKPOINT_SHAPE", "dimension",
                    [&](int64_t value) { entry_.shape.push_back(value); });
      has_shape_ = true;
    } else if (key == "data_offsets") {
      read_offsets();
      has_offsets_ = true;
    } else {
      json_.skip_value();  // the reference library ignores them too
    }
  }

  void read_dtype() {
    if (json_.kind() != JsonKind::kString) fail("ERR_CHECKPOINT_HEADER", "dtype is not a string");
    entry_.dtype = json_.read_string();
    const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const DtypeSize& d) { return d.name == entry_.dtype; });
    if (known == std::end(kDtypes)) {
      fail("ERR_CHECKPOINT_DTYPE", "unknown dtype '" + printable(entry_.dtype) +
                                       "'; expected one of the format's, such as BF16, F16 or F32");
    }
    bits_ = known->bits;
  }

  template <class Take>
  void read_integers(const char* code, const char* what, const Take& take) {
    if (json_.kind() != JsonKind::kArray) {
      fail("ERR_CHECKPOINT_HEADER", std::string("the list of its ") + what + "s is not an array");
    }
    json_.read_array([&] {
      if (json_.kind() != JsonKind::kNumber) {
        fail("ERR_CHECKPOINT_HEADER", std::string("a ") + what + " is not a number");
      }
      const std::string_view number = json_.read_number();
      const std::optional<int64_t> value = json_int64(number);
      if (!value || *value < 0) {
        fail(code, std::string(what) + " " + printable(number) +
                       " found; expected an integer between 0 and 2^63 - 1");
      }
      take(*value);
    });
  }

  void read_offsets() {
    std::array<uint64_t, 2> offsets = {};
    size_t count = 0;
    read_integers("ERR_CHECKPOINT_OFFSETS", "data offset", [&](int64_t value) {
      if (count < offsets.size()) offsets[count] = static_cast<uint64_t>(value);
      ++count;
    });
    if (count != offsets.size()) {
      fail("ERR_CHECKPOINT_OFFSETS", text(count) + " data offsets found; expected begin and end");
    }
    entry_.begin = offsets[0];
    entry_.end = offsets[1];
  }

  void check() const {
    const std::string range = text(entry_.begin) + " to " + text(entry_.end);
    if (entry_.begin > entry_.end) {
      fail("ERR_CHECKPOINT_OFFSETS", "its data goes from byte " + range +
                                         ", backwards. The file is damaged; download it again");
    }
    const std::string shape = entry_.dtype + " " + shape_text(entry_.shape);
    const std::optional<uint64_t> count = element_count(entry_.shape);
    if (!count || *count > std::numeric_limits<int64_t>::max() / bits_) {
      fail("ERR_CHECKPOINT_SHAPE", shape + " has more bytes than any file can hold");
    }
    if (*count * bits_ % 8 != 0) {
      fail("ERR_CHECKPOINT_SHAPE", shape + " does not fill whole bytes");
    }
    const uint64_t expected = *count * bits_ / 8;
    if (expected != entry_.end - entry_.begin) {
      fail("ERR_CHECKPOINT_SHAPE", shape + " needs " + text(expected) + " bytes; its data has " +
                                       text(entry_.end - entry_.begin) + " (byte " + range +
                                       "). The file is damaged; download it again");
    }
  }

  JsonReader& json_;
  const std::string& file_;
  TensorEntry entry_;
  uint64_t bits_ = 8;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

void skip_metadata(JsonReader& json) {
  if (json.kind() == JsonKind::kNull) return json.read_null();
  if (json.kind() != JsonKind::kObject) json.fail("__metadata__ is not an object");
  json.read_object([&](const std::string&) {
    if (json.kind() != JsonKind::kString) json.fail("a value of __metadata__ is not a string");
    json.read_string();
  });
}

/// Sorted entries must tile [0, data_size): a hole could hide data and an overlap is never written.
void check_layout(const std::vector<TensorEntry>& sorted, uint64_t data_size,
                  const std::string& file) {
  uint64_t end = 0;
  for (const TensorEntry& entry : sorted) {
    if (entry.begin != end) {
      fail_tensor("ERR_CHECKPOINT_OFFSETS", file, entry.name,
                  "its data begins at byte " + text(entry.begin) + " of the data section; " +
                      (entry.begin < end ? "the tensor before it ends" : "expected it") + " at " +
                      text(end) + (entry.begin < end ? " (overlap)" : " (hole)") +
                      ". The file is damaged; download it again");
    }
    end = entry.end;
  }
  if (end > data_size) {
    fail_file("ERR_CHECKPOINT_TRUNCATED", file,
              "its header describes " + text(end) + " bytes of tensor data; the file has " +
                  text(data_size) + " (" + text(end - data_size) +
                  " missing). The download is incomplete; download the file again");
  }
  if (end < data_size) {
    fail_file("ERR_CHECKPOINT_OFFSETS", file,
              "its header describes " + text(end) + " bytes of tensor data; the file has " +
                  text(data_size) + " (" + text(data_size - end) +
                  " that no tensor covers). The file is damaged; download it again");
  }
}

/// What a file that is not safetensors probably is, judged by its first bytes.
std::string format_hint(std::string_view start) {
  static constexpr std::pair<std::string_view, std::string_view> kSigns[] = {
      {"version https://git-lfs",
       "This is a Git LFS pointer, not the weights: run `git lfs pull`, or download the file "
       "itself"},
      {"<!DOCTYPE", "This is an HTML page, not the weights: download the raw file"},
      {"<!doctype", "This is an HTML page, not the weights: download the raw file"},
      {"<html", "This is an HTML page, not the weights: download the raw file"},
      {"PK\x03\x04", "This looks like a PyTorch file: convert it to safetensors"},
      {"\x80\x02", "This looks like a pickled PyTorch file: convert it to safetensors"},
      {"GGUF", "This is a GGUF file; expected the safetensors of a Hugging Face folder"},
  };
  while (!start.empty() && (start[0] == '\n' || start[0] == '\r' || start[0] == ' ')) {
    start.remove_prefix(1);
  }
  for (const auto& [sign, hint] : kSigns) {
    if (start.substr(0, sign.size()) == sign) return std::string(hint);
  }
  return "Download the file again, or convert it to safetensors";
}

/// Reads the length and the JSON text, trusting neither.
std::string read_header(const InputFile& input, const std::string& file) {
  std::array<char, 64> start = {};
  const uint64_t got =
      input.read_at(0, std::min<uint64_t>(start.size(), input.size()), start.data());
  const std::string hint = format_hint({start.data(), static_cast<size_t>(got)});
  if (got < kLengthBytes) {
    fail_file("ERR_CHECKPOINT_TRUNCATED", file,
              "has " + text(got) + " bytes; a safetensors file has at least 8. " + hint);
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= uint64_t{static_cast<unsigned char>(start[i])} << (8 * i);
  }
  const uint64_t rest = input.size() - kLengthBytes;
  const bool json_follows = got == kLengthBytes || start[kLengthBytes] == '{';
  const std::string found = "its first 8 bytes give a header of " + text(length) + " bytes; ";
  if (length > kMaxSafetensorsHeaderBytes) {
    fail_file("ERR_CHECKPOINT_HEADER", file,
              found + "at most " + text(kMaxSafetensorsHeaderBytes) + " are sensible. " + hint);
  }
  if (length < 2 || !json_follows) {
    fail_file("ERR_CHECKPOINT_HEADER", file,
              found + "expected one that is a JSON object and follows at once. " + hint);
  }
  if (length > rest) {
    fail_file("ERR_CHECKPOINT_TRUNCATED", file,
              found + "the file has only " + text(rest) +
                  " more. The download is incomplete; download the file again");
  }
  std::string header(static_cast<size_t>(length), '\0');
  if (input.read_at(kLengthBytes, length, header.data()) != length) {
    fail_file("ERR_CHECKPOINT_TRUNCATED", file, "became shorter while its header was read");
  }
  return header;
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  constexpr size_t kMaxDims = 8;
  std::string out = "[";
  for (size_t i = 0; i < std::min(shape.size(), kMaxDims); ++i) {
    out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return out + (shape.size() > kMaxDims ? ", ...]" : "]");
}

std::vector<TensorEntry> parse_safetensors_header(std::string_view header, uint64_t data_size,
                                                  const std::string& file_name) {
  if (header.size() > kMaxSafetensorsHeaderBytes) {
    fail_file("ERR_CHECKPOINT_HEADER", file_name,
              "a header of " + text(header.size()) + " bytes; at most " +
                  text(kMaxSafetensorsHeaderBytes) + " are sensible");
  }
  JsonReader json(header, {.error_code = "ERR_CHECKPOINT_HEADER", .source = file_name});
  // The format allows padding behind the object, not before it.
  if (header.empty() || header[0] != '{') json.fail("a header must begin with '{'");

  std::vector<TensorEntry> entries;
  json.read_object(
      [&](const std::string& key) {
        if (key == "__metadata__") return skip_metadata(json);
        entries.push_back(EntryReader(json, file_name, key).read());
      },
      [&](const std::string& key) {
        fail_tensor("ERR_CHECKPOINT_DUPLICATE_TENSOR", file_name, key,
                    "the header names it twice. The file is damaged; download it again");
      });
  json.finish();

  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_layout(entries, data_size, file_name);
  return entries;
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    throw Error("ERR_CHECKPOINT_MISSING_FILE",
                "no weight file is given; expected model.safetensors or the shards that "
                "model.safetensors.index.json names");
  }
  std::shared_ptr<Checkpoint> checkpoint(new Checkpoint());
  for (const std::string& path : paths) {
    const InputFile& input = checkpoint->inputs_.emplace_back(path);
    checkpoint->paths_.push_back(path);
    const std::string header = read_header(input, path);
    const uint64_t data_start = kLengthBytes + header.size();
    for (TensorEntry& entry : parse_safetensors_header(header, input.size() - data_start, path)) {
      entry.begin += data_start;
      entry.end += data_start;
      entry.file = static_cast<int>(checkpoint->inputs_.size()) - 1;
      const auto [at, is_new] = checkpoint->tensors_.try_emplace(entry.name, std::move(entry));
      if (!is_new) {
        fail_tensor("ERR_CHECKPOINT_DUPLICATE_TENSOR", path, at->first,
                    "'" + checkpoint->paths_[static_cast<size_t>(at->second.file)] +
                        "' holds it too; expected every tensor in one shard only. Remove the file "
                        "that does not belong to the checkpoint");
      }
    }
  }
  return checkpoint;
}

const TensorEntry* Checkpoint::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? nullptr : &at->second;
}

void Checkpoint::read(const TensorEntry& tensor, uint64_t offset, uint64_t size, void* out) const {
  const uint64_t bytes = tensor.end - tensor.begin;
  if (tensor.file < 0 || static_cast<size_t>(tensor.file) >= inputs_.size() || offset > bytes ||
      size > bytes - offset) {
    throw Error("ERR_INVALID_ARGUMENT", "bytes " + text(offset) + " + " + text(size) +
                                            " were asked of tensor '" + printable(tensor.name) +
                                            "', which has " + text(bytes));
  }
  const auto file = static_cast<size_t>(tensor.file);
  const uint64_t got = inputs_[file].read_at(tensor.begin + offset, size, out);
  if (got != size) {
    fail_tensor(
        "ERR_CHECKPOINT_TRUNCATED", paths_[file], tensor.name,
        text(got) + " bytes read where " + text(size) +
            " were expected: the file became shorter after it was opened. Download it again");
  }
}

void Checkpoint::prefetch(const TensorEntry& tensor, uint64_t offset, uint64_t size) const {
  inputs_.at(static_cast<size_t>(tensor.file)).prefetch(tensor.begin + offset, size);
}

CheckpointMapping::CheckpointMapping(std::shared_ptr<const Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)) {
  for (const InputFile& input : checkpoint_->inputs_) {
    states_.push_back({input.size(), input.state().modified_ns});
    mappings_.emplace_back(input);
  }
  check_unchanged();
}

const void* CheckpointMapping::data(const TensorEntry& tensor) const {
  const FileMapping& mapping = mappings_.at(static_cast<size_t>(tensor.file));
  // The header's check has the tensor end inside of the file.
  return mapping.data() + tensor.begin;
}

void CheckpointMapping::check_unchanged() const {
  for (size_t i = 0; i < states_.size(); ++i) {
    const InputFile::State now = checkpoint_->inputs_[i].state();
    if (now == states_[i]) continue;
    const std::string& file = checkpoint_->paths_[i];
    if (now.size < states_[i].size) {
      fail_file("ERR_CHECKPOINT_TRUNCATED", file,
                "has " + text(now.size) + " bytes; it had " + text(states_[i].size) +
                    " when it was mapped. Restore it and load again; to replace the file of a "
                    "model that is in use, write a new one and rename it");
    }
    fail_file("ERR_CHECKPOINT_CHANGED", file,
              "was written to while it is mapped. Load again; to replace the file of a model that "
              "is in use, write a new one and rename it");
  }
}

}  // namespace qvl
