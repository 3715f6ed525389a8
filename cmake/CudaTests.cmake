# The CUDA simulator: build/<x>/cuda/libcuda_simulator.so stands in for libcuda.so.1 and
# libcublaslt_simulator.so for libcublasLt, so that host code and nvcc's PTX are tested without a GPU.
# Needs the toolkit's cuda.h, hence nvcc; included with QVL_TESTS.
find_path(QVL_CUDA_INCLUDE cuda.h HINTS /usr/local/cuda/include $ENV{CUDA_HOME}/include)
if(NOT QVL_CUDA_INCLUDE OR NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" OR CMAKE_CROSSCOMPILING)
  return()
endif()

set(sim ${CMAKE_SOURCE_DIR}/test/cuda/sim)
file(GLOB sources CONFIGURE_DEPENDS ${sim}/*.cpp)
list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
set(blas ${sources})
list(FILTER blas INCLUDE REGEX "/libcublaslt[^/]*\\.cpp$")
list(FILTER sources EXCLUDE REGEX "/libcublaslt[^/]*\\.cpp$")

# Interprets a whole warp at a time: vector instructions pay. It runs where it is built.
include(CheckCXXSourceRuns)
set(CMAKE_REQUIRED_FLAGS "-mavx2 -mfma")
check_cxx_source_runs(
  "#include <immintrin.h>
   int main() { return __builtin_cpu_supports(\"avx2\") && __builtin_cpu_supports(\"fma\") ? 0 : 1; }"
  QVL_SIM_AVX2)
unset(CMAKE_REQUIRED_FLAGS)

# qvl_stand_in(<name> <sources>...): build/<x>/cuda/lib<name>.so, and its objects for the tests
function(qvl_stand_in name)
  add_library(${name}_objects OBJECT ${ARGN})
  target_include_directories(${name}_objects PRIVATE ${CMAKE_SOURCE_DIR}/test/cuda)
  target_include_directories(${name}_objects SYSTEM PUBLIC ${QVL_CUDA_INCLUDE})
  # Registers hold floats and integers in turn.
  target_compile_options(${name}_objects PRIVATE -O3 -fno-strict-aliasing -fno-math-errno)
  if(QVL_SIM_AVX2)
    target_compile_options(${name}_objects PRIVATE -mavx2 -mfma)
  endif()
  add_library(${name} SHARED $<TARGET_OBJECTS:${name}_objects>)
  target_link_libraries(${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
endfunction()
qvl_stand_in(cuda_simulator ${sources})
qvl_stand_in(cublaslt_simulator ${blas})
target_link_libraries(cublaslt_simulator PRIVATE cuda_simulator)

# The kernels made by the host's compiler, for debuggers, sanitizers and coverage:
# build/<x>/cuda/libhost_kernels.so, which the stand-in driver runs in place of their PTX.
option(QVL_KERNEL_COVERAGE "Count which lines of the kernels the tests run" OFF)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX)
add_library(host_kernels SHARED ${sources} ${CMAKE_SOURCE_DIR}/test/cuda/emulation/fibers.cpp)
target_include_directories(host_kernels PRIVATE ${CMAKE_SOURCE_DIR}/test/cuda ${CMAKE_SOURCE_DIR}/test/cuda/emulation)
target_include_directories(host_kernels SYSTEM PRIVATE ${QVL_CUDA_INCLUDE})
# Entry points are found by name. Nothing is fused, as nothing is that kernels forbid to be.
target_compile_options(host_kernels PRIVATE -x c++ -O1 -g -fvisibility=default -ffp-contract=off
  -Wno-unknown-pragmas -Wno-class-memaccess -Wno-conversion $<$<BOOL:${QVL_KERNEL_COVERAGE}>:--coverage;-O0>)
target_link_options(host_kernels PRIVATE $<$<BOOL:${QVL_KERNEL_COVERAGE}>:--coverage>)
target_link_libraries(host_kernels PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(host_kernels PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)

# The simulator's own tests.
file(GLOB sources CONFIGURE_DEPENDS ${sim}/*_test.cpp)
foreach(source ${sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(sim_${name} ${source} $<TARGET_OBJECTS:qvl_test_main>
    $<TARGET_OBJECTS:cuda_simulator_objects> $<TARGET_OBJECTS:cublaslt_simulator_objects>)
  target_include_directories(sim_${name} PRIVATE ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/native)
  target_include_directories(sim_${name} SYSTEM PRIVATE ${QVL_CUDA_INCLUDE})
  target_link_libraries(sim_${name} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  add_test(NAME cuda/sim/${name} COMMAND sim_${name})
  set_tests_properties(cuda/sim/${name} PROPERTIES LABELS cuda)
endforeach()

# The backend's declarations of NVIDIA's interfaces, held against the headers. cublasLt.h is no part of the
# toolkit's compiler: QVL_CUBLAS_INCLUDE names its folder, or scripts/fetch-cublas-headers.sh brings it.
find_path(QVL_CUBLAS_INCLUDE cublasLt.h
  HINTS ${QVL_CUDA_INCLUDE} ${CMAKE_SOURCE_DIR}/build/cublas/include NO_DEFAULT_PATH)
set(interfaces driver)
if(QVL_CUBLAS_INCLUDE)
  list(APPEND interfaces blas)
endif()
foreach(interface ${interfaces})
  set(name ${interface}_api_test)
  add_executable(cuda_${name} ${CMAKE_SOURCE_DIR}/test/cuda/api/${name}.cpp $<TARGET_OBJECTS:qvl_test_main>)
  target_include_directories(cuda_${name} PRIVATE
    ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/test/cuda ${CMAKE_SOURCE_DIR}/native)
  target_include_directories(cuda_${name} SYSTEM PRIVATE ${QVL_CUDA_INCLUDE})
  if(QVL_CUBLAS_INCLUDE)
    target_include_directories(cuda_${name} SYSTEM PRIVATE ${QVL_CUBLAS_INCLUDE})
  endif()
  add_test(NAME cuda/api/${name} COMMAND cuda_${name})
  set_tests_properties(cuda/api/${name} PROPERTIES LABELS cuda)
endforeach()

# The kernels' tests, on what nvcc made for three architectures. With QVL_TEST_GPU set they run on the
# machine's own GPU and driver instead, and are labelled so.
# qvl_simulated(<test> <name> <arch> <order> <copies> <command>...)
function(qvl_simulated test name arch order copies)
  add_test(NAME cuda/${test}/${name} COMMAND ${ARGN})
  set(environment
    QWEN2_VL_CUDA_DRIVER=$<TARGET_FILE:cuda_simulator>
    QWEN2_VL_CUBLASLT=$<TARGET_FILE:cublaslt_simulator>
    QWEN2_VL_SIM_PTX=${QVL_CUDA_FOLDER}
    QWEN2_VL_SIM_ARCH=${arch}
    QWEN2_VL_SIM_ORDER=${order}
    QWEN2_VL_SIM_COPIES=${copies}
    QVL_TEST_DIGEST=${CMAKE_BINARY_DIR}/digests/${test}.${name})
  set_tests_properties(cuda/${test}/${name} PROPERTIES LABELS cuda ENVIRONMENT "${environment}"
    FIXTURES_SETUP cuda_${test}_${name})
endfunction()
# qvl_same_bits(<test> <name> <name>): two runs in different orders took the same from the device.
function(qvl_same_bits test name other)
  add_test(NAME cuda/${test}/same_bits_${other} COMMAND ${CMAKE_COMMAND} -E compare_files
    ${CMAKE_BINARY_DIR}/digests/${test}.${name} ${CMAKE_BINARY_DIR}/digests/${test}.${other})
  set_tests_properties(cuda/${test}/same_bits_${other} PROPERTIES LABELS cuda
    FIXTURES_REQUIRED "cuda_${test}_${name};cuda_${test}_${other}")
endfunction()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/digests)
foreach(source ${QVL_CUDA_TEST_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  if(QVL_TEST_GPU)
    add_test(NAME gpu/${name} COMMAND cuda_${name})
    set_tests_properties(gpu/${name} PROPERTIES LABELS gpu RESOURCE_LOCK gpu)
    continue()
  endif()
  add_dependencies(cuda_${name} cuda_simulator cublaslt_simulator host_kernels)
  qvl_simulated(${name} compute_80 80 forward late cuda_${name})
  qvl_simulated(${name} compute_90 90 forward late cuda_${name})
  qvl_simulated(${name} compute_120 120 forward late cuda_${name})
  qvl_simulated(${name} reverse 80 reverse early cuda_${name})
  qvl_simulated(${name} random 120 random late cuda_${name})
  qvl_simulated(${name} host 80 random early cuda_${name})
  set_property(TEST cuda/${name}/host APPEND PROPERTY
    ENVIRONMENT QWEN2_VL_SIM_HOST_KERNELS=$<TARGET_FILE:host_kernels>)
  file(STRINGS ${source} downloads REGEX "gpu.*\\.download\\(")
  if(downloads)
    qvl_same_bits(${name} compute_80 reverse)
    qvl_same_bits(${name} compute_120 random)
  endif()
endforeach()

# The benchmark of the backend's operations runs; its times say nothing here.
if(QVL_CUDA_FAMILIES AND NOT QVL_TEST_GPU)
  include(cmake/BenchCuda.cmake)
  qvl_simulated(bench_cuda compute_80 80 forward late bench_cuda --small)
endif()

# What ThreadSanitizer looks at.
if(TEST cuda/engine_test/compute_80)
  set_tests_properties(cuda/engine_test/compute_80 PROPERTIES LABELS "cuda;cuda_engine")
endif()

# What scripts/kernel-report.mjs runs.
add_executable(kernel_occupancy ${CMAKE_SOURCE_DIR}/test/cuda/report/kernel_occupancy.cpp)
target_include_directories(kernel_occupancy SYSTEM PRIVATE ${QVL_CUDA_INCLUDE})
add_executable(representative_launches ${CMAKE_SOURCE_DIR}/test/cuda/report/representative_launches.cpp)
target_include_directories(representative_launches PRIVATE
  ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/test/cuda ${CMAKE_SOURCE_DIR}/native)
target_link_libraries(representative_launches PRIVATE qvl_cuda_backend)
add_dependencies(representative_launches qvl_ptx cuda_simulator)
