# The addon: the only target that sees napi.h.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/native/addon/*.cpp)
add_library(qvl_addon MODULE ${sources} ${CMAKE_JS_SRC})
set_target_properties(qvl_addon PROPERTIES
  OUTPUT_NAME qwen2vl PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY "${QVL_OUTPUT_DIR}")
target_link_libraries(qvl_addon PRIVATE qvl_engine qvl_cuda_backend node_api ${CMAKE_JS_LIB})
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # Hide every symbol of the static libraries; only napi_register_module_v1 stays visible.
  target_link_options(qvl_addon PRIVATE -Wl,--exclude-libs,ALL -Wl,--gc-sections -Wl,-z,relro,-z,now)
endif()
if(QVL_PORTABLE AND NOT MSVC)
  # Not -static-libgcc: GCC 12's unwinder needs glibc 2.35, the shared one does not.
  target_link_options(qvl_addon PRIVATE -static-libstdc++)
endif()
