#pragma once

#include <cstddef>
#include <cstdint>

namespace qvl {

// Chooses the next token of each row from its logits, exactly as native/engine/sampler.cpp does:
// the same penalties, candidates, weights and draws, bit for bit. Not here: bans of repeated
// n-grams.
//
//   sample_count    {any, rows}, kSampleThreads       only where a row has penalties
//   sample_scores   {ceil(V / kSampleSlice), rows}, kSampleThreads
//   sample_weights  the same                          only where a row has a temperature
//   sample_draw     {rows}, kSampleDrawThreads, kSampleDrawSharedBytes
constexpr int kSampleThreads = 256;
constexpr int kSampleSlice = 2048;
constexpr int kSampleDrawThreads = 1024;
// Candidates that top-k or top-p may leave to be ranked; see kSampleUndecided.
constexpr int kSampleMaxRanked = 2048;

struct SampleOptions {
  uint64_t seed;
  const float* bias;     // [V], added to the logits, or null
  const uint64_t* mask;  // bit id % 64 of word id / 64: allowed; null: all are
  float temperature;     // 0: the best, the lowest id among equals
  float top_p;           // 1: off
  float min_p;
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  int32_t top_k;           // 0: off
  int32_t penalty_last_n;  // -1: all of the history
  int32_t num_prompt;      // tokens of the history that are no answer
};

// Of a row; all zeros between steps.
struct SampleState {
  unsigned long long best;  // its score's order in the upper half, ~id in the lower
  uint32_t bad;             // ~id of the first logit that is NaN or +infinity
  uint32_t has_finite;
};

enum SampleStatus : int32_t {
  kSampled,
  kSampleBadLogit,     // `id` is its id; all are -infinity: 0
  kSampleNoneAllowed,  // the mask leaves none
  // top-k or top-p would have to rank more than kSampleMaxRanked candidates of a nearly flat
  // distribution: the host samples this row.
  kSampleUndecided,
};

struct SampleResult {
  int32_t id;
  int32_t status;  // SampleStatus
};

struct SampleParams {
  const float* logits;           // [rows, V]
  const SampleOptions* options;  // [rows]
  int32_t* history;              // [rows, history_stride]; what is chosen is appended
  int32_t* history_length;       // [rows]
  float* scores;                 // [rows, scores_stride], scratch
  float* weights;                // the same
  uint32_t* counts;              // the same, all zeros between steps
  SampleState* states;           // [rows]
  SampleResult* results;         // [rows]
  int64_t logits_stride;
  int64_t history_stride;
  int64_t scores_stride;  // a multiple of 4
  int32_t vocab_size;     // V
};

constexpr size_t kSampleDrawSharedBytes =
    2048 * 4 + kSampleMaxRanked * 12 + kSampleDrawThreads / 32 * 8 + 32;

}  // namespace qvl
