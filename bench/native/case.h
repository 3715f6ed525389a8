#pragma once

// What a kernel benchmark says of itself, and how its times are printed. Statistics and fractions
// are the business of who reads them (lib/bench).

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace qvl::bench {

struct Case {
  std::string name;
  double bytes;     // that have to come from memory or go there
  double fp32;      // operations; a multiply-add counts as two
  double int8 = 0;  // operations on 8-bit integers
};

/// Rates of a limit of the machine, as they were while a case ran.
struct Limit {
  std::string name;
  std::vector<double> rates;
};

/// A line of JSON.
void print_case(const Case& which, const std::vector<double>& seconds,
                const std::vector<Limit>& limits);

/// Seconds since some moment in the past.
double now();

/// The parts behind each other, as a stream writes them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// Small numbers around zero, the same every time.
std::vector<float> numbers(int64_t count);

}  // namespace qvl::bench
