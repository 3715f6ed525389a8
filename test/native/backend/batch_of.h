#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace qvl::test {

/// The sequences of a step over `cache`, where the backend's operations find them.
inline std::unique_ptr<SequenceBatch> batch_of(Backend& backend, const KvCache& cache,
                                               const std::vector<SequenceSpan>& spans) {
  int64_t tokens = 0;
  for (const SequenceSpan& span : spans) tokens += span.num_tokens;
  auto batch = backend.create_sequence_batch(tokens, cache.spec().num_blocks);
  batch->assign(spans);
  return batch;
}

}  // namespace qvl::test
