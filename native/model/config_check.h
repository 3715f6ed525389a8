#pragma once

#include "io/safetensors.h"
#include "model/config.h"

namespace qvl {

/// Throws Error(ERR_CHECKPOINT_CONFIG) when the hyper-parameters contradict each other or are out
/// of any reason, so that nothing below has to doubt them.
void check_config(const ModelConfig& config);

/// Throws Error(ERR_CHECKPOINT_UNSUPPORTED) when the tensors' names are those of a quantised or a
/// different model.
void check_tensor_names(const Checkpoint& checkpoint);

}  // namespace qvl
