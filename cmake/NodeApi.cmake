# Headers of Node-API and node-addon-api. cmake-js passes them in CMAKE_JS_INC;
# a plain `cmake -B build/dev` (IDE, clangd, ctest) asks the installed packages.
add_library(node_api INTERFACE)
if(NOT CMAKE_JS_INC)
  find_program(NODE_EXECUTABLE node REQUIRED)
  foreach(package node-api-headers node-addon-api)
    execute_process(
      COMMAND ${NODE_EXECUTABLE} -p "require('${package}').include_dir"
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      OUTPUT_VARIABLE dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "${package} is not installed: run npm ci first")
    endif()
    get_filename_component(dir ${dir} ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
    list(APPEND CMAKE_JS_INC ${dir})
  endforeach()
endif()
target_include_directories(node_api SYSTEM INTERFACE ${CMAKE_JS_INC})
target_compile_definitions(node_api INTERFACE
  NAPI_VERSION=9 NODE_ADDON_API_CPP_EXCEPTIONS
  # A worker thread may end while a token is being delivered; without this the process aborts.
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
