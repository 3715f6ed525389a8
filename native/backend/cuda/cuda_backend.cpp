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
#include "backend/format.h"
#include "common/error.h"
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

/// Tiles of 128 rows and columns for every multiprocessor of a large device, several times over.
constexpr int64_t kBusyRows = 2048;
/// Some 20 ms of an A100 or an L4.
constexpr double kBoundedWork = 2e12;

unsigned num_host_threads() {
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMaxHostThreads);
}

api::DevicePointer address(const void* pointer) {
  return reinterpret_cast<api::DevicePointer>(pointer);
}

}  // namespace

OwnStream::OwnStream(Device& device) : device_(device) {
  const Driver& call = device.driver();
  call.check(call->stream_create(&stream_, api::kStreamNonBlocking), "creating a CUDA stream");
}

OwnStream::~OwnStream() {
  device_.make_current_quietly();
  device_.driver()->stream_synchronize(stream_);
  device_.driver()->stream_destroy(stream_);
}

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
  info_.busy_rows = kBusyRows;
  info_.bounded_work = kBoundedWork;
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
  // Before anything is given back: recorded steps must be gone also where no more is to be had.
  if (!memory.holds(bytes)) graphs_.clear();
  return memory.get(pool_, bytes);
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
  kernels::widen(values.data(), host, to_format(dtype), count);
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

std::unique_ptr<Weight> CudaBackend::create_weight(const WeightSpec& spec) {
  require(spec.out_features > 0 && spec.in_features > 0, "a weight must have rows and columns");
  if (spec.in_features % 8 != 0) {
    throw Error("ERR_CHECKPOINT_UNSUPPORTED",
                "a matrix with " + std::to_string(spec.in_features) +
                    " inputs; on device 'cuda' they must be a multiple of 8: use device 'cpu'");
  }
  if (!spec.quantization.is_quantized()) return std::make_unique<CudaWeight>(pool_, spec);
  auto weight = std::make_unique<CudaQuantizedWeight>(pool_, spec);
  if (weight->input_order() != nullptr) {
    upload(weight->input_order(), spec.input_order.data(),
           spec.input_order.size() * sizeof(int32_t));
  }
  return weight;
}

void CudaBackend::write_weight(Weight& weight, int64_t first_row, int64_t num_rows,
                               const void* rows, DType dtype) {
  require(first_row >= 0 && num_rows >= 0 && num_rows <= weight.spec().out_features - first_row,
          "write_weight outside the weight");
  if (auto* const quantized = as_quantized(weight)) {
    return quantized->write_rows(first_row, num_rows, rows, dtype, uploads_);
  }
  static_cast<CudaWeight&>(weight).write_rows(first_row, num_rows, rows, dtype, uploads_);
}

void CudaBackend::write_quantized(Weight& weight, const QuantizedBlock& block) {
  auto* const quantized = as_quantized(weight);
  require(quantized != nullptr, "write_quantized to a weight that is not quantised");
  quantized->write_block(block, uploads_);
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
