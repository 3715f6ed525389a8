# Every test/fuzz/*_fuzz.cpp is a libFuzzer program.
# The code under test carries the coverage counters that guide the fuzzer.
target_compile_options(qvl_io PRIVATE -fsanitize=fuzzer-no-link)
target_compile_options(qvl_constraint PRIVATE -fsanitize=fuzzer-no-link)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/test/fuzz/*_fuzz.cpp)
foreach(source ${sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE qvl_io qvl_constraint)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endforeach()
# The reader of quantised tensors, without the rest of its layer and all that this needs.
target_sources(quantized_fuzz PRIVATE
  ${CMAKE_SOURCE_DIR}/native/model/quantized_tensor.cpp
  ${CMAKE_SOURCE_DIR}/native/model/quantized_reader.cpp)
