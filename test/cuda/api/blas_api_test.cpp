// The backend's own declarations of cuBLASLt's interface are those of cublasLt.h. Built where the
// header is: it is a package of its own beside the toolkit (CudaTests.cmake says where it is
// looked for).

#include "backend/cuda/blas_api.h"

#include <cublasLt.h>

#include <cstddef>

#include "api/same_signature.h"
#include "backend/cuda/blas.h"
#include "check.h"

namespace blas = qvl::cuda::blas;
using Functions = qvl::cuda::Blas::Functions;

// Functions take what the header declares, which the compiler sees.
#define QVL_COMPARE(member, symbol, parameters)                                                  \
  static_assert(qvl::test::SameSignature<decltype(Functions::member), decltype(&symbol)>::value, \
                #symbol);
QVL_CUBLASLT_FUNCTIONS(QVL_COMPARE)
#undef QVL_COMPARE

TEST(structures_are_those_of_the_header) {
  CHECK_EQ(sizeof(blas::Status), sizeof(cublasStatus_t));
  CHECK_EQ(sizeof(blas::Algorithm), sizeof(cublasLtMatmulAlgo_t));
  CHECK_EQ(sizeof(blas::HeuristicResult), sizeof(cublasLtMatmulHeuristicResult_t));
  CHECK_EQ(offsetof(blas::HeuristicResult, algorithm),
           offsetof(cublasLtMatmulHeuristicResult_t, algo));
  CHECK_EQ(offsetof(blas::HeuristicResult, workspace_bytes),
           offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
  CHECK_EQ(offsetof(blas::HeuristicResult, state),
           offsetof(cublasLtMatmulHeuristicResult_t, state));
  CHECK_EQ(offsetof(blas::HeuristicResult, waves),
           offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
}

TEST(values_are_those_of_the_header) {
  CHECK_EQ(blas::kSuccess, int{CUBLAS_STATUS_SUCCESS});
  CHECK_EQ(blas::kInvalidValue, int{CUBLAS_STATUS_INVALID_VALUE});
  CHECK_EQ(blas::kNotSupported, int{CUBLAS_STATUS_NOT_SUPPORTED});
  CHECK_EQ(blas::kF32, int{CUDA_R_32F});
  CHECK_EQ(blas::kF16, int{CUDA_R_16F});
  CHECK_EQ(blas::kBF16, int{CUDA_R_16BF});
  CHECK_EQ(blas::kComputeF32, int{CUBLAS_COMPUTE_32F});
  CHECK_EQ(blas::kTransposeA, int{CUBLASLT_MATMUL_DESC_TRANSA});
  CHECK_EQ(blas::kTransposed, int{CUBLAS_OP_T});
  CHECK_EQ(blas::kMaxWorkspaceBytes, int{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES});
  CHECK_EQ(blas::kReductionSchemes, int{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK});
  CHECK_EQ(blas::kNoReduction, unsigned{CUBLASLT_REDUCTION_SCHEME_NONE});
}
