#pragma once

// The part of the CUDA driver's binary interface that the backend calls, declared here so that no
// header of the toolkit is needed to build; test/cuda/api/driver_api_test.cpp compares it with
// cuda.h.

#include <cstddef>
#include <cstdint>

namespace qvl::cuda::api {

using Result = int;
using Device = int;
using DevicePointer = uint64_t;
using Context = struct ContextHandle*;
using Stream = struct StreamHandle*;
using Event = struct EventHandle*;
using Module = struct ModuleHandle*;
using Function = struct FunctionHandle*;
using Graph = struct GraphHandle*;
using GraphExec = struct GraphExecHandle*;

inline constexpr Result kSuccess = 0;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNoDevice = 100;
inline constexpr Result kNotFound = 500;

// CUdevice_attribute
inline constexpr int kClockRate = 13;
inline constexpr int kMultiprocessorCount = 16;
inline constexpr int kMemoryClockRate = 36;
inline constexpr int kMemoryBusWidth = 37;
inline constexpr int kComputeCapabilityMajor = 75;
inline constexpr int kComputeCapabilityMinor = 76;
inline constexpr int kMaxSharedMemoryPerBlockOptin = 97;
// CUfunction_attribute
inline constexpr int kMaxDynamicSharedSizeBytes = 8;
// Flags
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr int kCaptureModeThreadLocal = 1;

/// CUlaunchAttribute with the one attribute in use.
struct LaunchAttribute {
  int id;
  char padding[4];
  union {
    char bytes[64];
    int programmatic_stream_serialization_allowed;
  } value;
};
inline constexpr int kProgrammaticStreamSerialization = 6;

/// CUlaunchConfig
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned num_attributes;
};

// X(member, exported symbol, parameters): every function takes its own version's symbol.
#define QVL_CUDA_DRIVER_FUNCTIONS(X)                                                         \
  X(init, cuInit, (unsigned flags))                                                          \
  X(driver_get_version, cuDriverGetVersion, (int* version))                                  \
  X(get_error_name, cuGetErrorName, (Result error, const char** name))                       \
  X(get_error_string, cuGetErrorString, (Result error, const char** text))                   \
  X(device_get_count, cuDeviceGetCount, (int* count))                                        \
  X(device_get, cuDeviceGet, (Device * device, int ordinal))                                 \
  X(device_get_name, cuDeviceGetName, (char* name, int length, Device device))               \
  X(device_get_attribute, cuDeviceGetAttribute, (int* value, int attribute, Device device))  \
  X(device_total_mem, cuDeviceTotalMem_v2, (size_t * bytes, Device device))                  \
  X(device_primary_ctx_retain, cuDevicePrimaryCtxRetain, (Context * context, Device device)) \
  X(device_primary_ctx_release, cuDevicePrimaryCtxRelease_v2, (Device device))               \
  X(ctx_set_current, cuCtxSetCurrent, (Context context))                                     \
  X(mem_get_info, cuMemGetInfo_v2, (size_t * free, size_t * total))                          \
  X(mem_alloc, cuMemAlloc_v2, (DevicePointer * pointer, size_t bytes))                       \
  X(mem_free, cuMemFree_v2, (DevicePointer pointer))                                         \
  X(mem_host_alloc, cuMemHostAlloc, (void** pointer, size_t bytes, unsigned flags))          \
  X(mem_free_host, cuMemFreeHost, (void* pointer))                                           \
  X(memcpy_htod_async, cuMemcpyHtoDAsync_v2,                                                 \
    (DevicePointer to, const void* from, size_t bytes, Stream stream))                       \
  X(memcpy_dtoh_async, cuMemcpyDtoHAsync_v2,                                                 \
    (void* to, DevicePointer from, size_t bytes, Stream stream))                             \
  X(memcpy_dtod_async, cuMemcpyDtoDAsync_v2,                                                 \
    (DevicePointer to, DevicePointer from, size_t bytes, Stream stream))                     \
  X(memset_d8_async, cuMemsetD8Async,                                                        \
    (DevicePointer to, unsigned char value, size_t bytes, Stream stream))                    \
  X(stream_create, cuStreamCreate, (Stream * stream, unsigned flags))                        \
  X(stream_destroy, cuStreamDestroy_v2, (Stream stream))                                     \
  X(stream_synchronize, cuStreamSynchronize, (Stream stream))                                \
  X(stream_wait_event, cuStreamWaitEvent, (Stream stream, Event event, unsigned flags))      \
  X(event_create, cuEventCreate, (Event * event, unsigned flags))                            \
  X(event_destroy, cuEventDestroy_v2, (Event event))                                         \
  X(event_record, cuEventRecord, (Event event, Stream stream))                               \
  X(event_synchronize, cuEventSynchronize, (Event event))                                    \
  X(module_load_data, cuModuleLoadData, (Module * module, const void* image))                \
  X(module_unload, cuModuleUnload, (Module module))                                          \
  X(module_get_function, cuModuleGetFunction,                                                \
    (Function * function, Module module, const char* name))                                  \
  X(func_set_attribute, cuFuncSetAttribute, (Function function, int attribute, int value))   \
  X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                  \
    (int* blocks, Function function, int threads, size_t shared_bytes))                      \
  X(launch_kernel, cuLaunchKernelEx,                                                         \
    (const LaunchConfig* config, Function function, void** parameters, void** extra))        \
  X(stream_begin_capture, cuStreamBeginCapture_v2, (Stream stream, int mode))                \
  X(stream_end_capture, cuStreamEndCapture, (Stream stream, Graph * graph))                  \
  X(graph_instantiate, cuGraphInstantiateWithFlags,                                          \
    (GraphExec * executable, Graph graph, unsigned long long flags))                         \
  X(graph_launch, cuGraphLaunch, (GraphExec executable, Stream stream))                      \
  X(graph_destroy, cuGraphDestroy, (Graph graph))                                            \
  X(graph_exec_destroy, cuGraphExecDestroy, (GraphExec executable))

}  // namespace qvl::cuda::api
