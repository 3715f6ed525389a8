#pragma once

// The part of cuBLASLt's binary interface that the backend calls, declared here so that its
// headers, a package of their own, are not needed to build; test/cuda/api/blas_api_test.cpp
// compares it with cublasLt.h, which has kept these values since version 11.

#include <cstddef>
#include <cstdint>

#include "backend/cuda/driver_api.h"

namespace qvl::cuda::blas {

using Status = int;
using Handle = struct HandleData*;
using MatmulDescriptor = struct MatmulDescriptorData*;
using MatrixLayout = struct MatrixLayoutData*;
using Preference = struct PreferenceData*;

inline constexpr Status kSuccess = 0;
inline constexpr Status kInvalidValue = 7;
inline constexpr Status kNotSupported = 15;
// cudaDataType_t
inline constexpr int kF32 = 0;
inline constexpr int kF16 = 2;
inline constexpr int kBF16 = 14;
// cublasComputeType_t
inline constexpr int kComputeF32 = 68;
// cublasLtMatmulDescAttributes_t
inline constexpr int kTransposeA = 3;
// cublasOperation_t
inline constexpr int32_t kTransposed = 1;
// cublasLtMatmulPreferenceAttributes_t
inline constexpr int kMaxWorkspaceBytes = 1;
inline constexpr int kReductionSchemes = 3;
// cublasLtReductionScheme_t
inline constexpr uint32_t kNoReduction = 0;

/// cublasLtMatmulAlgo_t
struct Algorithm {
  uint64_t data[8];
};
/// cublasLtMatmulHeuristicResult_t
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

// X(member, exported symbol, parameters). Matrices are column-major.
#define QVL_CUBLASLT_FUNCTIONS(X)                                                                  \
  X(create, cublasLtCreate, (Handle * handle))                                                     \
  X(destroy, cublasLtDestroy, (Handle handle))                                                     \
  X(matmul_descriptor_create, cublasLtMatmulDescCreate,                                            \
    (MatmulDescriptor * descriptor, int compute_type, int scale_type))                             \
  X(matmul_descriptor_destroy, cublasLtMatmulDescDestroy, (MatmulDescriptor descriptor))           \
  X(matmul_descriptor_set, cublasLtMatmulDescSetAttribute,                                         \
    (MatmulDescriptor descriptor, int attribute, const void* value, size_t size))                  \
  X(layout_create, cublasLtMatrixLayoutCreate,                                                     \
    (MatrixLayout * layout, int type, uint64_t rows, uint64_t cols, int64_t leading_dimension))    \
  X(layout_destroy, cublasLtMatrixLayoutDestroy, (MatrixLayout layout))                            \
  X(preference_create, cublasLtMatmulPreferenceCreate, (Preference * preference))                  \
  X(preference_destroy, cublasLtMatmulPreferenceDestroy, (Preference preference))                  \
  X(preference_set, cublasLtMatmulPreferenceSetAttribute,                                          \
    (Preference preference, int attribute, const void* value, size_t size))                        \
  X(get_heuristic, cublasLtMatmulAlgoGetHeuristic,                                                 \
    (Handle handle, MatmulDescriptor descriptor, MatrixLayout a, MatrixLayout b, MatrixLayout c,   \
     MatrixLayout d, Preference preference, int wanted, HeuristicResult results[], int* found))    \
  X(matmul, cublasLtMatmul,                                                                        \
    (Handle handle, MatmulDescriptor descriptor, const void* alpha, const void* a,                 \
     MatrixLayout a_layout, const void* b, MatrixLayout b_layout, const void* beta, const void* c, \
     MatrixLayout c_layout, void* d, MatrixLayout d_layout, const Algorithm* algorithm,            \
     void* workspace, size_t workspace_bytes, api::Stream stream))

}  // namespace qvl::cuda::blas
