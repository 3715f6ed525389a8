// Memory, weights and the key/value cache of the CUDA backend, and how it is created.

#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "backend/cuda/cuda_backend_impl.h"
#include "common/error.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/gemv.h"

namespace qvl {

std::unique_ptr<Backend> create_cuda_backend(const CudaBackendOptions& options) {
  auto device = std::make_shared<cuda::Device>(cuda::Driver::open(), options.ordinal);
  return std::make_unique<cuda::CudaBackend>(std::move(device), cuda::Blas::open(), options.dtype);
}

namespace cuda {
namespace {

/// Threads that read and convert weights: more would wait for the bus.
constexpr unsigned kMaxHostThreads = 8;

unsigned num_host_threads() {
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMaxHostThreads);
}

api::DevicePointer address(const void* pointer) {
  return reinterpret_cast<api::DevicePointer>(pointer);
}

/// The product of sizes that a file or a caller gave.
size_t checked_bytes(int64_t a, int64_t b) {
  size_t bytes = 0;
  require(a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, &bytes) && bytes <= size_t{1} << 62,
          "a size that no device has");
  return bytes;
}

float load(const void* data, DType dtype, int64_t index) {
  const kernels::Format format = dtype == DType::kF32    ? kernels::Format::kF32
                                 : dtype == DType::kBF16 ? kernels::Format::kBF16
                                                         : kernels::Format::kF16;
  return kernels::load(data, format, index);
}

}  // namespace

void require(bool condition, const char* what) {
  if (!condition) {
    throw Error("ERR_INTERNAL", std::string("The CUDA backend was called wrongly: ") + what);
  }
}

OwnStream::OwnStream(Device& device) : device_(device) {
  const Driver& call = device.driver();
  call.check(call->stream_create(&stream_, api::kStreamNonBlocking), "creating a CUDA stream");
}

OwnStream::~OwnStream() {
  device_.make_current_quietly();
  device_.driver()->stream_synchronize(stream_);
  device_.driver()->stream_destroy(stream_);
}

CudaWeight::CudaWeight(const std::shared_ptr<MemoryPool>& pool, WeightSpec spec)
    : spec_(std::move(spec)),
      memory_(pool,
              checked_bytes(spec_.out_features,
                            spec_.in_features * static_cast<int64_t>(dtype_size(spec_.dtype))),
              "the model's weights") {}

CudaKvCache::CudaKvCache(const std::shared_ptr<MemoryPool>& pool, const KvCacheSpec& spec)
    : spec_(spec),
      layer_bytes_(checked_bytes(
          spec.num_blocks * spec.num_kv_heads,
          2 * kKvBlockTokens * spec.head_dim * static_cast<int64_t>(dtype_size(spec.dtype)))),
      memory_(pool, checked_bytes(static_cast<int64_t>(layer_bytes_), spec.num_layers),
              "the key/value cache") {}

CudaBackend::CudaBackend(std::shared_ptr<Device> device, std::shared_ptr<const Blas> blas,
                         DType dtype)
    : device_(std::move(device)),
      dtype_(dtype),
      pool_(std::make_shared<MemoryPool>(device_)),
      stream_(*device_),
      uploads_(*device_),
      products_(*device_, pool_, std::move(blas)),
      graphs_(*device_) {
  require(dtype != DType::kF32, "activations have 16 bits");
  info_.kind = "cuda";
  info_.name = device_->properties().name;
  info_.instruction_set = "sm_" + std::to_string(device_->properties().compute_capability);
  info_.threads = static_cast<int>(num_host_threads());
  info_.memory_bytes = static_cast<int64_t>(device_->properties().memory_bytes);
}

CudaBackend::~CudaBackend() {
  device_->make_current_quietly();
  device_->driver()->stream_synchronize(stream_.get());
}

// ---- memory ----

std::unique_ptr<Buffer> CudaBackend::allocate(size_t bytes) {
  return std::make_unique<CudaBuffer>(pool_, bytes, "activations");
}

void* CudaBackend::scratch(Scratch& memory, size_t bytes) {
  bool moved = false;
  void* const pointer = memory.get(pool_, bytes, &moved);
  if (moved) graphs_.clear();
  return pointer;
}

void CudaBackend::upload(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  const Driver& call = device_->driver();
  // From ordinary memory: the driver has its own copy when it returns.
  call.check(call->memcpy_htod_async(address(device), host, bytes, stream_.get()),
             "an upload to the GPU");
}

void CudaBackend::upload_f32(void* device, const void* host, DType dtype, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = load(host, dtype, i);
  upload(device, values.data(), values.size() * sizeof(float));
}

void CudaBackend::download(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  device_->make_current();
  const Driver& call = device_->driver();
  call.check(call->memcpy_dtoh_async(host, address(device), bytes, stream_.get()),
             "a download from the GPU");
  call.check(call->stream_synchronize(stream_.get()), "the work on the GPU");
}

// ---- weights ----

namespace {

[[noreturn]] void refuse_quantized() {
  throw Error("ERR_INVALID_ARGUMENT",
              "quantised weights are not available on device 'cuda': leave quantization out, or "
              "use device 'cpu'",
              {{"path", std::string("quantization")}});
}

}  // namespace

void CudaBackend::write_quantized(Weight&, const QuantizedBlock&) { refuse_quantized(); }

std::unique_ptr<Weight> CudaBackend::create_weight(const WeightSpec& spec) {
  require(spec.out_features > 0 && spec.in_features > 0, "a weight must have rows and columns");
  if (spec.quantization.is_quantized()) refuse_quantized();
  if (spec.in_features % 8 != 0) {
    throw Error("ERR_CHECKPOINT_UNSUPPORTED",
                "a matrix with " + std::to_string(spec.in_features) +
                    " inputs; on device 'cuda' they must be a multiple of 8: use device 'cpu'");
  }
  return std::make_unique<CudaWeight>(pool_, spec);
}

void CudaBackend::write_weight(Weight& weight, int64_t first_row, int64_t num_rows,
                               const void* rows, DType dtype) {
  const auto& matrix = static_cast<const CudaWeight&>(weight);
  const WeightSpec& spec = matrix.spec();
  require(first_row >= 0 && num_rows >= 0 && num_rows <= spec.out_features - first_row,
          "write_weight outside the weight");
  const size_t row_bytes = matrix.row_bytes();
  const auto* source = static_cast<const char*>(rows);
  const auto fill = [&](void* piece, size_t offset, size_t bytes) {
    if (dtype == spec.dtype) {
      std::memcpy(piece, source + offset, bytes);
      return;
    }
    auto* const to = static_cast<uint16_t*>(piece);
    const auto first = static_cast<int64_t>(offset / sizeof(uint16_t));
    for (size_t i = 0; i < bytes / sizeof(uint16_t); ++i) {
      const float value = load(source, dtype, first + static_cast<int64_t>(i));
      to[i] = spec.dtype == DType::kBF16 ? kernels::f32_to_bf16(value) : kernels::f32_to_f16(value);
    }
  };
  uploads_.upload(matrix.data() + static_cast<size_t>(first_row) * row_bytes,
                  static_cast<size_t>(num_rows) * row_bytes, fill);
}

std::unique_ptr<Weight> CudaBackend::wrap_weight(const WeightSpec&, std::span<const WeightRows>,
                                                 std::shared_ptr<const void>) {
  throw Error("ERR_INVALID_ARGUMENT",
              "weights: 'mapped' leaves the weights in their files, where a GPU cannot read them: "
              "use weights: 'packed', or device 'cpu'",
              {{"path", std::string("weights")}});
}

std::unique_ptr<KvCache> CudaBackend::create_kv_cache(const KvCacheSpec& spec) {
  require(spec.num_layers > 0 && spec.num_kv_heads > 0 && spec.head_dim > 0 && spec.num_blocks > 0,
          "a key/value cache must have layers, heads and blocks");
  require(spec.dtype == dtype_, "the key/value cache has the backend's type");
  return std::make_unique<CudaKvCache>(pool_, spec);
}

void CudaBackend::parallel(int64_t num_tasks, const std::function<void(int64_t)>& task) {
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr first;
  const auto work = [&] {
    for (int64_t index = next++; index < num_tasks; index = next++) {
      try {
        task(index);
      } catch (...) {
        next = num_tasks;
        const std::lock_guard lock(mutex);
        if (first == nullptr) first = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> threads;
  const auto count = std::min<int64_t>(num_tasks, num_host_threads());
  for (int64_t i = 1; i < count; ++i) threads.emplace_back(work);
  work();
  threads.clear();  // joins
  if (first != nullptr) std::rethrow_exception(first);
}

// ---- steps ----

void CudaBackend::run_step(const SequenceBatch& batch, bool repeatable,
                           const std::function<void()>& body) {
  const auto& tables = static_cast<const CudaSequenceBatch&>(batch);
  if (!repeatable || tables.num_rows() > kGemvMaxRows || !tables.covers_all_rows()) return body();
  graphs_.run(tables.shape(), stream_.get(), body);
}

}  // namespace cuda
}  // namespace qvl
