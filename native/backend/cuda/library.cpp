#include "backend/cuda/library.h"

#ifndef _WIN32
#include <dlfcn.h>
#endif
#ifdef __linux__
#include <link.h>
#endif

namespace qvl::cuda {

#ifdef _WIN32

// Kernels are embedded on Linux only, so nothing is looked for elsewhere.
Library Library::open(std::span<const std::string>) {
  Library library;
  library.error_ = "not supported on Windows";
  return library;
}

void* Library::find(const char*) const { return nullptr; }

#else

Library Library::open(std::span<const std::string> names) {
  Library library;
  for (const std::string& name : names) {
    library.handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle_ == nullptr) {
      const char* error = dlerror();
      if (!library.error_.empty()) library.error_ += "; ";
      library.error_ += error != nullptr ? error : name + " cannot be opened";
      continue;
    }
    library.error_.clear();
    library.path_ = name;
#ifdef __linux__
    link_map* map = nullptr;
    if (dlinfo(library.handle_, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0') {
      library.path_ = map->l_name;
    }
#endif
    break;
  }
  return library;
}

void* Library::find(const char* symbol) const { return dlsym(handle_, symbol); }

#endif

}  // namespace qvl::cuda
