#include "kernels/cpu/processor.h"

#include <algorithm>

#if defined(__x86_64__) || defined(_M_X64)
#define QVL_X86_64 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#endif
#endif

namespace qvl::kernels {
namespace {

#ifdef QVL_X86_64
struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {unsigned(out[0]), unsigned(out[1]), unsigned(out[2]), unsigned(out[3])};
#else
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
#endif
  return r;
}

// The register states that the operating system saves (XCR0).
uint64_t saved_states() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
#endif
}

std::vector<std::string> detect_features() {
  constexpr uint64_t kAvxState = 0x6;      // xmm, ymm
  constexpr uint64_t kAvx512State = 0xe6;  // and opmask, zmm
  std::vector<std::string> features = {"sse2"};
  const auto add = [&](unsigned bits, int bit, const char* feature) {
    if ((bits >> bit) & 1) features.emplace_back(feature);
  };
  const unsigned max_leaf = cpuid(0).eax;
  const Registers one = cpuid(1);
  add(one.ecx, 9, "ssse3");
  add(one.ecx, 19, "sse4_1");
  add(one.ecx, 20, "sse4_2");
  const bool has_xsave = (one.ecx >> 27) & 1;
  const uint64_t states = has_xsave ? saved_states() : 0;
  if ((states & kAvxState) != kAvxState) return features;
  add(one.ecx, 28, "avx");
  add(one.ecx, 12, "fma");
  add(one.ecx, 29, "f16c");
  if (max_leaf < 7) return features;
  const Registers seven = cpuid(7);
  const Registers seven_one = seven.eax >= 1 ? cpuid(7, 1) : Registers{};
  add(seven.ebx, 5, "avx2");
  add(seven_one.eax, 4, "avx_vnni");
  if ((states & kAvx512State) != kAvx512State) return features;
  add(seven.ebx, 16, "avx512f");
  add(seven.ebx, 17, "avx512dq");
  add(seven.ebx, 30, "avx512bw");
  add(seven.ebx, 31, "avx512vl");
  add(seven.ecx, 11, "avx512_vnni");
  add(seven_one.eax, 5, "avx512_bf16");
  return features;
}
#elif defined(__aarch64__) || defined(_M_ARM64)
// FEAT_DotProd: the instructions that add up products of four 8-bit integers. Only the system may
// read the processor's registers that tell.
bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int present = 0;
  size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, nullptr, 0) == 0 &&
         present != 0;
#elif defined(_WIN32)
  constexpr DWORD kDotProductInstructions = 43;  // a name only newer SDKs have
  return IsProcessorFeaturePresent(kDotProductInstructions) != 0;
#else
  return false;
#endif
}

std::vector<std::string> detect_features() {
  std::vector<std::string> features = {"neon"};  // a part of AArch64
  if (has_dot_product()) features.emplace_back("dotprod");
  return features;
}
#else
std::vector<std::string> detect_features() { return {}; }
#endif

bool can_run(const KernelTable& table) {
  const std::vector<std::string>& present = processor_features();
  for (const char* const* needed = table.processor_features; *needed != nullptr; ++needed) {
    if (std::find(present.begin(), present.end(), *needed) == present.end()) return false;
  }
  return true;
}

std::vector<const KernelTable*> find_available() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : compiled_kernels()) {
    if (can_run(*table)) tables.push_back(table);
  }
  return tables;
}

}  // namespace

const std::vector<std::string>& processor_features() {
  static const std::vector<std::string> features = detect_features();
  return features;
}

const std::vector<const KernelTable*>& available_kernels() {
  static const std::vector<const KernelTable*> tables = find_available();
  return tables;
}

}  // namespace qvl::kernels
