#pragma once

// What a processor can do at most: loops that do nothing but read memory, or nothing but one
// arithmetic instruction on registers. No kernel of the package runs them; benchmarks measure them
// beside the kernels, so that a speed can be given as a fraction of what is possible.

#include <cstdint>
#include <span>

namespace qvl::kernels {

/// Chains of one arithmetic instruction, long enough apart that its latency does not show.
struct PeakRate {
  const char* name;            // "fp32 avx2": the kind of number, then the instruction set
  const char* features;        // what the processor must have, separated by spaces
  double operations_per_step;  // a multiply-add counts as two
  float (*run)(int64_t steps);
};

/// All that were compiled in, the narrowest first.
std::span<const PeakRate> peak_rates();

/// A loop that reads memory as fast as one core can. `features` as above.
struct ReadLoop {
  const char* features;
  float (*run)(const float* data, int64_t count);  // count: a multiple of 64; data on 64 bytes
};

/// The widest first; the last one runs everywhere.
std::span<const ReadLoop> read_loops();

}  // namespace qvl::kernels
