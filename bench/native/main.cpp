// The kernels alone, at the shapes of Qwen2-VL-2B, in turn with the machine's limits. Prints lines
// of JSON for bench/main.ts, which makes the report.
//
//   kernels [--filter TEXT] [--threads N] [--isa NAME] [--quick]

#include <cstdio>
#include <cstdlib>

#include "common/error.h"
#include "suite.h"

namespace qvl::bench {
namespace {

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--quick") {
      options.rounds = 1;
      options.seconds = 0.02;
      continue;
    }
    if (i + 1 == argc) throw Error("ERR_INVALID_ARGUMENT", "unknown or incomplete option " + name);
    const std::string value = argv[++i];
    if (name == "--threads") {
      options.threads = std::atoi(value.c_str());
    } else if (name == "--isa") {
      options.instruction_set = value;
    } else if (name == "--filter") {
      options.filter = value;
    } else {
      throw Error("ERR_INVALID_ARGUMENT", "unknown option " + name);
    }
  }
  return options;
}

void run(const Options& options) {
  Suite suite(options);
  suite.print_machine();
  run_linear(suite);
  run_attention(suite);
  run_rows(suite);
  run_images(suite);
}

}  // namespace
}  // namespace qvl::bench

int main(int argc, char** argv) {
  try {
    qvl::bench::run(qvl::bench::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels: %s\n", error.what());
    return 1;
  }
  return 0;
}
