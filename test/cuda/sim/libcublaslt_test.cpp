// Products of the stand-in for cuBLASLt against double precision, and what it refuses.

#include <cuda.h>

#include <random>

#include "check.h"
#include "half.h"
#include "memory.h"

// The library's interface, as a program of C sees it.
extern "C" {
int cublasLtCreate(void**);
int cublasLtDestroy(void*);
int cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescDestroy(void*);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t);
int cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatrixLayoutDestroy(void*);
int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulPreferenceCreate(void**);
int cublasLtMatmulPreferenceDestroy(void*);
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void*,
                                   int*);
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*,
                   const void*, void*, void*, void*, const void*, void*, size_t, void*);
}

namespace {

using namespace qvl::sim;

constexpr int kF32 = 0, kF16 = 2, kBf16 = 14, kComputeF32 = 68;
constexpr int kNotSupported = 15, kInvalidValue = 7;

struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

void start() {
  static const bool started = [] {
    CUcontext context = nullptr;
    cuInit(0);
    return cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS &&
           cuCtxSetCurrent(context) == CUDA_SUCCESS;
  }();
  CHECK(started);
}

uint16_t narrow(int type, float v) { return type == kBf16 ? float_to_bf16(v) : float_to_half(v); }
float wide(int type, uint16_t v) { return type == kBf16 ? bf16_to_float(v) : half_to_float(v); }

struct Problem {
  int type = kBf16, out_type = kF32;
  uint64_t m = 24, n = 5, k = 40;
  bool transpose_a = true, transpose_b = false, bias = false;
  float alpha = 1, beta = 0;
  int batch = 1;
  size_t workspace = 1 << 20;
  uint64_t shift_b = 0;  // bytes that B is off its alignment
};

struct Memory {
  CUdeviceptr p = 0;
  explicit Memory(size_t bytes) { CHECK_EQ(cuMemAlloc(&p, bytes), CUDA_SUCCESS); }
  ~Memory() { cuMemFree(p); }
  void* at(uint64_t offset = 0) const { return reinterpret_cast<void*>(p + offset); }
};

// Runs the product and compares it with double precision; the status of cublasLtMatmul.
int multiply(const Problem& s) {
  start();
  std::mt19937 random(7);
  std::uniform_real_distribution<float> values(-1, 1);
  const auto filled = [&](uint64_t count) {
    std::vector<uint16_t> v(count);
    for (auto& x : v) x = narrow(s.type, values(random));
    return v;
  };
  const uint64_t batch = static_cast<uint64_t>(s.batch), lda = s.transpose_a ? s.k : s.m,
                 ldb = s.transpose_b ? s.n : s.k;
  const std::vector<uint16_t> a = filled(s.m * s.k * batch), b = filled(s.k * s.n * batch),
                              bias = filled(s.m);
  const size_t out_bytes = s.out_type == kF32 ? 4 : 2;
  std::vector<float> c(s.m * s.n * batch);
  std::vector<uint16_t> c16(c.size());
  for (size_t i = 0; i < c.size(); ++i) {
    c[i] = values(random);
    if (s.out_type != kF32) c[i] = wide(s.out_type, c16[i] = narrow(s.out_type, c[i]));
  }
  Memory da(a.size() * 2), db(b.size() * 2 + 64), dc(c.size() * out_bytes), dbias(bias.size() * 2),
      work(s.workspace);
  cuMemcpyHtoD(da.p, a.data(), a.size() * 2);
  cuMemcpyHtoD(db.p + s.shift_b, b.data(), b.size() * 2);
  cuMemcpyHtoD(dbias.p, bias.data(), bias.size() * 2);
  cuMemcpyHtoD(dc.p, s.out_type == kF32 ? static_cast<void*>(c.data()) : c16.data(),
               c.size() * out_bytes);

  void *handle = nullptr, *d = nullptr, *la = nullptr, *lb = nullptr, *lc = nullptr,
       *preference = nullptr;
  CHECK_EQ(cublasLtCreate(&handle), 0);
  CHECK_EQ(cublasLtMatmulDescCreate(&d, kComputeF32, kF32), 0);
  const int32_t ta = s.transpose_a, tb = s.transpose_b;
  CHECK_EQ(cublasLtMatmulDescSetAttribute(d, 3, &ta, sizeof ta), 0);
  CHECK_EQ(cublasLtMatmulDescSetAttribute(d, 4, &tb, sizeof tb), 0);
  if (s.bias) {
    const uint32_t epilogue = 4;
    CHECK_EQ(cublasLtMatmulDescSetAttribute(d, 7, &epilogue, sizeof epilogue), 0);
    CHECK_EQ(cublasLtMatmulDescSetAttribute(d, 8, &dbias.p, sizeof dbias.p), 0);
    const int32_t type = s.type;
    CHECK_EQ(cublasLtMatmulDescSetAttribute(d, 26, &type, sizeof type), 0);
  }
  cublasLtMatrixLayoutCreate(&la, s.type, lda, s.transpose_a ? s.m : s.k,
                             static_cast<int64_t>(lda));
  cublasLtMatrixLayoutCreate(&lb, s.type, ldb, s.transpose_b ? s.k : s.n,
                             static_cast<int64_t>(ldb));
  cublasLtMatrixLayoutCreate(&lc, s.out_type, s.m, s.n, static_cast<int64_t>(s.m));
  const int64_t strides[] = {static_cast<int64_t>(s.m * s.k), static_cast<int64_t>(s.k * s.n),
                             static_cast<int64_t>(s.m * s.n)};
  void* layouts[] = {la, lb, lc};
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(cublasLtMatrixLayoutSetAttribute(layouts[i], 5, &s.batch, sizeof s.batch), 0);
    CHECK_EQ(cublasLtMatrixLayoutSetAttribute(layouts[i], 6, &strides[i], sizeof strides[i]), 0);
  }
  cublasLtMatmulPreferenceCreate(&preference);
  const uint64_t most = 1 << 20;
  CHECK_EQ(cublasLtMatmulPreferenceSetAttribute(preference, 1, &most, sizeof most), 0);
  Heuristic h{};
  int found = 0;
  int status = cublasLtMatmulAlgoGetHeuristic(handle, d, la, lb, lc, lc, preference, 1, &h, &found);
  if (status == 0) {
    CHECK_EQ(found, 1);
    status = cublasLtMatmul(handle, d, &s.alpha, da.at(), la, db.at(s.shift_b), lb, &s.beta,
                            dc.at(), lc, dc.at(), lc, h.algorithm, work.at(), s.workspace, nullptr);
  }
  if (status == 0) {
    std::vector<float> out(c.size());
    std::vector<uint16_t> out16(c.size());
    cuMemcpyDtoH(s.out_type == kF32 ? static_cast<void*>(out.data()) : out16.data(), dc.p,
                 c.size() * out_bytes);
    for (uint64_t z = 0; z < batch; ++z)
      for (uint64_t i = 0; i < s.m; ++i)
        for (uint64_t j = 0; j < s.n; ++j) {
          double sum = 0;
          for (uint64_t x = 0; x < s.k; ++x) {
            const uint16_t va = a[z * s.m * s.k + (s.transpose_a ? i * s.k + x : x * s.m + i)];
            const uint16_t vb = b[z * s.k * s.n + (s.transpose_b ? x * s.n + j : j * s.k + x)];
            sum += static_cast<double>(wide(s.type, va)) * wide(s.type, vb);
          }
          const size_t at = z * s.m * s.n + j * s.m + i;
          const double expected =
              s.alpha * sum + s.beta * c[at] + (s.bias ? wide(s.type, bias[i]) : 0.f);
          const double got = s.out_type == kF32 ? out[at] : wide(s.out_type, out16[at]);
          const double tolerance = s.out_type == kF32    ? 1e-5
                                   : s.out_type == kBf16 ? 0x1p-8
                                                         : 0x1p-11;
          if (std::fabs(got - expected) > tolerance * (1 + std::fabs(expected)))
            throw qvl::test::Failure("element " + std::to_string(at) + ": " + std::to_string(got) +
                                     " for " + std::to_string(expected));
        }
  }
  for (void* l : layouts) cublasLtMatrixLayoutDestroy(l);
  cublasLtMatmulPreferenceDestroy(preference);
  cublasLtMatmulDescDestroy(d);
  cublasLtDestroy(handle);
  return status;
}

TEST(products_are_those_of_double_precision) {
  for (const int type : {kBf16, kF16})
    for (const int out_type : {type, kF32})
      for (const uint64_t n : {1, 3, 4, 17})
        CHECK_EQ(multiply({.type = type, .out_type = out_type, .m = 19, .n = n, .k = 72}), 0);
}
TEST(products_take_transposes_scales_a_bias_and_batches) {
  CHECK_EQ(multiply({.m = 16, .n = 8, .k = 24, .transpose_a = false}), 0);
  CHECK_EQ(multiply({.m = 16, .n = 8, .k = 24, .transpose_b = true}), 0);
  CHECK_EQ(multiply({.alpha = 0.5f, .beta = 1}), 0);
  CHECK_EQ(multiply({.out_type = kBf16, .beta = -2}), 0);
  CHECK_EQ(multiply({.bias = true}), 0);
  CHECK_EQ(multiply({.batch = 3}), 0);
}
TEST(products_that_the_library_could_not_do_are_refused) {
  CHECK_EQ(multiply({.k = 39}), kNotSupported);        // 16-byte reads
  CHECK_EQ(multiply({.shift_b = 16}), kNotSupported);  // less aligned than the preference says
  CHECK_EQ(multiply({.workspace = 1 << 10}), kInvalidValue);
  CHECK_EQ(multiply({.type = kBf16, .out_type = kF16}), kNotSupported);
}

}  // namespace
