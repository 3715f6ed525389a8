#pragma once

// What a kernel's test needs: memory, launches by name, results. Built on the product's own
// driver.h and module.h, so the same test runs on the simulator and on a GPU.
//
//     Gpu gpu;
//     auto x = gpu.upload(values);
//     auto y = gpu.allocate<uint16_t>(values.size());
//     gpu.launch("convert_bf16", {blocks}, {kConvertThreads}, 0, ConvertParams{x.get(), y.get(),
//     n}); std::vector<uint16_t> result = gpu.download(y);

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/cuda/module.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/rows.h"
#include "kernels/digest.h"

namespace qvl::test {

/// `size()` elements in the device's memory.
template <class T>
class DeviceArray {
 public:
  DeviceArray(cuda::Device& device, size_t size) : device_(&device), size_(size) {
    const cuda::Driver& call = device.driver();
    call.check(call->mem_alloc(&pointer_, size == 0 ? 1 : size * sizeof(T)), "a test's memory");
  }
  ~DeviceArray() {
    if (pointer_ != 0) device_->driver()->mem_free(pointer_);
  }
  DeviceArray(DeviceArray&& other) noexcept
      : device_(other.device_), pointer_(std::exchange(other.pointer_, 0)), size_(other.size_) {}
  DeviceArray& operator=(DeviceArray&&) = delete;

  T* get() const { return reinterpret_cast<T*>(pointer_); }
  size_t size() const { return size_; }

 private:
  cuda::Device* device_;
  cuda::api::DevicePointer pointer_ = 0;
  size_t size_;
};

class Gpu {
 public:
  Gpu() : device_(cuda::Driver::open(), 0) {}

  cuda::Device& device() { return device_; }
  int num_multiprocessors() const { return device_.properties().num_multiprocessors; }

  template <class T>
  DeviceArray<T> allocate(size_t size) {
    return DeviceArray<T>(device_, size);
  }
  /// `size` elements whose every byte is `byte`: to see what a kernel leaves alone.
  template <class T>
  DeviceArray<T> filled(size_t size, unsigned char byte) {
    DeviceArray<T> array(device_, size);
    if (size != 0) {
      check(call()->memset_d8_async(address(array), byte, size * sizeof(T), nullptr), "a fill");
      synchronize();
    }
    return array;
  }
  template <class T>
  DeviceArray<T> upload(const std::vector<T>& values) {
    DeviceArray<T> array(device_, values.size());
    write(array, values);
    return array;
  }
  template <class T>
  void write(DeviceArray<T>& array, const std::vector<T>& values) {
    if (values.empty()) return;
    check(call()->memcpy_htod_async(address(array), values.data(), values.size() * sizeof(T),
                                    nullptr),
          "an upload");
    synchronize();
  }
  template <class T>
  std::vector<T> download(const DeviceArray<T>& array) {
    std::vector<T> values(array.size());
    if (!values.empty()) {
      check(call()->memcpy_dtoh_async(values.data(), address(array), values.size() * sizeof(T),
                                      nullptr),
            "a download");
      synchronize();
    }
    digest_.add(values.data(), values.size() * sizeof(T));
    return values;
  }

  /// Has a kernel copy `to.size()` elements, which fill whole 16 bytes. As in a decode step, the
  /// next launch may overlap it where the device can (compute capability 9.0 and later): a kernel
  /// that does not wait for its predecessor finds the old values, and the simulator says so.
  template <class T>
  void produce(const DeviceArray<T>& to, const T* from) {
    const auto bytes = static_cast<int64_t>(to.size() * sizeof(T));
    start_copy(1, {to.get(), from, nullptr, nullptr, bytes, bytes, bytes});
  }
  /// The same of some rows of an array only.
  template <class T>
  void produce_rows(const DeviceArray<T>& to, const DeviceArray<T>& from, size_t row_elements,
                    const DeviceArray<int32_t>& rows) {
    const auto bytes = static_cast<int64_t>(row_elements * sizeof(T));
    start_copy(rows.size(), {to.get(), from.get(), rows.get(), rows.get(), bytes, bytes, bytes});
  }

  /// Returns when the kernel has ended; what is wrong with it is thrown.
  template <class Params>
  void launch(std::string_view name, cuda::Dim3 grid, cuda::Dim3 block, size_t shared_bytes,
              const Params& params) {
    start(name, {grid, block, shared_bytes}, params);
    digest_.begin(name);
    has_predecessor_ = false;
    synchronize();
  }

 private:
  template <class Params>
  void start(std::string_view name, cuda::LaunchShape shape, const Params& params) {
    shape.overlaps_predecessor = has_predecessor_;
    device_.launch(name, nullptr, shape, params);
  }
  void start_copy(size_t rows, const CopyRowsParams& params) {
    if (params.row_bytes % 16 != 0) throw std::invalid_argument("copies are of whole 16 bytes");
    start("copy_rows", {{static_cast<unsigned>(rows)}, {kRowsThreads}}, params);
    has_predecessor_ = true;
  }
  const cuda::Driver& call() const { return device_.driver(); }
  void check(cuda::api::Result result, const char* what) const { call().check(result, what); }
  void synchronize() { check(call()->stream_synchronize(nullptr), "running a kernel"); }
  template <class T>
  static cuda::api::DevicePointer address(const DeviceArray<T>& array) {
    return reinterpret_cast<cuda::api::DevicePointer>(array.get());
  }

  cuda::Device device_;
  bool has_predecessor_ = false;
  Digest digest_;
};

// ---- 16-bit numbers on the host ----

/// The two types W that every kernel exists for.
enum class Half : uint8_t { kBf16, kFp16 };
inline constexpr Half kHalves[] = {Half::kBf16, Half::kFp16};

/// "gemv_swiglu" -> "gemv_swiglu_bf16"
inline std::string kernel_name(std::string_view base, Half type) {
  return std::string(base) + (type == Half::kBf16 ? "_bf16" : "_fp16");
}
inline uint16_t narrow(float value, Half type) {
  return type == Half::kBf16 ? kernels::f32_to_bf16(value) : kernels::f32_to_f16(value);
}
inline float widen(uint16_t bits, Half type) {
  return type == Half::kBf16 ? kernels::bf16_to_f32(bits) : kernels::f16_to_f32(bits);
}
inline std::vector<uint16_t> narrow(const std::vector<float>& values, Half type) {
  std::vector<uint16_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(narrow(value, type));
  return bits;
}
inline std::vector<float> widen(const std::vector<uint16_t>& bits, Half type) {
  std::vector<float> values;
  values.reserve(bits.size());
  for (const uint16_t value : bits) values.push_back(widen(value, type));
  return values;
}

}  // namespace qvl::test
