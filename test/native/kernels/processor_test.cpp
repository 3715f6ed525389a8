// What the processor can do, and which kernels follow from it.

#include "kernels/cpu/processor.h"

#include <algorithm>
#include <string_view>

#include "check.h"

namespace qvl::test {

using kernels::KernelTable;

bool has(const char* feature) {
  const auto& features = kernels::processor_features();
  return std::find(features.begin(), features.end(), feature) != features.end();
}

TEST(features_are_those_that_the_compiler_detects) {
  CHECK(!has("no such thing"));
#if defined(__x86_64__) && defined(__GNUC__)
  CHECK(has("sse2"));
#define CHECK_FEATURE(name, compiler_name) \
  CHECK_EQ(has(name), static_cast<bool>(__builtin_cpu_supports(compiler_name)))
  CHECK_FEATURE("sse4_2", "sse4.2");
  CHECK_FEATURE("avx2", "avx2");
  CHECK_FEATURE("fma", "fma");
  CHECK_FEATURE("avx512f", "avx512f");
  CHECK_FEATURE("avx512dq", "avx512dq");
  CHECK_FEATURE("avx512bw", "avx512bw");
  CHECK_FEATURE("avx512vl", "avx512vl");
  CHECK_FEATURE("avx512_vnni", "avx512vnni");
#undef CHECK_FEATURE
#endif
}

TEST(every_set_has_a_name_of_its_own_and_the_scalar_one_is_the_last) {
  const auto tables = kernels::compiled_kernels();
  CHECK_EQ(tables.back(), &kernels::scalar_kernels());
  for (const KernelTable* table : tables) {
    CHECK_EQ(std::count_if(tables.begin(), tables.end(),
                           [&](const KernelTable* other) {
                             return std::string_view(other->name) == table->name;
                           }),
             1);
  }
}

TEST(the_available_sets_are_those_whose_every_need_is_met) {
  std::vector<const KernelTable*> expected;
  for (const KernelTable* table : kernels::compiled_kernels()) {
    bool complete = true;
    for (const char* const* need = table->processor_features; *need != nullptr; ++need) {
      complete = complete && has(*need);
    }
    if (complete) expected.push_back(table);
  }
  CHECK(kernels::available_kernels() == expected);
  CHECK_EQ(kernels::available_kernels().back(), &kernels::scalar_kernels());
}

}  // namespace qvl::test
