// The backend's own declarations of the driver's interface are those of cuda.h.

#include "backend/cuda/driver_api.h"

#include <cuda.h>

#include <cstddef>

#include "api/same_signature.h"
#include "backend/cuda/driver.h"
#include "check.h"

namespace api = qvl::cuda::api;

using Functions = qvl::cuda::Driver::Functions;

// Functions take what the header declares, which the compiler sees.
#define QVL_COMPARE(member, symbol, parameters)                                                  \
  static_assert(qvl::test::SameSignature<decltype(Functions::member), decltype(&symbol)>::value, \
                #symbol);
QVL_CUDA_DRIVER_FUNCTIONS(QVL_COMPARE)
#undef QVL_COMPARE

TEST(structures_are_those_of_the_toolkit) {
  CHECK_EQ(sizeof(api::LaunchConfig), sizeof(CUlaunchConfig));
  CHECK_EQ(offsetof(api::LaunchConfig, shared_bytes), offsetof(CUlaunchConfig, sharedMemBytes));
  CHECK_EQ(offsetof(api::LaunchConfig, stream), offsetof(CUlaunchConfig, hStream));
  CHECK_EQ(offsetof(api::LaunchConfig, attributes), offsetof(CUlaunchConfig, attrs));
  CHECK_EQ(offsetof(api::LaunchConfig, num_attributes), offsetof(CUlaunchConfig, numAttrs));
  CHECK_EQ(sizeof(api::LaunchAttribute), sizeof(CUlaunchAttribute));
  CHECK_EQ(offsetof(api::LaunchAttribute, value), offsetof(CUlaunchAttribute, value));
  CHECK_EQ(sizeof(api::DevicePointer), sizeof(CUdeviceptr));
  CHECK_EQ(sizeof(api::Result), sizeof(CUresult));
  CHECK_EQ(offsetof(api::LaunchAttribute, id), offsetof(CUlaunchAttribute, id));
  CHECK_EQ(offsetof(api::LaunchConfig, grid_x), offsetof(CUlaunchConfig, gridDimX));
  CHECK_EQ(offsetof(api::LaunchConfig, block_x), offsetof(CUlaunchConfig, blockDimX));
}

TEST(values_are_those_of_the_toolkit) {
  CHECK_EQ(api::kSuccess, int{CUDA_SUCCESS});
  CHECK_EQ(api::kOutOfMemory, int{CUDA_ERROR_OUT_OF_MEMORY});
  CHECK_EQ(api::kNoDevice, int{CUDA_ERROR_NO_DEVICE});
  CHECK_EQ(api::kNotFound, int{CUDA_ERROR_NOT_FOUND});
  CHECK_EQ(api::kMultiprocessorCount, int{CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT});
  CHECK_EQ(api::kClockRate, int{CU_DEVICE_ATTRIBUTE_CLOCK_RATE});
  CHECK_EQ(api::kMemoryClockRate, int{CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE});
  CHECK_EQ(api::kMemoryBusWidth, int{CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH});
  CHECK_EQ(api::kComputeCapabilityMajor, int{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR});
  CHECK_EQ(api::kComputeCapabilityMinor, int{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR});
  CHECK_EQ(api::kMaxSharedMemoryPerBlockOptin,
           int{CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN});
  CHECK_EQ(api::kMaxDynamicSharedSizeBytes, int{CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES});
  CHECK_EQ(api::kStreamNonBlocking, unsigned{CU_STREAM_NON_BLOCKING});
  CHECK_EQ(api::kEventDisableTiming, unsigned{CU_EVENT_DISABLE_TIMING});
  CHECK_EQ(api::kCaptureModeThreadLocal, int{CU_STREAM_CAPTURE_MODE_THREAD_LOCAL});
  CHECK_EQ(api::kProgrammaticStreamSerialization,
           int{CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION});
}
