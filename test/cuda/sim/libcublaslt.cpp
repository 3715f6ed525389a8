// Stands in for libcublasLt: products of matrices on the simulated device's memory. Its
// declarations are its own, by the documented binary interface, so that the product's are held
// against them.

#include <cuda.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "device.h"
#include "error.h"
#include "half.h"

namespace {

using Status = int;
constexpr Status kSuccess = 0, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15;

// cudaDataType_t
constexpr int32_t kF32 = 0, kF16 = 2, kBf16 = 14;
constexpr int32_t kComputeF32 = 68;

struct MatmulDescriptor {
  int32_t compute_type = kComputeF32, scale_type = kF32;
  int32_t transpose_a = 0, transpose_b = 0;
  uint32_t epilogue = 1;  // 1 = none, 4 = bias
  uint64_t bias = 0;
  int32_t bias_type = -1;
};
struct MatrixLayout {
  int32_t type = 0, order = 0;
  uint64_t rows = 0, cols = 0;
  int64_t stride = 0;
  int32_t batch = 1;
  int64_t batch_stride = 0;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reduction = ~0u;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D: the library's default
};
struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};
constexpr uint64_t kAlgorithmMark = 0x51564c5f616c676f;

size_t size_of(int32_t type) { return type == kF32 ? 4 : 2; }

Status refuse(Status status, const std::string& why) {
  qvl::sim::log_line("cublasLt: " + why);
  return status;
}

// An attribute of a descriptor: where it lies and its size.
struct Attribute {
  void* at = nullptr;
  size_t bytes = 0;
};
template <class T>
Attribute attribute(T& value) {
  return {&value, sizeof value};
}
Status set(Attribute a, const void* value, size_t bytes, int which) {
  if (!a.at)
    return refuse(kNotSupported, "attribute " + std::to_string(which) + " is not simulated");
  if (a.bytes != bytes)
    return refuse(kInvalidValue,
                  "attribute " + std::to_string(which) + " of " + std::to_string(bytes) + " bytes");
  std::memcpy(a.at, value, bytes);
  return kSuccess;
}

// ---- the product ----

float element(const unsigned char* p, int32_t type, size_t i) {
  if (type == kF32) {
    float v;
    std::memcpy(&v, p + 4 * i, 4);
    return v;
  }
  uint16_t bits;
  std::memcpy(&bits, p + 2 * i, 2);
  return type == kBf16 ? qvl::sim::bf16_to_float(bits) : qvl::sim::half_to_float(bits);
}
void set_element(unsigned char* p, int32_t type, size_t i, float v) {
  if (type == kF32) {
    std::memcpy(p + 4 * i, &v, 4);
    return;
  }
  const uint16_t bits = type == kBf16 ? qvl::sim::float_to_bf16(v) : qvl::sim::float_to_half(v);
  std::memcpy(p + 2 * i, &bits, 2);
}

typedef float Vector __attribute__((vector_size(32)));
constexpr size_t kWidth = 8;

// op(M)'s rows or columns, whichever run along k, one after the other in floats, padded with zeros.
struct Panel {
  std::vector<Vector> data;
  size_t vectors;  // of one row
  const Vector* row(size_t i) const { return data.data() + i * vectors; }
};
Panel pack(const unsigned char* m, const MatrixLayout& layout, size_t count, size_t k,
           bool k_is_rows) {
  Panel panel{{}, (k + kWidth - 1) / kWidth};
  panel.data.resize(count * panel.vectors);
  const auto stride = static_cast<size_t>(layout.stride);
  for (size_t i = 0; i < count; ++i) {
    float* to = reinterpret_cast<float*>(panel.data.data() + i * panel.vectors);
    for (size_t j = 0; j < k; ++j)
      to[j] = element(m, layout.type, k_is_rows ? i * stride + j : j * stride + i);
  }
  return panel;
}

// A block of kA x kB dot products. Every one of them is summed in the same order, whatever the
// block.
template <int kA, int kB>
void dot_block(const Panel& a, size_t i, const Panel& b, size_t j, float (*out)[4]) {
  Vector sum[kA][kB] = {};
  const Vector *pa[kA], *pb[kB];
  for (int x = 0; x < kA; ++x) pa[x] = a.row(i + static_cast<size_t>(x));
  for (int y = 0; y < kB; ++y) pb[y] = b.row(j + static_cast<size_t>(y));
  for (size_t v = 0; v < a.vectors; ++v)
    for (int x = 0; x < kA; ++x)
      for (int y = 0; y < kB; ++y) sum[x][y] += pa[x][v] * pb[y][v];
  for (int x = 0; x < kA; ++x)
    for (int y = 0; y < kB; ++y) {
      const Vector s = sum[x][y];
      out[x][y] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
}

struct Product {
  MatmulDescriptor descriptor;
  MatrixLayout a, b, c, d;
  uint64_t pa, pb, pc, pd, workspace;
  size_t workspace_bytes;
  float alpha, beta;
};

// Bytes from a matrix's first element to its last.
size_t extent(const MatrixLayout& m) {
  if (m.rows == 0 || m.cols == 0) return 0;
  return ((m.cols - 1) * static_cast<size_t>(m.stride) + m.rows) * size_of(m.type);
}

void multiply_one(const Product& p, size_t batch) {
  const auto at = [&](uint64_t base, const MatrixLayout& m, const char* what) {
    const uint64_t offset = static_cast<uint64_t>(m.batch_stride) * batch * size_of(m.type);
    return qvl::sim::device_bytes(base + offset, extent(m), what);
  };
  const size_t m = p.d.rows, n = p.d.cols, k = p.descriptor.transpose_a ? p.a.rows : p.a.cols;
  const Panel a = pack(at(p.pa, p.a, "cublasLt's A"), p.a, m, k, p.descriptor.transpose_a);
  const Panel b = pack(at(p.pb, p.b, "cublasLt's B"), p.b, n, k, !p.descriptor.transpose_b);
  const unsigned char* c = p.beta != 0 ? at(p.pc, p.c, "cublasLt's C") : nullptr;
  unsigned char* d = at(p.pd, p.d, "cublasLt's D");
  const unsigned char* bias = nullptr;
  const int32_t bias_type = p.descriptor.bias_type < 0 ? p.d.type : p.descriptor.bias_type;
  if (p.descriptor.epilogue == 4)
    bias = qvl::sim::device_bytes(p.descriptor.bias, m * size_of(bias_type), "cublasLt's bias");
  const auto put = [&](size_t i, size_t j, float v) {
    v *= p.alpha;
    if (c) v += p.beta * element(c, p.c.type, j * static_cast<size_t>(p.c.stride) + i);
    if (bias) v += element(bias, bias_type, i);
    set_element(d, p.d.type, j * static_cast<size_t>(p.d.stride) + i, v);
  };
  for (size_t i = 0; i < m; i += 4) {
    for (size_t j = 0; j < n; j += 4) {
      float out[4][4];
      const size_t wide = std::min<size_t>(4, m - i), high = std::min<size_t>(4, n - j);
      if (wide == 4 && high == 4) {
        dot_block<4, 4>(a, i, b, j, out);
      } else {
        for (size_t x = 0; x < wide; ++x)
          for (size_t y = 0; y < high; ++y) {
            float one[1][4];
            dot_block<1, 1>(a, i + x, b, j + y, one);
            out[x][y] = one[0][0];
          }
      }
      for (size_t x = 0; x < wide; ++x)
        for (size_t y = 0; y < high; ++y) put(i + x, j + y, out[x][y]);
    }
  }
  qvl::sim::note_written(p.pd + static_cast<uint64_t>(p.d.batch_stride) * batch * size_of(p.d.type),
                         extent(p.d));
}

void multiply(const Product& p) {
  // A real algorithm may use all of its workspace: what was there before is gone.
  if (p.workspace_bytes)
    std::memset(qvl::sim::device_bytes(p.workspace, p.workspace_bytes, "cublasLt's workspace"),
                0xff, p.workspace_bytes);
  for (size_t i = 0; i < static_cast<size_t>(p.d.batch); ++i) multiply_one(p, i);
}

// ---- what a product must be like ----

bool is_16_bit(int32_t type) { return type == kF16 || type == kBf16; }

Status check(const MatmulDescriptor& d, const MatrixLayout& a, const MatrixLayout& b,
             const MatrixLayout& c, const MatrixLayout& out) {
  if (d.compute_type != kComputeF32 || d.scale_type != kF32)
    return refuse(kNotSupported, "only sums in F32 with scales in F32 are simulated");
  if (!is_16_bit(a.type) || b.type != a.type || (out.type != a.type && out.type != kF32) ||
      c.type != out.type)
    return refuse(kNotSupported, "these types of matrices");
  for (const MatrixLayout* m : {&a, &b, &c, &out}) {
    if (m->order != 0) return refuse(kNotSupported, "an order that is not column-major");
    if (m->stride < static_cast<int64_t>(m->rows))
      return refuse(kInvalidValue, "a leading dimension below the rows");
    if (m->batch != out.batch) return refuse(kInvalidValue, "batches of different sizes");
  }
  if (d.epilogue != 1 && d.epilogue != 4)
    return refuse(kNotSupported, "epilogue " + std::to_string(d.epilogue));
  if (d.epilogue == 4 && !d.bias) return refuse(kInvalidValue, "the bias epilogue without a bias");
  const uint64_t m = d.transpose_a ? a.cols : a.rows, k = d.transpose_a ? a.rows : a.cols;
  const uint64_t kb = d.transpose_b ? b.cols : b.rows, n = d.transpose_b ? b.rows : b.cols;
  if (k != kb || out.rows != m || out.cols != n || c.rows != m || c.cols != n)
    return refuse(kInvalidValue, "shapes that do not fit each other: m " + std::to_string(m) +
                                     ", n " + std::to_string(n) + ", k " + std::to_string(k) +
                                     " and " + std::to_string(kb) + ", D " +
                                     std::to_string(out.rows) + "x" + std::to_string(out.cols));
  // Tensor cores read 16 bytes at a time.
  for (const MatrixLayout* x : {&a, &b})
    if (x->stride % 8)
      return refuse(kNotSupported, "a leading dimension of " + std::to_string(x->stride) +
                                       " elements: 8 must divide it");
  return kSuccess;
}

template <class T>
Status make(T** out, T value = {}) {
  *out = new T(value);
  return kSuccess;
}
template <class T>
Status destroy(T* p) {
  delete p;
  return kSuccess;
}

struct Handle {};

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

size_t cublasLtGetVersion() { return 130100; }
Status cublasLtCreate(Handle** handle) { return make(handle); }
Status cublasLtDestroy(Handle* handle) { return destroy(handle); }

Status cublasLtMatmulDescCreate(MatmulDescriptor** d, int32_t compute_type, int32_t scale_type) {
  return make(d, MatmulDescriptor{compute_type, scale_type});
}
Status cublasLtMatmulDescDestroy(MatmulDescriptor* d) { return destroy(d); }
Status cublasLtMatmulDescSetAttribute(MatmulDescriptor* d, int which, const void* value,
                                      size_t bytes) {
  Attribute a;
  switch (which) {
    case 0:
      a = attribute(d->compute_type);
      break;
    case 1:
      a = attribute(d->scale_type);
      break;
    case 3:
      a = attribute(d->transpose_a);
      break;
    case 4:
      a = attribute(d->transpose_b);
      break;
    case 7:
      a = attribute(d->epilogue);
      break;
    case 8:
      a = attribute(d->bias);
      break;
    case 26:
      a = attribute(d->bias_type);
      break;
    default:
      break;
  }
  return set(a, value, bytes, which);
}

Status cublasLtMatrixLayoutCreate(MatrixLayout** m, int32_t type, uint64_t rows, uint64_t cols,
                                  int64_t stride) {
  return make(m, MatrixLayout{type, 0, rows, cols, stride});
}
Status cublasLtMatrixLayoutDestroy(MatrixLayout* m) { return destroy(m); }
Status cublasLtMatrixLayoutSetAttribute(MatrixLayout* m, int which, const void* value,
                                        size_t bytes) {
  Attribute a;
  switch (which) {
    case 0:
      a = attribute(m->type);
      break;
    case 1:
      a = attribute(m->order);
      break;
    case 2:
      a = attribute(m->rows);
      break;
    case 3:
      a = attribute(m->cols);
      break;
    case 4:
      a = attribute(m->stride);
      break;
    case 5:
      a = attribute(m->batch);
      break;
    case 6:
      a = attribute(m->batch_stride);
      break;
    default:
      break;
  }
  return set(a, value, bytes, which);
}

Status cublasLtMatmulPreferenceCreate(Preference** p) { return make(p); }
Status cublasLtMatmulPreferenceDestroy(Preference* p) { return destroy(p); }
Status cublasLtMatmulPreferenceSetAttribute(Preference* p, int which, const void* value,
                                            size_t bytes) {
  Attribute a;
  if (which == 1) a = attribute(p->workspace);
  if (which == 3) a = attribute(p->reduction);
  if (which >= 5 && which <= 8) a = attribute(p->alignment[which - 5]);
  return set(a, value, bytes, which);
}

Status cublasLtMatmulAlgoGetHeuristic(Handle*, MatmulDescriptor* d, MatrixLayout* a,
                                      MatrixLayout* b, MatrixLayout* c, MatrixLayout* out,
                                      Preference* p, int wanted, HeuristicResult* results,
                                      int* found) {
  *found = 0;
  if (wanted < 1) return kInvalidValue;
  if (const Status s = check(*d, *a, *b, *c, *out)) return s;
  HeuristicResult r{};
  r.algorithm.data[0] = kAlgorithmMark;
  // Asks for what it may have, up to 1 MiB; and relies on the alignment that was promised.
  r.workspace = std::min<size_t>(p->workspace, size_t{1} << 20);
  r.algorithm.data[1] = r.workspace;
  for (int i = 0; i < 4; ++i) r.algorithm.data[2 + i] = p->alignment[i];
  r.algorithm.data[6] = out->cols;
  results[0] = r;
  *found = 1;
  return kSuccess;
}

Status cublasLtMatmul(Handle*, MatmulDescriptor* d, const void* alpha, const void* a,
                      MatrixLayout* al, const void* b, MatrixLayout* bl, const void* beta,
                      const void* c, MatrixLayout* cl, void* out, MatrixLayout* ol,
                      const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                      CUstream stream) {
  if (const Status s = check(*d, *al, *bl, *cl, *ol)) return s;
  if (!algorithm || algorithm->data[0] != kAlgorithmMark)
    return refuse(kInvalidValue, "an algorithm that no heuristic gave");
  // The library need not take an algorithm for another shape than it was chosen for.
  if (std::getenv("QWEN2_VL_SIM_CUBLASLT_EXACT") && algorithm->data[6] != ol->cols)
    return kNotSupported;
  if (algorithm->data[1] > workspace_bytes)
    return refuse(kInvalidValue, "a workspace of " + std::to_string(workspace_bytes) +
                                     " bytes; the algorithm needs " +
                                     std::to_string(algorithm->data[1]));
  const void* pointers[4] = {a, b, c, out};
  const auto address = [](const void* p) { return reinterpret_cast<uint64_t>(p); };
  for (int i = 0; i < 4; ++i)
    if (address(pointers[i]) % algorithm->data[2 + i])
      return refuse(kNotSupported, std::string("matrix ") + "ABCD"[i] + " is not aligned to " +
                                       std::to_string(algorithm->data[2 + i]) +
                                       " bytes, as the preference promised");
  if (workspace_bytes && address(workspace) % 256)
    return refuse(kInvalidValue, "a workspace not aligned to 256 bytes");
  Product p{*d,
            *al,
            *bl,
            *cl,
            *ol,
            address(a),
            address(b),
            address(c),
            address(out),
            address(workspace),
            static_cast<size_t>(algorithm->data[1]),
            0,
            0};
  std::memcpy(&p.alpha, alpha, sizeof p.alpha);
  std::memcpy(&p.beta, beta, sizeof p.beta);
  return qvl::sim::enqueue_work(stream, [p] { multiply(p); }) == CUDA_SUCCESS ? kSuccess
                                                                              : kExecutionFailed;
}

}  // extern "C"
#pragma GCC visibility pop
