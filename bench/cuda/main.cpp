// The CUDA backend's operations alone, at the shapes of Qwen2-VL-2B. Prints lines of JSON for
// bench/main.ts, which makes the report.
//
//   bench_cuda [--device N] [--filter TEXT] [--quick] [--small]

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
    } else if (name == "--small") {
      options.is_small = true;
      options.rounds = 1;
      options.seconds = 0;
    } else if (i + 1 < argc && name == "--device") {
      options.device = std::atoi(argv[++i]);
    } else if (i + 1 < argc && name == "--filter") {
      options.filter = argv[++i];
    } else {
      throw Error("ERR_INVALID_ARGUMENT", "unknown or incomplete option " + name);
    }
  }
  return options;
}

void run(const Options& options) {
  const Suite suite(options);
  suite.print_machine();
  run_products(suite);
  run_attention(suite);
}

}  // namespace
}  // namespace qvl::bench

int main(int argc, char** argv) {
  try {
    qvl::bench::run(qvl::bench::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_cuda: %s\n", error.what());
    return 1;
  }
  return 0;
}
