# The device code. Every kernels/cuda/<family>.cu becomes build/<x>/cuda/<family>.fatbin, which the
# backend embeds; with QVL_TESTS also build/<x>/cuda/<family>.compute_<80|90|120>.ptx, for the simulator.
# Nothing of NVIDIA's is linked or included by the host's code: it opens the driver at run time.
#
# Without nvcc everything builds the same, with no kernels inside, and the package says so.
set(QVL_CUDA AUTO CACHE STRING "Embed CUDA kernels: ON, OFF, or AUTO = where nvcc is found")
set(QVL_CUDA_ARCHS "80;86;89;90;100;120" CACHE STRING "GPU architectures; the last one's PTX serves newer ones")
if(DEFINED ENV{QVL_CUDA_ARCHS})
  set(QVL_CUDA_ARCHS $ENV{QVL_CUDA_ARCHS})
endif()

set(QVL_CUDA_FOLDER ${CMAKE_BINARY_DIR}/cuda)
set(QVL_CUDA_FAMILIES "")
set(QVL_CUDA_REASON "")
if(QVL_CUDA)
  find_program(QVL_NVCC nvcc HINTS /usr/local/cuda/bin $ENV{CUDA_HOME}/bin)
  if(CMAKE_CROSSCOMPILING)
    set(QVL_CUDA_REASON "cross-compiled, which leaves the CUDA kernels out")
  elseif(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set(QVL_CUDA_REASON "built for ${CMAKE_SYSTEM_NAME}; CUDA is supported on Linux")
  elseif(NOT QVL_NVCC)
    set(QVL_CUDA_REASON "built without nvcc: install the CUDA toolkit 13 and build again")
    if(NOT QVL_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "QVL_CUDA=${QVL_CUDA} needs nvcc, which was not found: set QVL_NVCC to its path")
    endif()
  endif()
else()
  set(QVL_CUDA_REASON "built with QVL_CUDA=OFF")
endif()

# Ninja compares the names in nvcc's dependency files with its own, which are relative.
if(POLICY CMP0116)
  cmake_policy(SET CMP0116 NEW)
endif()
if(NOT QVL_CUDA_REASON)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  file(GLOB cuda_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cuh ${CMAKE_SOURCE_DIR}/kernels/cuda/*.h)
  file(MAKE_DIRECTORY ${QVL_CUDA_FOLDER})
  set(flags -std=c++20 -O3 -Werror all-warnings)
  set(gencode "")
  foreach(arch ${QVL_CUDA_ARCHS})
    list(APPEND gencode -gencode arch=compute_${arch},code=sm_${arch})
    set(newest ${arch})
  endforeach()
  list(APPEND gencode -gencode arch=compute_${newest},code=compute_${newest})

  # qvl_nvcc(<source> <output> <flags>...), built again when an included header changes.
  function(qvl_nvcc source output)
    set(command ${QVL_NVCC} ${flags} ${ARGN} ${source} -o ${output})
    # What ptxas says of the kernels' resources stays in a file, for scripts/kernel-report.mjs.
    string(REGEX REPLACE "\\.[a-z]+$" ".ptxas.txt" log ${output})
    set(to_log "")
    if(output MATCHES "\\.fatbin$")
      set(to_log 2> ${log} || sh -c "cat ${log} >&2 && false")
    endif()
    if(CMAKE_GENERATOR MATCHES "Ninja")
      add_custom_command(OUTPUT ${output} COMMAND ${command} -MD -MF ${output}.d ${to_log}
        DEPENDS ${source} DEPFILE ${output}.d VERBATIM)
    else()
      add_custom_command(OUTPUT ${output} COMMAND ${command} ${to_log}
        DEPENDS ${source} ${cuda_headers} VERBATIM)
    endif()
  endfunction()

  foreach(source ${cuda_sources})
    get_filename_component(family ${source} NAME_WE)
    list(APPEND QVL_CUDA_FAMILIES ${family})
    list(APPEND fatbins ${QVL_CUDA_FOLDER}/${family}.fatbin)
    qvl_nvcc(${source} ${QVL_CUDA_FOLDER}/${family}.fatbin -fatbin ${gencode} --compress-mode=size
      -Xptxas -v,--warn-on-spills,--warn-on-local-memory-usage)
    if(NOT QVL_TESTS)
      continue()
    endif()
    foreach(arch 80 90 120)
      set(ptx ${QVL_CUDA_FOLDER}/${family}.compute_${arch}.ptx)
      qvl_nvcc(${source} ${ptx} -ptx -arch=compute_${arch} -lineinfo)
      list(APPEND QVL_CUDA_PTX ${ptx})
    endforeach()
  endforeach()
endif()

# The generated table of embedded modules; with no family it still says why.
set(embedded ${QVL_CUDA_FOLDER}/embedded_modules.cpp)
add_custom_command(OUTPUT ${embedded} ${QVL_CUDA_FOLDER}/modules.txt
  COMMAND ${CMAKE_COMMAND} "-DFAMILIES=${QVL_CUDA_FAMILIES}" "-DREASON=${QVL_CUDA_REASON}"
    -DFOLDER=${QVL_CUDA_FOLDER} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedModules.cmake
  DEPENDS ${fatbins} ${CMAKE_SOURCE_DIR}/cmake/EmbedModules.cmake VERBATIM)
qvl_layer(cuda_backend native/backend/cuda LINKS backend)
target_sources(qvl_cuda_backend PRIVATE ${embedded})
target_link_libraries(qvl_cuda_backend PUBLIC ${CMAKE_DL_LIBS})

