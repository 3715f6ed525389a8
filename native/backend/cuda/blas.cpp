#include "backend/cuda/blas.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "common/error.h"

namespace qvl::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr const char* kWayOut =
    "install cuBLAS 13 or 12 (packages libcublas-13-x, or the wheel nvidia-cublas) so that the "
    "loader finds libcublasLt.so, or set QWEN2_VL_CUBLASLT to the file";

std::vector<std::string> library_names() {
  const char* other = std::getenv("QWEN2_VL_CUBLASLT");
  if (other != nullptr && *other != '\0') return {other};
  return {"libcublasLt.so.13", "libcublasLt.so.12"};
}

QVL_DEFINE_FIND_FUNCTIONS(QVL_CUBLASLT_FUNCTIONS, Blas::Functions)

/// Rows that share an algorithm: up to 16, 32, 64, ... 4096, and beyond.
int64_t row_class(int64_t rows) {
  int64_t most = 16;
  while (most < rows && most < 8192) most *= 2;
  return most;
}

int blas_type(DType dtype) {
  return dtype == DType::kF32 ? blas::kF32 : dtype == DType::kF16 ? blas::kF16 : blas::kBF16;
}

}  // namespace

const BlasState& blas_state() {
  static const BlasState state = [] {
    BlasState found;
    const auto blas = std::make_shared<Blas>();
    blas->library_ = Library::open(library_names());
    if (!blas->library_.is_open()) {
      found.reason = "no cuBLASLt: " + blas->library_.error() + "; " + kWayOut;
      return found;
    }
    found.found = true;
    found.path = blas->path();
    const char* missing = find_functions(blas->library_, &blas->functions_);
    if (missing != nullptr) {
      found.reason = "cuBLASLt at " + found.path + " lacks " + missing + "; " + kWayOut;
      return found;
    }
    using GetVersion = size_t (*)();
    if (const auto get_version =
            reinterpret_cast<GetVersion>(blas->library_.find("cublasLtGetVersion"))) {
      found.version = blas->version_ = get_version();
    }
    found.blas = blas;
    return found;
  }();
  return state;
}

std::shared_ptr<const Blas> Blas::open() {
  const BlasState& state = blas_state();
  if (state.blas == nullptr) throw Error("ERR_BACKEND_UNAVAILABLE", state.reason);
  return state.blas;
}

/// The layouts of out^T [N, T] = weight [K, N]^T x^T [K, T], column-major.
struct MatrixProducts::Layouts {
  Layouts(const MatrixProducts& products, const Key& key, int64_t rows) : blas(*products.blas_) {
    const auto [row_class, n, k, out_stride, x_stride, out_type, type, add] = key;
    const auto create = [&](blas::MatrixLayout* layout, DType dtype, int64_t layout_rows,
                            int64_t cols, int64_t stride) {
      products.check(
          blas->layout_create(layout, blas_type(dtype), static_cast<uint64_t>(layout_rows),
                              static_cast<uint64_t>(cols), stride),
          "describing a matrix");
    };
    create(&weight, type, k, n, k);
    create(&x, type, k, rows, x_stride);
    create(&out, out_type, n, rows, out_stride);
  }
  ~Layouts() {
    for (const blas::MatrixLayout layout : {weight, x, out}) {
      if (layout != nullptr) blas->layout_destroy(layout);
    }
  }
  Layouts(const Layouts&) = delete;
  Layouts& operator=(const Layouts&) = delete;

  const Blas& blas;
  blas::MatrixLayout weight = nullptr;
  blas::MatrixLayout x = nullptr;
  blas::MatrixLayout out = nullptr;
};

MatrixProducts::MatrixProducts(Device& device, const std::shared_ptr<MemoryPool>& pool,
                               std::shared_ptr<const Blas> blas)
    : device_(device),
      blas_(std::move(blas)),
      workspace_(pool, kWorkspaceBytes, "cuBLASLt's workspace") {
  const Blas& call = *blas_;
  check(call->create(&handle_), "starting cuBLASLt");
  check(call->matmul_descriptor_create(&descriptor_, blas::kComputeF32, blas::kF32),
        "describing a product");
  const int32_t transposed = blas::kTransposed;
  check(call->matmul_descriptor_set(descriptor_, blas::kTransposeA, &transposed, sizeof transposed),
        "describing a product");
}

MatrixProducts::~MatrixProducts() {
  device_.make_current_quietly();
  const Blas& call = *blas_;
  if (descriptor_ != nullptr) call->matmul_descriptor_destroy(descriptor_);
  if (handle_ != nullptr) call->destroy(handle_);
}

void MatrixProducts::check(blas::Status status, const char* what) const {
  if (status == blas::kSuccess) return;
  throw Error("ERR_BACKEND_FAILED",
              std::string("cuBLASLt: ") + what + " failed with status " + std::to_string(status) +
                  ". Load the model again; if this happens again, use device 'cpu' and report it",
              {{"cublasStatus", int64_t{status}}});
}

const MatrixProducts::Choice& MatrixProducts::choose(const Key& key) {
  const auto known = choices_.find(key);
  if (known != choices_.end()) return known->second;
  const Blas& call = *blas_;
  const Layouts layouts(*this, key, std::get<0>(key));
  blas::Preference preference = nullptr;
  check(call->preference_create(&preference), "choosing an algorithm");
  const size_t workspace = kWorkspaceBytes;
  blas::HeuristicResult result{};
  int found = 0;
  blas::Status status =
      call->preference_set(preference, blas::kMaxWorkspaceBytes, &workspace, sizeof workspace);
  if (status == blas::kSuccess) {
    // No sums over parts of K by several blocks: their order would not be fixed.
    status = call->preference_set(preference, blas::kReductionSchemes, &blas::kNoReduction,
                                  sizeof blas::kNoReduction);
  }
  if (status == blas::kSuccess) {
    status = call->get_heuristic(handle_, descriptor_, layouts.weight, layouts.x, layouts.out,
                                 layouts.out, preference, 1, &result, &found);
  }
  call->preference_destroy(preference);
  check(status, "choosing an algorithm");
  if (found == 0)
    check(result.state != blas::kSuccess ? result.state : -1, "choosing an algorithm");
  return choices_.emplace(key, Choice{result.algorithm, result.workspace_bytes}).first->second;
}

blas::Status MatrixProducts::run(const Choice& choice, const Layouts& layouts, const Tensor& out,
                                 const Tensor& x, const void* weight, bool add,
                                 api::Stream stream) {
  const float one = 1;
  const float beta = add ? 1 : 0;
  return (*blas_)->matmul(handle_, descriptor_, &one, weight, layouts.weight, x.data, layouts.x,
                          &beta, out.data, layouts.out, out.data, layouts.out, &choice.algorithm,
                          workspace_.data(), choice.workspace_bytes, stream);
}

void MatrixProducts::multiply(const Tensor& out, const Tensor& x, const void* weight, bool add,
                              api::Stream stream) {
  if (out.rows == 0) return;
  const auto key_for = [&](int64_t rows) {
    return Key{rows, out.cols, x.cols, out.row_stride, x.row_stride, out.dtype, x.dtype, add};
  };
  const Key of_rows = key_for(out.rows);
  const Layouts layouts(*this, of_rows, out.rows);
  const auto attempt = [&](const Key& key) {
    return run(choose(key), layouts, out, x, weight, add, stream);
  };
  // Chosen for these rows: none of their class's was taken before, or they are the class.
  const bool is_known = choices_.contains(of_rows);
  blas::Status status = attempt(is_known ? of_rows : key_for(row_class(out.rows)));
  if (!is_known && (status == blas::kNotSupported || status == blas::kInvalidValue)) {
    status = attempt(of_rows);
  }
  check(status, "a matrix product");
}

}  // namespace qvl::cuda
