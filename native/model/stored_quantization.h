#pragma once

// How checkpoints that are published quantised store their matrices.

#include <cstdint>

namespace qvl {

/// What config.json says about the matrices that are stored quantised. Which these are, the names
/// of their tensors say.
struct StoredQuantization {
  enum class Method : uint8_t { kNone, kAwq, kGptq };

  Method method = Method::kNone;
  int bits = 0;            // AWQ: 4; GPTQ: 4 or 8
  int64_t group_size = 0;  // inputs that share a scale: 32, 64 or 128; 0 = all
  /// Zero points are stored less one (GPTQ's checkpoint_format "gptq", not "gptq_v2").
  bool zeros_less_one = false;
  /// GPTQ with desc_act: without g_idx, the inputs would be taken in the wrong order.
  bool needs_group_index = false;
};

}  // namespace qvl
