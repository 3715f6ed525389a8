#pragma once

#include <cstddef>
#include <cstdint>

namespace qvl {

// Chooses the next token of each row from its logits, exactly as native/engine/sampler.cpp does:
// the same penalties, candidates, weights and draws, bit for bit. Not here: bans of repeated
// n-grams.
//
//   sample_count    {any, rows}, kSampleThreads       only where a row has a history
//   sample_scores   {ceil(V / kSampleSlice), rows}, kSampleThreads
//   sample_weights  the same                          only where a row has a temperature
//   sample_draw     {rows}, kSampleDrawThreads, kSampleDrawSharedBytes
constexpr int kSampleThreads = 256;
constexpr int kSampleSlice = 2048;
constexpr int kSampleDrawThreads = 1024;
// Up to so many candidates are ranked in shared memory.
constexpr int kSampleMaxRanked = 2048;

// Added to the logit of one token.
struct SampleBias {
  int32_t id;
  float bias;
};

struct SampleOptions {
  uint64_t seed;
  const uint64_t* mask;      // bit id % 64 of word id / 64: allowed; null: all are
  const SampleBias* biases;  // [num_biases] in order of id, each id once
  const int32_t* history;    // [num_history] the tokens that penalties look at
  int32_t num_biases;
  int32_t num_history;
  int32_t first_answer;  // of the history: those from here on are the answer's
  int32_t draw;          // which of the seed's draws: the length of the answer
  int32_t logits_row;
  int32_t top_k;      // 0: off
  float temperature;  // 0: the best, the lowest id among equals
  float top_p;        // 1: off
  float min_p;
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
};

// Of a row; all zeros between steps.
struct SampleState {
  unsigned long long best;  // its score's order in the upper half, ~id in the lower
  uint32_t is_not_finite;   // a logit is not
};

// A result where the host has to look at the logits: one is not finite, or the mask and what is
// finite leave none.
constexpr int32_t kSampleUndecided = -1;

struct SampleParams {
  const float* logits;           // [.., V]
  const SampleOptions* options;  // [rows]
  float* scores;        // [rows, scores_stride], scratch; used where there is a temperature
  float* weights;       // the same
  uint32_t* counts;     // the same, all zeros between steps; used where there is a history
  SampleState* states;  // [rows]
  int32_t* results;     // [rows], ids or kSampleUndecided
  int64_t logits_stride;
  int64_t scores_stride;  // a multiple of 4
  int32_t vocab_size;     // V
};

constexpr size_t kSampleDrawSharedBytes =
    2048 * 4 + kSampleMaxRanked * 12 + kSampleDrawThreads / 32 * 16 + 48;

}  // namespace qvl
