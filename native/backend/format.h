#pragma once

#include "backend/tensor.h"
#include "kernels/cpu/kernels.h"

namespace qvl {

/// What the host's kernels call a type.
inline kernels::Format to_format(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return kernels::Format::kBF16;
    case DType::kF16:
      return kernels::Format::kF16;
    case DType::kF32:
      break;
  }
  return kernels::Format::kF32;
}

}  // namespace qvl
