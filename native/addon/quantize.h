#pragma once

#include <napi.h>

namespace qvl::addon {

/// quantizeMatrix(matrix, storedQuantization): Promise<{ qweight, qzeros, scales }>.
Napi::Value quantize_matrix(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
