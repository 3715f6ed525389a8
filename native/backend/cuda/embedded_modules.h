#pragma once

#include <span>

namespace qvl::cuda {

/// The compiled kernels of a family: one file of kernels/cuda.
struct EmbeddedModule {
  const char* family;
  const void* image;  // a fatbin
  const char* hash;   // SHA-256 of the image, in hexadecimal
};

/// Empty when the build had no CUDA compiler.
std::span<const EmbeddedModule> embedded_modules();
/// Why embedded_modules() is empty; "" when it is not.
const char* why_no_modules();

}  // namespace qvl::cuda
