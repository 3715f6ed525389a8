#pragma once

// A test program is: TEST(name) { CHECK(...); }  ...  compiled with test/native/main.cpp.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace qvl::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

template <class A, class B>
void check_equal(const A& actual, const B& expected, const char* text, const char* file, int line) {
  if (actual == expected) return;
  std::ostringstream out;
  out << text << ": got " << actual << ", expected " << expected;
  fail(file, line, out.str());
}

/// Compares whole arrays and reports the largest error and where it is.
inline void check_close(const float* actual, const float* expected, size_t count, double tolerance,
                        const char* text, const char* file, int line) {
  double worst = -1.0;
  size_t where = 0;
  for (size_t i = 0; i < count; ++i) {
    double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (std::isnan(error)) error = INFINITY;
    if (error > worst) worst = error, where = i;
  }
  if (worst <= tolerance) return;
  std::ostringstream out;
  out << text << ": largest error " << worst << " > " << tolerance << " at " << where << ": got "
      << actual[where] << ", expected " << expected[where];
  fail(file, line, out.str());
}

/// Runs `body`, expects qvl::Error with `code`, returns its message.
inline std::string expect_error(std::string_view code, const std::function<void()>& body,
                                const char* file, int line) {
  try {
    body();
  } catch (const qvl::Error& error) {
    if (error.code() != code) {
      fail(file, line,
           "expected " + std::string(code) + ", got " + error.code() + ": " + error.what());
    }
    return error.what();
  }
  fail(file, line, "expected " + std::string(code) + ", nothing was thrown");
}

}  // namespace qvl::test

#define TEST(name)                                                        \
  static void test_##name();                                              \
  static const ::qvl::test::Register register_##name(#name, test_##name); \
  static void test_##name()
#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) ::qvl::test::fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
  } while (0)
#define CHECK_EQ(actual, expected) \
  ::qvl::test::check_equal((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_CLOSE(actual, expected, count, tolerance) \
  ::qvl::test::check_close((actual), (expected), (count), (tolerance), #actual, __FILE__, __LINE__)
#define CHECK_ERROR(code, ...) \
  ::qvl::test::expect_error((code), [&] { __VA_ARGS__; }, __FILE__, __LINE__)
