#pragma once

#include "model/model.h"

namespace qvl {

/// Throws Error(ERR_CHECKPOINT_CONFIG) for hyper-parameters that are out of range or contradict
/// each other, before anything is computed from them.
void check_config(const ModelConfig& config);

/// Throws Error(ERR_INVALID_ARGUMENT) for options that are out of range.
void check_options(const ModelOptions& options);

/// Throws Error(ERR_CHECKPOINT_UNSUPPORTED) for quantised weights, and
/// Error(ERR_CHECKPOINT_CONFIG) for weights of more layers than the configuration has.
void check_tensor_names(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace qvl
