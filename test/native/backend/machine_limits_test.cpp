#include "backend/cpu/machine_limits.h"

#include <cmath>

#include "check.h"

namespace qvl {

TEST(the_limits_are_the_read_bandwidth_and_a_rate_for_each_instruction_set) {
  const std::vector<std::string> names = MachineLimits::names();
  CHECK(names.size() >= 2);
  CHECK_EQ(names[0], std::string("read"));
  CHECK(names[1].starts_with("fp32 "));
}

TEST(every_limit_is_measured_on_any_number_of_threads) {
  for (const int threads : {1, 3}) {
    MachineLimits limits(threads);
    for (const std::string& name : MachineLimits::names()) {
      const double rate = limits.measure(name, 0);
      CHECK(std::isfinite(rate));
      CHECK(rate > 0);
    }
  }
}

TEST(an_unknown_limit_is_refused_with_the_known_ones) {
  MachineLimits limits(1);
  CHECK_ERROR("ERR_INVALID_ARGUMENT", limits.measure("write", 0));
}

}  // namespace qvl
