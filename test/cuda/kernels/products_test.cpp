// Products by cuBLASLt: against double precision, the same row in all numbers of rows of a class,
// and where the library does not take a class's algorithm.

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/blas.h"
#include "check.h"
#include "kernels/compare.h"

using namespace qvl;
using namespace qvl::test;

namespace {

/// A device with one weight [kOut, kIn] and kRows rows to multiply it with.
class Products {
 public:
  static constexpr int64_t kOut = 24, kIn = 72, kRows = 40;

  explicit Products(Half type)
      : type_(type),
        dtype_(type == Half::kBf16 ? DType::kBF16 : DType::kF16),
        weight_(random_halves(kOut * kIn, 1, type)),
        x_(random_halves(kRows * kIn, 2, type)),
        device_(std::make_shared<cuda::Device>(cuda::Driver::open(), 0)),
        pool_(std::make_shared<cuda::MemoryPool>(device_)),
        products_(*device_, pool_, cuda::Blas::open()),
        weight_memory_(pool_, kOut * kIn * 2, "a test"),
        x_memory_(pool_, kRows * kIn * 2, "a test"),
        out_memory_(pool_, kRows * kOut * sizeof(float), "a test") {
    copy_to(weight_memory_, narrow(weight_, type));
    copy_to(x_memory_, narrow(x_, type));
  }

  /// The first `rows` rows' products added to ones.
  std::vector<float> multiply(int64_t rows) {
    copy_to(out_memory_, std::vector<float>(kRows * kOut, 1.F));
    products_.multiply({out_memory_.data(), rows, kOut, kOut, DType::kF32},
                       {x_memory_.data(), rows, kIn, kIn, dtype_}, weight_memory_.data(),
                       /*add=*/true, nullptr);
    std::vector<float> out(static_cast<size_t>(rows * kOut));
    call().check(call()->memcpy_dtoh_async(out.data(), address(out_memory_),
                                           out.size() * sizeof(float), nullptr),
                 "a download");
    call().check(call()->stream_synchronize(nullptr), "a product");
    return out;
  }

  void check(const std::vector<float>& out) const {
    for (size_t i = 0; i < out.size(); ++i) {
      double sum = 1;
      for (size_t k = 0; k < kIn; ++k) {
        sum += double{x_[i / kOut * kIn + k]} * double{weight_[i % kOut * kIn + k]};
      }
      CHECK(std::fabs(out[i] - sum) < 1e-4);
    }
  }

 private:
  const cuda::Driver& call() const { return device_->driver(); }
  static cuda::api::DevicePointer address(const cuda::CudaBuffer& buffer) {
    return reinterpret_cast<cuda::api::DevicePointer>(buffer.data());
  }
  template <class T>
  void copy_to(const cuda::CudaBuffer& buffer, const std::vector<T>& values) {
    call().check(call()->memcpy_htod_async(address(buffer), values.data(),
                                           values.size() * sizeof(T), nullptr),
                 "an upload");
  }

  Half type_;
  DType dtype_;
  std::vector<float> weight_, x_;
  std::shared_ptr<cuda::Device> device_;
  std::shared_ptr<cuda::MemoryPool> pool_;
  cuda::MatrixProducts products_;
  cuda::CudaBuffer weight_memory_, x_memory_, out_memory_;
};

}  // namespace

TEST(products_are_those_of_double_precision_and_of_the_row_alone) {
  for (const Half type : kHalves) {
    Products products(type);
    const std::vector<float> all = products.multiply(32);
    for (const int64_t rows : {9, 16, 17, 31, 32, 33, 40}) {
      const std::vector<float> out = products.multiply(rows);
      products.check(out);
      if (rows < 17 || rows > 32) continue;  // another class
      for (size_t i = 0; i < out.size(); ++i) CHECK_EQ(out[i], all[i]);
    }
  }
}

TEST(an_algorithm_that_does_not_fit_the_rows_is_replaced) {
  setenv("QWEN2_VL_SIM_CUBLASLT_EXACT", "1", 1);
  Products products(Half::kBf16);
  for (const int64_t rows : {9, 16, 9, 40}) products.check(products.multiply(rows));
  unsetenv("QWEN2_VL_SIM_CUBLASLT_EXACT");
}
