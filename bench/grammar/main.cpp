// What a grammar costs: building the trie, compiling, and the masks of an answer, token by token.
//
//   bench_grammar <vocabulary>
//
// bench/grammar.ts writes the vocabulary: the number of ids, the length of each, their bytes.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "constraint/constraint.h"
#include "constraint/vocabularies.h"

namespace qvl::bench {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void print(const std::string& name, double ms) {
  std::printf("%-56s %9.4f ms\n", name.c_str(), ms);
}

std::shared_ptr<const Vocabulary> read_vocabulary(const char* path) {
  std::ifstream file(path, std::ios::binary);
  int32_t size = 0;
  file.read(reinterpret_cast<char*>(&size), sizeof(size));
  if (!file || size < 1) throw Error("ERR_FILE", std::string(path) + " is no vocabulary");
  std::vector<int32_t> lengths(static_cast<size_t>(size));
  file.read(reinterpret_cast<char*>(lengths.data()), std::streamsize{size} * 4);
  std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(file)), {});
  const Clock::time_point begin = Clock::now();
  auto vocabulary = std::make_shared<const Vocabulary>(bytes, lengths, size);
  std::printf("%d ids, %zu bytes, %zu nodes, longest token %u bytes\n", size, bytes.size(),
              vocabulary->trie().size(), vocabulary->max_length());
  print("build the trie", milliseconds_since(begin));
  return vocabulary;
}

/// The longest token at each place, as a tokenizer would mostly cut.
std::vector<int32_t> cut(const Vocabulary& vocabulary, const std::string& text) {
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size();) {
    size_t depth = 0, length = 0;
    int32_t best = -1;
    for (size_t i = 0; i < vocabulary.trie().size() && at + depth < text.size();) {
      const TrieNode& node = vocabulary.trie()[i];
      if (node.depth <= depth) break;
      if (node.byte != static_cast<uint8_t>(text[at + depth])) {
        i = node.skip;
        continue;
      }
      ++depth;
      ++i;
      if (node.token >= 0) best = node.token, length = depth;
    }
    if (best < 0) throw Error("ERR_VOCABULARY", "no token for a byte of the text");
    ids.push_back(best);
    at += length;
  }
  return ids;
}

/// Follows a text and measures each mask: the first time and, with all that is remembered, again.
void run(const std::string& name, const Grammar& grammar, const std::string& text,
         const std::shared_ptr<const Vocabulary>& vocabulary) {
  const std::vector<int32_t> ids = cut(*vocabulary, text);
  Clock::time_point begin = Clock::now();
  const auto matcher = std::make_shared<GrammarMatcher>(grammar, vocabulary);
  print(name + ": compile", milliseconds_since(begin));
  for (const char* which : {"first answer", "next answer"}) {
    Constraint constraint(matcher, {});
    std::vector<double> times;
    double accept_ms = 0;
    for (const int32_t id : ids) {
      begin = Clock::now();
      constraint.mask();
      times.push_back(milliseconds_since(begin));
      begin = Clock::now();
      constraint.accept(id);
      accept_ms += milliseconds_since(begin);
    }
    double total = 0;
    for (const double time : times) total += time;
    std::sort(times.begin(), times.end());
    const std::string of = name + ", " + which + ": ";
    print(of + "mask, mean of " + std::to_string(ids.size()),
          total / static_cast<double>(times.size()));
    print(of + "mask, median", times[times.size() / 2]);
    print(of + "mask, largest", times.back());
    print(of + "accept, mean", accept_ms / static_cast<double>(times.size()));
  }
}

/// Members in order: strings of bounded length, a number, a list of choices.
Grammar schema_grammar() {
  const auto t = test::text_symbol;
  Grammar grammar = test::json_grammar();
  // Rules of json_grammar() keep their numbers but the start, which moves to the end.
  const auto value = static_cast<uint32_t>(grammar.rules.size());
  grammar.rules.push_back(grammar.rules[0]);
  grammar.rules[0] = {{t("{\"title\": \""), test::repeat_symbol(8, 1, 200), t("\", \"total\": "),
                       test::rule_symbol(10), t(", \"tags\": ["), test::rule_symbol(value + 1),
                       test::repeat_symbol(value + 2, 0, 20), t("]}")}};
  grammar.rules.push_back({{t("\"invoice\"")}, {t("\"receipt\"")}, {t("\"letter\"")}});
  grammar.rules.push_back({{t(", "), test::rule_symbol(value + 1)}});
  return grammar;
}

void run_all(const char* path) {
  const auto vocabulary = read_vocabulary(path);
  const std::string json =
      "{\"name\": \"A rather long description of the picture, in words\", \"boxes\": [[12, 40.5, "
      "100, 1e3], [1, 2, 3, 4]], \"nested\": {\"a\": [{\"b\": null}, {\"c\": true}], \"文\": "
      "\"图片里有一只猫\"}, \"end\": \"\\u00e9\\n\"}";
  run("any JSON", test::json_grammar(), json, vocabulary);
  const std::string document =
      "{\"title\": \"Invoice of the Acme company for the month of May\", \"total\": 1234.50, "
      "\"tags\": [\"invoice\", \"letter\", \"receipt\"]}";
  run("a schema", schema_grammar(), document, vocabulary);
  Grammar tool = schema_grammar();
  tool.triggers = {"<tool_call>"};
  tool.repeat = true;
  run("tool calls", tool, "Let me see what is there. <tool_call>" + document + " Done.",
      vocabulary);
}

}  // namespace
}  // namespace qvl::bench

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw qvl::Error("ERR_INVALID_ARGUMENT", "usage: bench_grammar <vocabulary>");
    qvl::bench::run_all(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_grammar: %s\n", error.what());
    return 1;
  }
  return 0;
}
