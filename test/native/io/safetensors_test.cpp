// Every way in which a weight file can be wrong has its own code and a message with the way out.

#include "io/safetensors.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "check.h"

namespace qvl {
namespace {

namespace fs = std::filesystem;

/// A folder of its own, gone at the end of the test.
class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> next{0};
    do {
      path_ = fs::temp_directory_path() / ("qvl-safetensors-test-" + std::to_string(next++));
    } while (!fs::create_directory(path_));
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path(name);
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string length_bytes(uint64_t length) {
  std::string out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(length >> (8 * i)));
  return out;
}

std::string safetensors(std::string_view header, std::string_view data) {
  return length_bytes(header.size()) + std::string(header) + std::string(data);
}

std::vector<TensorEntry> parse(std::string_view header, uint64_t data_size) {
  return parse_safetensors_header(header, data_size, "w.safetensors");
}

void check_has(const std::string& message, std::string_view part) {
  if (message.find(part) == std::string::npos) CHECK_EQ(message, std::string(part));
}

/// A header with one tensor "a" of these fields.
std::string entry(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return R"({"a":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) +
         R"(,"data_offsets":)" + std::string(offsets) + "}}";
}

constexpr std::string_view kTwoTensors =
    R"({"b":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]},)"
    R"("__metadata__":{"format":"pt"},)"
    R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )";

}  // namespace

TEST(reads_entries_in_the_order_of_their_data) {
  const std::vector<TensorEntry> entries = parse(kTwoTensors, 8);
  CHECK_EQ(entries.size(), size_t{2});
  CHECK_EQ(entries[0].name, "a");
  CHECK_EQ(entries[0].dtype, "F32");
  CHECK(entries[0].shape.empty());
  CHECK_EQ(entries[0].begin, uint64_t{0});
  CHECK_EQ(entries[0].end, uint64_t{4});
  CHECK_EQ(entries[1].name, "b");
  CHECK(entries[1].shape == (std::vector<int64_t>{2, 2}));
  CHECK_EQ(entries[1].begin, uint64_t{4});
  CHECK_EQ(entries[1].end, uint64_t{8});
}

TEST(accepts_empty_headers_and_empty_tensors) {
  CHECK(parse("{}", 0).empty());
  CHECK(parse(R"({"__metadata__":{}})", 0).empty());
  CHECK_EQ(parse(entry("F32", "[0, 5]", "[0, 0]"), 0).size(), size_t{1});
  // Fields of later versions are skipped.
  CHECK_EQ(
      parse(R"({"a":{"x":[{"y":null}],"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1).size(),
      size_t{1});
}

TEST(accepts_every_dtype_of_the_format) {
  const std::pair<const char*, int> sizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  for (const auto& [dtype, size] : sizes) {
    const int bytes = 6 * size;
    const auto entries =
        parse(entry(dtype, "[3,2]", "[0," + std::to_string(bytes) + "]"), uint64_t(bytes));
    CHECK_EQ(entries[0].dtype, dtype);
  }
  // Two 4-bit values share a byte; three do not fill two.
  CHECK_EQ(parse(entry("F4", "[4]", "[0,2]"), 2).size(), size_t{1});
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("F4", "[3]", "[0,2]"), 2));
}

TEST(refuses_a_header_that_is_not_the_json_of_the_format) {
  for (const char* header : {"",
                             " {}",
                             "[]",
                             "{",
                             "{\"a\"}",
                             "null",
                             "{}x",
                             R"({"a":1})",
                             R"({"a":[]})",
                             R"({"a":{}})",
                             R"({"a":{"dtype":"F32","shape":[]}})",
                             R"({"a":{"dtype":"F32","data_offsets":[0,4]}})",
                             R"({"a":{"shape":[],"data_offsets":[0,4]}})",
                             R"({"a":{"dtype":3,"shape":[],"data_offsets":[0,4]}})",
                             R"({"a":{"dtype":"F32","shape":3,"data_offsets":[0,4]}})",
                             R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})",
                             R"({"a":{"dtype":"F32","shape":[],"shape":[],"data_offsets":[0,4]}})",
                             R"({"a":{"dtype":"F32","shape":[],"data_offsets":"0,4"}})",
                             R"({"__metadata__":[]})",
                             R"({"__metadata__":{"a":1}})",
                             "{\"\xFF\":{}}"}) {
    CHECK_ERROR("ERR_CHECKPOINT_HEADER", parse(header, 4));
  }
  const std::string nested = "{\"a\":{\"x\":" + std::string(100'000, '[');
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", parse(nested, 4));
}

TEST(refuses_offsets_that_do_not_tile_the_data) {
  // Backwards; not a pair; negative; above int64.
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[0]", "[4,0]"), 4));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[0]"), 4));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[0,4,4]"), 4));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[-4,0]"), 4));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[0,18446744073709551616]"), 4));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[0,4.0]"), 4));
  // A hole before, a tail behind, far outside.
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[1,5]"), 5));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]", "[0,4]"), 5));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse("{}", 1));
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", parse(entry("U8", "[4]",
                                                    "[9223372036854775803,"
                                                    "9223372036854775807]"),
                                              5));

  const auto two = [](const char* second) {
    parse(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
          R"("b":{"dtype":"U8","shape":[4],"data_offsets":)" +
              std::string(second) + "}}",
          8);
  };
  two("[4,8]");
  std::string message = CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", two("[3,7]"));
  check_has(message, "w.safetensors: tensor 'b'");
  check_has(message, "begins at byte 3");
  check_has(message, "ends at 4 (overlap)");
  message = CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", two("[5,9]"));
  check_has(message, "(hole)");
  CHECK_ERROR("ERR_CHECKPOINT_OFFSETS", two("[0,4]"));
}

TEST(says_how_many_bytes_a_truncated_file_lacks) {
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", parse(entry("F32", "[10]", "[0,40]"), 33));
  check_has(message, "describes 40 bytes");
  check_has(message, "has 33 (7 missing)");
  check_has(message, "download the file again");
}

TEST(refuses_shapes_that_do_not_match_the_bytes) {
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("BF16", "[2, 3]", "[0,10]"), 10));
  check_has(message, "tensor 'a': BF16 [2, 3] needs 12 bytes; its data has 10");
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("U8", "[-1]", "[0,1]"), 1));
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("U8", "[1.0]", "[0,1]"), 1));
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("U8", "[1e0]", "[0,1]"), 1));
  // Products that wrap around to a small number, in elements and in bytes.
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("U8", "[4294967296, 4294967296]", "[0,0]"), 0));
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("F64", "[2305843009213693952]", "[0,0]"), 0));
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE", parse(entry("U8", "[99999999999999999999]", "[0,0]"), 0));
  // A zero must not hide that the other dimensions overflow.
  CHECK_ERROR("ERR_CHECKPOINT_SHAPE",
              parse(entry("U8", "[0, 4294967296, 4294967296]", "[0,0]"), 0));
}

TEST(refuses_unknown_dtypes) {
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_DTYPE", parse(entry("Q4_0", "[1]", "[0,1]"), 1));
  check_has(message, "unknown dtype 'Q4_0'");
  CHECK_ERROR("ERR_CHECKPOINT_DTYPE", parse(entry("f32", "[1]", "[0,4]"), 4));
}

TEST(refuses_a_name_that_the_header_holds_twice) {
  const std::string message = CHECK_ERROR("ERR_CHECKPOINT_DUPLICATE_TENSOR",
                                          parse(R"({"a":{"dtype":"U8","shape":[1],)"
                                                R"("data_offsets":[0,1]},"a":{"dtype":"U8",)"
                                                R"("shape":[1],"data_offsets":[1,2]}})",
                                                2));
  check_has(message, "tensor 'a'");
}

TEST(keeps_messages_short_and_printable_whatever_the_name) {
  std::string name = "\\n\\u0007";
  for (int i = 0; i < 1000; ++i) name += "\xC3\xA9";
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_HEADER", parse("{\"" + name + "\":1}", 0));
  CHECK(message.size() < 400);
  check_has(message, "tensor '??\xC3\xA9\xC3\xA9");
  check_has(message, "\xC3\xA9...'");
}

TEST(errors_carry_file_and_tensor) {
  try {
    parse(entry("U8", "[2]", "[0,1]"), 1);
  } catch (const Error& error) {
    CHECK_EQ(error.details().size(), size_t{2});
    CHECK_EQ(error.details()[0].first, "file");
    CHECK_EQ(std::get<std::string>(error.details()[0].second), "w.safetensors");
    CHECK_EQ(error.details()[1].first, "tensor");
    CHECK_EQ(std::get<std::string>(error.details()[1].second), "a");
    return;
  }
  CHECK(false);
}

TEST(opens_shards_as_one_table) {
  TempFolder folder;
  const std::string one = folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"));
  const std::string two =
      folder.write("2.safetensors",
                   safetensors(R"({"c":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "xyz"));
  const auto checkpoint = Checkpoint::open({one, two});
  CHECK_EQ(checkpoint->tensors().size(), size_t{3});
  CHECK(checkpoint->files() == (std::vector<std::string>{one, two}));
  CHECK(checkpoint->find("d") == nullptr);

  const TensorEntry* c = checkpoint->find("c");
  CHECK_EQ(c->file, 1);
  std::string out(2, '\0');
  checkpoint->read(*c, 1, 2, out.data());
  CHECK_EQ(out, "yz");
  checkpoint->read(*checkpoint->find("b"), 1, 2, out.data());
  CHECK_EQ(out, "bc");
  checkpoint->read(*c, 3, 0, nullptr);
}

TEST(refuses_reads_outside_a_tensor) {
  TempFolder folder;
  const auto checkpoint =
      Checkpoint::open({folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"))});
  char out[16];
  const TensorEntry* a = checkpoint->find("a");
  CHECK_ERROR("ERR_INVALID_ARGUMENT", checkpoint->read(*a, 0, 5, out));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", checkpoint->read(*a, 5, 0, out));
  CHECK_ERROR("ERR_INVALID_ARGUMENT", checkpoint->read(*a, 2, UINT64_MAX - 1, out));
}

TEST(reads_in_parallel) {
  TempFolder folder;
  std::string data(1 << 20, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 13);
  const auto checkpoint = Checkpoint::open(
      {folder.write("1.safetensors", safetensors(entry("U8", "[1048576]", "[0,1048576]"), data))});
  std::string out(data.size(), '\0');
  std::vector<std::thread> threads;
  constexpr size_t kThreads = 4;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const size_t part = data.size() / kThreads;
      checkpoint->read(*checkpoint->find("a"), t * part, part, &out[t * part]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(out == data);
}

TEST(maps_a_tensor_at_whatever_place_it_has) {
  TempFolder folder;
  const auto checkpoint =
      Checkpoint::open({folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"))});
  const CheckpointMapping mapping(checkpoint);
  for (const auto& [name, entry] : checkpoint->tensors()) {
    std::string read(entry.end - entry.begin, ' ');
    checkpoint->read(entry, 0, read.size(), read.data());
    CHECK_EQ(std::string(static_cast<const char*>(mapping.data(entry)), read.size()), read);
  }
  mapping.check_unchanged();
}

#ifndef _WIN32  // there, a mapped file can be neither shortened nor written to

TEST(notices_that_a_mapped_file_became_shorter) {
  TempFolder folder;
  const std::string path = folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"));
  const auto checkpoint = Checkpoint::open({path});
  const CheckpointMapping mapping(checkpoint);
  const auto size = fs::file_size(path);
  fs::resize_file(path, size - 1);
  const std::string message = CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", mapping.check_unchanged());
  check_has(message, "has " + std::to_string(size - 1) + " bytes; it had " + std::to_string(size));
  CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", CheckpointMapping{checkpoint});
}

TEST(notices_that_a_mapped_file_was_written_to) {
  TempFolder folder;
  const std::string path = folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"));
  const CheckpointMapping mapping(Checkpoint::open({path}));
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
  check_has(CHECK_ERROR("ERR_CHECKPOINT_CHANGED", mapping.check_unchanged()), "Load again");
}

TEST(a_mapped_file_may_be_replaced_by_renaming) {
  TempFolder folder;
  const std::string bytes = safetensors(kTwoTensors, "0123abcd");
  const std::string path = folder.write("1.safetensors", bytes);
  const auto checkpoint = Checkpoint::open({path});
  const CheckpointMapping mapping(checkpoint);
  fs::rename(folder.write("2.safetensors", "something else"), path);
  mapping.check_unchanged();
  const TensorEntry& first = checkpoint->tensors().begin()->second;
  CHECK_EQ(std::string(static_cast<const char*>(mapping.data(first)), first.end - first.begin),
           bytes.substr(first.begin, first.end - first.begin));
}

#endif

TEST(refuses_a_tensor_that_two_shards_hold) {
  TempFolder folder;
  const std::string one = folder.write("1.safetensors", safetensors(kTwoTensors, "0123abcd"));
  const std::string two =
      folder.write("2.safetensors", safetensors(entry("U8", "[1]", "[0,1]"), "x"));
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_DUPLICATE_TENSOR", Checkpoint::open({one, two}));
  check_has(message, "2.safetensors: tensor 'a'");
  check_has(message, "1.safetensors' holds it too");
}

TEST(refuses_files_that_cannot_be_read) {
  TempFolder folder;
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_MISSING_FILE", Checkpoint::open({folder.path("none")}));
  check_has(message, folder.path("none"));
  check_has(message, "o such file");
  CHECK_ERROR("ERR_CHECKPOINT_MISSING_FILE", Checkpoint::open({folder.path("")}));
  CHECK_ERROR("ERR_CHECKPOINT_MISSING_FILE", Checkpoint::open({}));
  CHECK_ERROR("ERR_CHECKPOINT_MISSING_FILE", Checkpoint::open({""}));
  // Not the file in front of the NUL.
  const std::string good = folder.write("1.safetensors", safetensors("{}", ""));
  CHECK_ERROR("ERR_CHECKPOINT_MISSING_FILE", Checkpoint::open({good + std::string("\0x", 2)}));
}

TEST(refuses_files_with_an_absurd_header_length) {
  TempFolder folder;
  const auto open = [&](std::string_view bytes) {
    Checkpoint::open({folder.write("w.safetensors", bytes)});
  };
  std::string message = CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(length_bytes(UINT64_MAX) + "{}"));
  check_has(message, "a header of 18446744073709551615 bytes; at most 100000000");
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(length_bytes(100'000'001) + "{}"));
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(length_bytes(0) + "{}"));
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(length_bytes(1) + "{}"));
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(length_bytes(1000) + "not json"));
  CHECK_ERROR("ERR_CHECKPOINT_HEADER", open(safetensors(" {}", "")));
}

TEST(refuses_files_shorter_than_their_header) {
  TempFolder folder;
  const auto open = [&](std::string_view bytes) {
    Checkpoint::open({folder.write("w.safetensors", bytes)});
  };
  std::string message = CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", open(""));
  check_has(message, "has 0 bytes");
  CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", open("1234567"));
  CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", open(length_bytes(2)));
  const std::string whole = safetensors(kTwoTensors, "0123abcd");
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", open(std::string_view(whole).substr(0, size)));
  }
  open(whole);
}

TEST(says_what_a_foreign_file_is) {
  TempFolder folder;
  const auto message_of = [&](std::string_view bytes) {
    return CHECK_ERROR("ERR_CHECKPOINT_HEADER",
                       Checkpoint::open({folder.write("model.safetensors", bytes)}));
  };
  check_has(message_of("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
            "git lfs pull");
  check_has(message_of("<!DOCTYPE html><html><body>404"), "HTML page");
  check_has(message_of("\n<html><body>404</body></html>"), "HTML page");
  check_has(message_of("PK\x03\x04 zip of a .bin file"), "PyTorch");
  check_has(message_of("GGUF\x03 and so on, and so on"), "GGUF");
}

TEST(notices_a_file_that_shrinks_after_it_was_opened) {
  TempFolder folder;
  const std::string path = folder.write("w.safetensors", safetensors(kTwoTensors, "0123abcd"));
  const auto checkpoint = Checkpoint::open({path});
  fs::resize_file(path, fs::file_size(path) - 1);
  char out[4];
  checkpoint->read(*checkpoint->find("a"), 0, 4, out);
  checkpoint->read(*checkpoint->find("b"), 0, 3, out);
  const std::string message =
      CHECK_ERROR("ERR_CHECKPOINT_TRUNCATED", checkpoint->read(*checkpoint->find("b"), 0, 4, out));
  check_has(message, "tensor 'b': 3 bytes read where 4 were expected");
}

TEST(opens_the_bundled_checkpoint) {
  const std::string path = std::string(QVL_TEST_DIR) + "/../models/qwen2-vl-tiny/model.safetensors";
  const auto checkpoint = Checkpoint::open({path});
  CHECK(checkpoint->tensors().size() > 50);
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : checkpoint->tensors()) {
    CHECK_EQ(tensor.name, name);
    bytes += tensor.end - tensor.begin;
  }
  // Header and data are the whole file.
  CHECK(bytes < fs::file_size(path));
}

}  // namespace qvl
