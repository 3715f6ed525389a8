#pragma once

// softmax(scale q k^T) v of one query in double precision.

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/compare.h"

namespace qvl::test {

/// Adds the expected output of a query, [head_dim], to `expected`. key(j), value(j) give rows.
inline void append_attention(std::vector<Expected>& expected, const float* q, int head_dim,
                             int num_keys, double scale, Half type,
                             const std::function<const float*(int)>& key,
                             const std::function<const float*(int)>& value) {
  std::vector<double> weights(static_cast<size_t>(num_keys));
  double max = -INFINITY;
  for (int j = 0; j < num_keys; ++j) {
    const float* k = key(j);
    double score = 0.0;
    for (int i = 0; i < head_dim; ++i)
      score += static_cast<double>(q[i]) * static_cast<double>(k[i]);
    weights[static_cast<size_t>(j)] = score * scale;
    max = std::max(max, score * scale);
  }
  double sum = 0.0;
  for (double& weight : weights) sum += weight = std::exp(weight - max);
  std::vector<Expected> row(static_cast<size_t>(head_dim));
  for (int j = 0; j < num_keys; ++j) {
    const float* v = value(j);
    const double weight = weights[static_cast<size_t>(j)] / sum;
    for (int i = 0; i < head_dim; ++i) {
      Expected& element = row[static_cast<size_t>(i)];
      element.value += weight * static_cast<double>(v[i]);
      // Probabilities are rounded to the type; scores and their exponentials to F32.
      element.slack += weight * std::fabs(static_cast<double>(v[i])) * rounding_of(type);
    }
  }
  for (Expected& element : row) element.slack += 1e-5;
  expected.insert(expected.end(), row.begin(), row.end());
}

}  // namespace qvl::test
