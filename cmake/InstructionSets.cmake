# kernels/cpu/<set>.cpp holds the kernels of one instruction set: it alone is compiled with that set's
# flags, whatever the build machine is, and chosen at run time. Every other file stays at the baseline
# of the architecture.
#
# Tiles are unrolled and inlined by force. With sanitizers a compiler would take many minutes for them at
# -O2, and as many again for UBSan's checks of every pointer; ASan finds what leaves its memory all the same,
# by calls in place of code at every access, which take half the time to compile.
if(QVL_SANITIZE)
  set(QVL_TILE_FLAGS -O1)
  if(QVL_SANITIZE MATCHES "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND QVL_TILE_FLAGS --param=asan-instrumentation-with-call-threshold=0)
  endif()
  if(QVL_SANITIZE MATCHES "undefined")
    list(APPEND QVL_TILE_FLAGS "-fno-sanitize=null,alignment,object-size,pointer-overflow")
  endif()
endif()

function(qvl_instruction_set set msvc_flags flags)
  if(MSVC)
    set(flags ${msvc_flags})
  endif()
  list(APPEND flags ${QVL_TILE_FLAGS})
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cpu/${set}.cpp PROPERTIES COMPILE_OPTIONS "${flags}")
endfunction()

# macOS builds for either processor on either.
if(APPLE AND CMAKE_OSX_ARCHITECTURES)
  set(QVL_PROCESSOR ${CMAKE_OSX_ARCHITECTURES})
else()
  set(QVL_PROCESSOR ${CMAKE_SYSTEM_PROCESSOR})
endif()
if(QVL_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  qvl_instruction_set(sse42 "" "-msse4.2")
  qvl_instruction_set(avx2 "/arch:AVX2" "-mavx2;-mfma;-mf16c")
  # GCC 12 warns of the undefined operands inside its own AVX-512 intrinsics.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(quiet ";-Wno-maybe-uninitialized;-Wno-uninitialized")
  endif()
  # AVX-512's registers at their full width: compilers prefer half of it by themselves.
  qvl_instruction_set(avx_vnni "/arch:AVX2" "-mavx2;-mfma;-mf16c;-mavxvnni")
  set(avx512 "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx2;-mfma;-mf16c;-mprefer-vector-width=512${quiet}")
  qvl_instruction_set(avx512 "/arch:AVX512" "${avx512}")
  qvl_instruction_set(avx512_vnni "/arch:AVX512" "${avx512};-mavx512vnni")
elseif(QVL_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  # Advanced SIMD is a part of the architecture: neon.cpp needs no flags.
  qvl_instruction_set(neon_dotprod "" "-march=armv8.2-a+dotprod")
endif()
