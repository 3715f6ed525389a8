# cmake -DFAMILIES=... -DREASON=... -DFOLDER=... -P: writes FOLDER/embedded_modules.cpp, which holds
# FOLDER/<family>.fatbin of every family, and FOLDER/modules.txt, "<SHA-256 of the fatbin> <family>" a line.
set(symbols "")
set(declarations "")
set(entries "")
set(map "")
foreach(family ${FAMILIES})
  # The hash in the text makes the source change with the content, for caches of compiled files.
  file(SHA256 ${FOLDER}/${family}.fatbin hash)
  string(APPEND map "${hash} ${family}\n")
  string(APPEND symbols "
asm(R\"(
.section .rodata
.balign 64
.globl qvl_module_${family}
.hidden qvl_module_${family}
qvl_module_${family}: .incbin \"${FOLDER}/${family}.fatbin\"
.previous
)\");")
  string(APPEND declarations "extern const unsigned char qvl_module_${family}[];\n")
  string(APPEND entries "    {\"${family}\", qvl_module_${family}, \"${hash}\"},\n")
endforeach()
file(WRITE ${FOLDER}/modules.txt "${map}")
set(table "std::span<const EmbeddedModule> embedded_modules() { return {}; }")
if(FAMILIES)
  set(table "constexpr EmbeddedModule kModules[] = {
${entries}};
std::span<const EmbeddedModule> embedded_modules() { return kModules; }")
endif()
file(WRITE ${FOLDER}/embedded_modules.cpp "// Written by cmake/EmbedModules.cmake.
#include \"backend/cuda/embedded_modules.h\"
${symbols}

extern \"C\" {
${declarations}}

namespace qvl::cuda {

${table}
const char* why_no_modules() { return \"${REASON}\"; }

}  // namespace qvl::cuda
")
