// A CUDA driver without a GPU, in place of libcuda.so.1: devices, memory, streams, events.
// Signatures are those of the toolkit's cuda.h, so what the product declares for itself is held
// against it.

#include <cuda.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "device.h"
#include "memory.h"
#include "report.h"

namespace {

using qvl::sim::Device;
using qvl::sim::DeviceMemory;

struct StreamData {};
struct EventData {
  bool recorded = false;
  std::chrono::steady_clock::time_point at;
};

struct State {
  bool initialised = false;
  int contexts = 0;
  std::set<void*> streams, events;
  std::map<const unsigned char*, size_t> pinned;
};
State& state() {
  static auto* s = new State;
  return *s;
}

int integer(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

int device_count() { return integer("QWEN2_VL_SIM_DEVICES", 1); }

// Before cuInit and after a failed kernel every call fails.
CUresult ready() {
  if (!state().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  return Device::instance().error();
}
// What the calling thread made current: every thread has to, as with the real driver.
thread_local CUcontext current_context = nullptr;
CUresult ready_with_context() {
  if (const CUresult r = ready()) return r;
  const bool is_there = state().contexts > 0 && current_context != nullptr;
  return is_there ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

bool is_pinned(const void* p, size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(p);
  auto it = state().pinned.upper_bound(at);
  if (it == state().pinned.begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}

CUresult check_stream(CUstream stream) {
  if (const CUresult r = ready_with_context()) return r;
  return !stream || state().streams.count(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

bool in_device(CUdeviceptr p, size_t bytes) {
  return bytes == 0 || DeviceMemory::instance().find(p, bytes).bytes != 0;
}

struct Name {
  CUresult error;
  const char *name, *text;
};
constexpr Name kNames[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE",
     "the operation cannot be performed in the present state"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"}};

int attribute(CUdevice_attribute which) {
  const int arch = Device::instance().architecture();
  const int shared = arch >= 120  ? 99
                     : arch >= 90 ? 227
                     : arch == 80 ? 163
                                  : 99;  // KiB a block can have
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return arch / 10;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      return arch % 10;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return integer("QWEN2_VL_SIM_MULTIPROCESSORS", 4);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 48 * 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return shared * 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      return (shared + 1) * 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      return arch >= 120 || arch == 86 || arch == 89 ? 1536 : 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      return 1410000;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      return 1593000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      return 5120;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
      return 40 << 20;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
      return which == CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING;
    default:
      return 0;
  }
}

void copy_in(CUdeviceptr to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  std::memcpy(qvl::sim::device_bytes(to, bytes, "a copy to the device"), from, bytes);
  qvl::sim::write_copy(Device::instance().options().report, "to_device", bytes);
}

// Pageable memory is read before the call returns, pinned memory when the copy's turn comes.
CUresult copy_to_device(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  if (!in_device(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Device& device = Device::instance();
  if (is_pinned(from, bytes) || device.capturing(stream)) {
    return device.enqueue(stream, [=] { copy_in(to, from, bytes); });
  }
  const auto* begin = static_cast<const unsigned char*>(from);
  auto kept = std::make_shared<std::vector<unsigned char>>(begin, begin + bytes);
  return device.enqueue(stream, [=] { copy_in(to, kept->data(), bytes); });
}

CUresult copy_to_host(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  if (!in_device(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Device& device = Device::instance();
  const CUresult r = device.enqueue(stream, [=] {
    if (bytes == 0) return;
    std::memcpy(to, qvl::sim::device_bytes(from, bytes, "a copy to the host"), bytes);
    qvl::sim::write_copy(Device::instance().options().report, "to_host", bytes);
  });
  if (r != CUDA_SUCCESS || device.capturing(stream) || is_pinned(to, bytes)) return r;
  return device.synchronize();
}

template <class T>
CUresult fill(CUdeviceptr to, T value, size_t count, CUstream stream) {
  const size_t bytes = count * sizeof(T);
  if (!in_device(to, bytes) || to % sizeof(T)) return CUDA_ERROR_INVALID_VALUE;
  return Device::instance().enqueue(stream, [=] {
    if (!count) return;
    unsigned char* p = qvl::sim::device_bytes(to, bytes, "a memset");
    for (size_t i = 0; i < count; ++i) std::memcpy(p + i * sizeof(T), &value, sizeof(T));
  });
}

}  // namespace

#define LOCKED std::lock_guard qvl_lock(Device::instance().mutex())
#define RETURN_UNLESS_READY(check) \
  LOCKED;                          \
  if (const CUresult qvl_result = check) return qvl_result

#pragma GCC visibility push(default)
extern "C" {

// ---- the driver and its devices ----

CUresult cuInit(unsigned) {
  LOCKED;
  if (const int error = integer("QWEN2_VL_SIM_INIT_ERROR", 0)) return static_cast<CUresult>(error);
  if (device_count() == 0) return CUDA_ERROR_NO_DEVICE;
  state().initialised = true;
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
  *version = integer("QWEN2_VL_SIM_DRIVER_VERSION", 13000);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char** name) {
  for (const Name& n : kNames)
    if (n.error == error) return *name = n.name, CUDA_SUCCESS;
  *name = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
  for (const Name& n : kNames)
    if (n.error == error) return *text = n.text, CUDA_SUCCESS;
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuDeviceGetCount(int* count) {
  RETURN_UNLESS_READY(ready());
  *count = device_count();
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  RETURN_UNLESS_READY(ready());
  if (ordinal < 0 || ordinal >= device_count()) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  RETURN_UNLESS_READY(ready());
  const std::string text =
      "PTX simulator, compute_" + std::to_string(Device::instance().architecture());
  if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::strncpy(name, text.c_str(), static_cast<size_t>(length));
  name[length - 1] = 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
  RETURN_UNLESS_READY(ready());
  *value = attribute(which);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  RETURN_UNLESS_READY(ready());
  *bytes = DeviceMemory::instance().capacity();
  return CUDA_SUCCESS;
}

// ---- contexts ----

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  RETURN_UNLESS_READY(ready());
  if (device < 0 || device >= device_count()) return CUDA_ERROR_INVALID_DEVICE;
  ++state().contexts;
  *context = reinterpret_cast<CUcontext>(&state());
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  LOCKED;
  if (state().contexts == 0) return CUDA_ERROR_INVALID_CONTEXT;
  --state().contexts;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  RETURN_UNLESS_READY(ready());
  if (context != nullptr && state().contexts == 0) return CUDA_ERROR_INVALID_CONTEXT;
  current_context = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
  RETURN_UNLESS_READY(ready());
  *context = state().contexts > 0 ? current_context : nullptr;
  return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
  RETURN_UNLESS_READY(ready_with_context());
  return Device::instance().synchronize();
}

// ---- memory ----

CUresult cuMemGetInfo(size_t* free, size_t* total) {
  RETURN_UNLESS_READY(ready_with_context());
  const DeviceMemory& memory = DeviceMemory::instance();
  *total = memory.capacity();
  *free = memory.free();
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
  RETURN_UNLESS_READY(ready_with_context());
  if (const CUresult r = Device::instance().not_while_capturing()) return r;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  *pointer = DeviceMemory::instance().allocate(bytes);
  return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFree(CUdeviceptr pointer) {
  LOCKED;
  if (!state().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (pointer == 0) return CUDA_SUCCESS;
  // Waits for what is under way. After a failure memory still is given back, so that only real
  // leaks are reported, and the answer is the failure.
  const CUresult result = Device::instance().synchronize();
  if (!DeviceMemory::instance().release(pointer)) return CUDA_ERROR_INVALID_VALUE;
  return result;
}
CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  RETURN_UNLESS_READY(ready_with_context());
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  auto* p = static_cast<unsigned char*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096));
  if (!p) return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(p, 0xff, bytes);
  state().pinned[p] = bytes;
  *pointer = p;
  return CUDA_SUCCESS;
}
CUresult cuMemAllocHost(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
CUresult cuMemFreeHost(void* pointer) {
  LOCKED;
  Device::instance().synchronize();
  if (!state().pinned.erase(static_cast<unsigned char*>(pointer))) return CUDA_ERROR_INVALID_VALUE;
  std::free(pointer);
  return Device::instance().error();
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return copy_to_device(to, from, bytes, stream);
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return copy_to_host(to, from, bytes, stream);
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
  RETURN_UNLESS_READY(ready_with_context());
  if (const CUresult r = copy_to_device(to, from, bytes, nullptr)) return r;
  return Device::instance().synchronize();
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
  RETURN_UNLESS_READY(ready_with_context());
  if (const CUresult r = copy_to_host(to, from, bytes, nullptr)) return r;
  return Device::instance().synchronize();
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  if (!in_device(to, bytes) || !in_device(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return Device::instance().enqueue(stream, [=] {
    if (!bytes) return;
    unsigned char* d = qvl::sim::device_bytes(to, bytes, "a copy's destination");
    const unsigned char* s = qvl::sim::device_bytes(from, bytes, "a copy's source");
    if (d < s + bytes && s < d + bytes) throw qvl::sim::KernelError("a copy onto its own source");
    std::memcpy(d, s, bytes);
  });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return fill(to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return fill(to, value, count, stream);
}

// ---- streams and events ----

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  RETURN_UNLESS_READY(ready_with_context());
  auto* data = new StreamData;
  state().streams.insert(data);
  *stream = reinterpret_cast<CUstream>(data);
  return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  LOCKED;
  if (!state().streams.erase(stream)) return CUDA_ERROR_INVALID_HANDLE;
  Device::instance().synchronize();
  delete reinterpret_cast<StreamData*>(stream);
  return Device::instance().error();
}
CUresult cuStreamSynchronize(CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return Device::instance().synchronize();
}
CUresult cuStreamQuery(CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  return Device::instance().synchronize();
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  RETURN_UNLESS_READY(check_stream(stream));
  return state().events.count(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuEventCreate(CUevent* event, unsigned) {
  RETURN_UNLESS_READY(ready_with_context());
  auto* data = new EventData;
  state().events.insert(data);
  *event = reinterpret_cast<CUevent>(data);
  return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
  LOCKED;
  if (!state().events.erase(event)) return CUDA_ERROR_INVALID_HANDLE;
  Device::instance().synchronize();
  delete reinterpret_cast<EventData*>(event);
  return Device::instance().error();
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  RETURN_UNLESS_READY(check_stream(stream));
  if (!state().events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  auto* data = reinterpret_cast<EventData*>(event);
  return Device::instance().enqueue(stream, [=] {
    data->recorded = true;
    data->at = std::chrono::steady_clock::now();
  });
}
CUresult cuEventSynchronize(CUevent event) {
  RETURN_UNLESS_READY(ready_with_context());
  if (!state().events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  return Device::instance().synchronize();
}
CUresult cuEventQuery(CUevent event) { return cuEventSynchronize(event); }
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  RETURN_UNLESS_READY(ready_with_context());
  if (!state().events.count(begin) || !state().events.count(end)) return CUDA_ERROR_INVALID_HANDLE;
  const auto *a = reinterpret_cast<EventData*>(begin), *b = reinterpret_cast<EventData*>(end);
  if (!a->recorded || !b->recorded) return CUDA_ERROR_NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(b->at - a->at).count();
  return CUDA_SUCCESS;
}
// cuda.h names the second version by the first one's name; programs may ask for either.
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float* milliseconds, CUevent begin, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, begin, end);
}

}  // extern "C"
#pragma GCC visibility pop
