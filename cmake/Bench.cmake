# bench/native is one program, which bench/main.ts runs.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/native/*.cpp)
add_executable(bench_kernels ${sources})
target_include_directories(bench_kernels PRIVATE ${CMAKE_SOURCE_DIR}/bench/native)
target_link_libraries(bench_kernels PRIVATE qvl_io qvl_backend)
# Likewise bench/cuda, on a GPU.
include(cmake/BenchCuda.cmake)
# Constrained decoding, which bench/grammar.ts runs. Its grammars are those of the tests.
add_executable(bench_grammar ${CMAKE_SOURCE_DIR}/bench/grammar/main.cpp)
target_include_directories(bench_grammar PRIVATE ${CMAKE_SOURCE_DIR}/test/native)
target_link_libraries(bench_grammar PRIVATE qvl_constraint)
