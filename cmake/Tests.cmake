# The kernels over portable vectors of sixteen lanes, which the tests of the kernels compare as well.
add_library(qvl_generic_kernels STATIC ${CMAKE_SOURCE_DIR}/test/native/kernels/generic_simd.cpp)
if(NOT MSVC)
  # Sixteen lanes unrolled in every tile would take minutes to compile.
  target_compile_options(qvl_generic_kernels PRIVATE -O1)
  # They are there for their bits; sanitizers look at the same tiles in the instruction sets.
  if(QVL_SANITIZE)
    target_compile_options(qvl_generic_kernels PRIVATE -fno-sanitize=all)
  endif()
endif()
target_include_directories(qvl_generic_kernels PRIVATE ${CMAKE_SOURCE_DIR}/test/native)
target_link_libraries(qvl_generic_kernels PUBLIC qvl_kernels)

# Of every test program.
add_library(qvl_test_main OBJECT ${CMAKE_SOURCE_DIR}/test/native/main.cpp)
target_include_directories(qvl_test_main PRIVATE ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/native)

# Every test/native/<layer>/*_test.cpp is a ctest program of its own, linked with that layer; the target
# tests_<layer> builds those of one.
function(qvl_tests layer)
  add_custom_target(tests_${layer})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/native/${layer}/*_test.cpp)
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} $<TARGET_OBJECTS:qvl_test_main>)
    # native/ for check.h, which knows qvl::Error; the kernels themselves do not see it.
    target_include_directories(${name} PRIVATE
      ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/native)
    target_link_libraries(${name} PRIVATE qvl_${layer} qvl_generic_kernels)
    target_compile_definitions(${name} PRIVATE QVL_TEST_DIR="${CMAKE_SOURCE_DIR}/test")
    add_test(NAME ${layer}/${name} COMMAND ${name})
    set_tests_properties(${layer}/${name} PROPERTIES LABELS ${layer})
    add_dependencies(tests_${layer} ${name})
  endforeach()
endfunction()

foreach(layer kernels io backend cuda_backend model constraint engine)
  qvl_tests(${layer})
endforeach()

option(QVL_TEST_GPU "Run the CUDA tests on this machine's GPU" OFF)
# Every test/cuda/{kernels,backend,engine}/*_test.cpp runs the product's CUDA code; CudaTests.cmake says on what.
if(QVL_CUDA_FAMILIES)
  add_custom_target(tests_cuda)
  add_custom_target(qvl_ptx ALL DEPENDS ${QVL_CUDA_PTX} ${QVL_CUDA_FOLDER}/modules.txt)
  file(GLOB QVL_CUDA_TEST_SOURCES CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/test/cuda/kernels/*_test.cpp ${CMAKE_SOURCE_DIR}/test/cuda/backend/*_test.cpp
    ${CMAKE_SOURCE_DIR}/test/cuda/engine/*_test.cpp)
  foreach(source ${QVL_CUDA_TEST_SOURCES})
    get_filename_component(name ${source} NAME_WE)
    add_executable(cuda_${name} ${source} $<TARGET_OBJECTS:qvl_test_main>)
    target_include_directories(cuda_${name} PRIVATE
      ${CMAKE_SOURCE_DIR}/test/native ${CMAKE_SOURCE_DIR}/test/cuda ${CMAKE_SOURCE_DIR}/native)
    target_link_libraries(cuda_${name} PRIVATE qvl_cuda_backend qvl_engine)
    target_compile_definitions(cuda_${name} PRIVATE QVL_TEST_DIR="${CMAKE_SOURCE_DIR}/test")
    if(NOT QVL_TEST_GPU)
      add_dependencies(cuda_${name} qvl_ptx)
    endif()
    add_dependencies(tests_cuda cuda_${name})
  endforeach()
  add_custom_target(tests_cuda_engine DEPENDS cuda_engine_test)
endif()
