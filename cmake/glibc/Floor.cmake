# qvl_glibc_floor(<target> <version>): links the target so that it loads with glibc <version> already,
# however new the glibc of the build machine is.
#
# glibc keeps every old version of a symbol, and ld takes the newest. So the link is given stand-ins for
# libc and libm that list, of each symbol, the newest version up to the floor and nothing else: empty
# libraries with the right names, made here from the symbol tables of the real ones. What came later
# and our code or libstdc++ wants all the same is in since.cpp.
set(QVL_GLIBC_FOLDER ${CMAKE_CURRENT_LIST_DIR})

function(qvl_glibc_floor target floor)
  if(NOT CMAKE_READELF)
    message(FATAL_ERROR "A portable build needs readelf, of binutils, which was not found")
  endif()
  set(folder ${CMAKE_BINARY_DIR}/glibc-${floor})
  file(MAKE_DIRECTORY ${folder})
  foreach(library c m)
    qvl_path_of_compiler(real lib${library}.so.6)
    qvl_glibc_stand_in(${real} ${library} ${floor} ${folder})
  endforeach()
  # As the real libc.so, a linker script: a few functions are linked statically, others are the loader's.
  qvl_path_of_compiler(nonshared libc_nonshared.a)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    qvl_path_of_compiler(loader ld-linux-aarch64.so.1)
  else()
    qvl_path_of_compiler(loader ld-linux-x86-64.so.2)
  endif()
  file(WRITE ${folder}/libc.so
    "GROUP ( ${folder}/libc.so.6 ${nonshared} AS_NEEDED ( ${loader} ) )\n")
  target_sources(${target} PRIVATE ${QVL_GLIBC_FOLDER}/since.cpp)
  target_link_options(${target} PRIVATE -L${folder})
endfunction()

# The path of a file of the C library that the compiler links with.
function(qvl_path_of_compiler variable name)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${name}
    OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT IS_ABSOLUTE "${path}")
    message(FATAL_ERROR "A portable build needs glibc's ${name}, which ${CMAKE_CXX_COMPILER} does not find")
  endif()
  set(${variable} ${path} PARENT_SCOPE)
endfunction()

# Writes <folder>/lib<library>.so and .so.6.
function(qvl_glibc_stand_in real library floor folder)
  execute_process(COMMAND ${CMAKE_READELF} --wide --dyn-syms ${real}
    OUTPUT_VARIABLE table RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "readelf cannot read ${real}")
  endif()
  # Lines end in "FUNC GLOBAL DEFAULT 15 name@@GLIBC_2.34"; compatibility symbols have one @.
  string(REGEX MATCHALL
    "(FUNC|IFUNC|OBJECT|TLS)[ ]+(GLOBAL|WEAK)[ ]+DEFAULT[ ]+[0-9]+[ ]+[A-Za-z0-9_]+@+GLIBC_[0-9.]+\n"
    lines "${table}")
  set(names)
  foreach(line ${lines})
    string(REGEX MATCH "^([A-Z]+).* ([A-Za-z0-9_]+)@+GLIBC_([0-9.]+)\n$" matched "${line}")
    set(type ${CMAKE_MATCH_1})
    set(name ${CMAKE_MATCH_2})
    set(version ${CMAKE_MATCH_3})
    if(version VERSION_GREATER floor)
      continue()
    endif()
    if(NOT DEFINED version_of_${name})
      list(APPEND names ${name})
      set(version_of_${name} ${version})
    elseif(version VERSION_GREATER version_of_${name})
      set(version_of_${name} ${version})
    endif()
    string(REPLACE "IFUNC" "FUNC" type ${type})
    set(type_of_${name} ${type})
  endforeach()

  set(code "")
  set(versions)
  foreach(name ${names})
    set(version ${version_of_${name}})
    list(APPEND versions ${version})
    if(type_of_${name} STREQUAL "TLS")
      set(section ".section .tbss,\"awT\",%nobits")
      set(type "%tls_object")
    elseif(type_of_${name} STREQUAL "OBJECT")
      set(section ".bss")
      set(type "%object")
    else()
      set(section ".text")
      set(type "%function")
    endif()
    string(APPEND code "${section}\n.globl qvl_${name}\n.type qvl_${name}, ${type}\nqvl_${name}: .zero 8\n"
      ".size qvl_${name}, 8\n.symver qvl_${name}, ${name}@@GLIBC_${version}\n")
  endforeach()
  list(REMOVE_DUPLICATES versions)
  list(LENGTH names count)
  if(count LESS 100)
    message(FATAL_ERROR "Only ${count} symbols up to GLIBC_${floor} were found in ${real}")
  endif()
  set(script "")
  foreach(version ${versions})
    string(APPEND script "GLIBC_${version} { };\n")
  endforeach()
  string(APPEND script "LOCAL { local: qvl_*; };\n")
  file(WRITE ${folder}/${library}.s "${code}.section .note.GNU-stack,\"\",%progbits\n")
  file(WRITE ${folder}/${library}.map "${script}")
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} -shared -nostdlib -Wl,-soname,lib${library}.so.6
      -Wl,--version-script,${folder}/${library}.map -o ${folder}/lib${library}.so.6 ${folder}/${library}.s
    RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "The stand-in for ${real} could not be linked; the messages are above")
  endif()
  if(NOT library STREQUAL "c")
    configure_file(${folder}/lib${library}.so.6 ${folder}/lib${library}.so COPYONLY)
  endif()
endfunction()
