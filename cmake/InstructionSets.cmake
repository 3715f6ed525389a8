# Kernels named *_avx2.cpp are compiled for AVX2 + FMA + F16C whatever the build machine is, and chosen
# at run time. Every other file stays at the baseline of the architecture.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  file(GLOB avx2_sources ${CMAKE_SOURCE_DIR}/kernels/cpu/*_avx2.cpp)
  if(MSVC)
    set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "/arch:AVX2")
  else()
    set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  endif()
endif()
