# bench/native is one program, which bench/main.ts runs.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/native/*.cpp)
add_executable(bench_kernels ${sources})
target_include_directories(bench_kernels PRIVATE ${CMAKE_SOURCE_DIR}/bench/native)
target_link_libraries(bench_kernels PRIVATE qvl_io qvl_backend)
