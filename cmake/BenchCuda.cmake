# bench/cuda is one program. The tests build it too, to see on the simulator that it runs.
include_guard()
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/cuda/*.cpp)
add_executable(bench_cuda ${sources} ${CMAKE_SOURCE_DIR}/bench/native/case.cpp)
target_include_directories(bench_cuda PRIVATE
  ${CMAKE_SOURCE_DIR}/bench/cuda ${CMAKE_SOURCE_DIR}/bench/native)
target_link_libraries(bench_cuda PRIVATE qvl_cuda_backend)
