# The addon: the only target that sees napi.h.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/native/addon/*.cpp)
add_library(qvl_addon MODULE ${sources} ${CMAKE_JS_SRC})
set_target_properties(qvl_addon PROPERTIES
  OUTPUT_NAME qwen2vl PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY "${QVL_OUTPUT_DIR}")
target_link_libraries(qvl_addon PRIVATE qvl_engine qvl_cuda_backend node_api ${CMAKE_JS_LIB})
# Only what Node looks for is visible, also of the static libraries.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(qvl_addon PRIVATE
    -Wl,--version-script,${CMAKE_SOURCE_DIR}/cmake/exports.map -Wl,--gc-sections -Wl,-z,relro,-z,now)
  set_property(TARGET qvl_addon APPEND PROPERTY LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exports.map)
elseif(APPLE)
  target_link_options(qvl_addon PRIVATE -Wl,-exported_symbol,_napi_register_module_v1
    -Wl,-exported_symbol,_node_api_module_get_api_version_v1 -Wl,-dead_strip)
endif()
if(QVL_PORTABLE AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # Not -static-libgcc: GCC 12's unwinder needs glibc 2.35, the shared one, which Node itself needs, does not.
  target_link_options(qvl_addon PRIVATE -static-libstdc++ -Wl,--strip-all)
  include(CheckCXXSymbolExists)
  check_cxx_symbol_exists(__GLIBC__ features.h QVL_GLIBC)
  if(QVL_GLIBC)
    # What Node 20 asks for.
    include(cmake/glibc/Floor.cmake)
    qvl_glibc_floor(qvl_addon 2.28)
  endif()
elseif(QVL_PORTABLE AND APPLE)
  target_link_options(qvl_addon PRIVATE -Wl,-x -Wl,-S)
endif()
