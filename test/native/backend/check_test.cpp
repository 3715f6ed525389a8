#include "backend/check.h"

#include "check.h"

namespace qvl {

TEST(sizes_that_overflow_are_refused) {
  CHECK_EQ(checked_bytes(3, 5), 15u);
  CHECK_EQ(checked_bytes(0, INT64_MAX), 0u);
  CHECK_ERROR("ERR_OUT_OF_MEMORY", checked_bytes(INT64_MAX / 2, 3));
  CHECK_ERROR("ERR_OUT_OF_MEMORY", checked_bytes(-1, 3));
}

TEST(callers_that_break_the_interface_are_told_of_it) {
  require(true, "nothing");
  CHECK_ERROR("ERR_INTERNAL", require(false, "rows differ"));
}

}  // namespace qvl
