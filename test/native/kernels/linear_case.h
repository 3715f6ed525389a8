#pragma once

// What the tests of linear layers share, whatever their weights are stored in.

#include "kernels/support.h"

namespace qvl::test {

/// A linear layer but for its weights; rows of x, out and the residual have gaps.
struct LinearCase {
  int64_t rows, out_features, in_features;
  int segments;
  kernels::Activation activation;
  std::vector<float> x, bias, residual;
  std::vector<char> panels;

  static constexpr int64_t kGap = 3;

  LinearCase(int64_t rows_, int64_t out_features_, int64_t in_features_, int segments_,
             kernels::Activation activation_)
      : rows(rows_),
        out_features(out_features_),
        in_features(in_features_),
        segments(segments_),
        activation(activation_),
        x(random_floats(rows_ * (in_features_ + kGap), 1)),
        bias(random_floats(out_features_, 2)),
        residual(random_floats(rows_ * (out_features_ + kGap), 3)) {}

  /// `out` [rows, out_features + kGap] is filled with -7.
  kernels::LinearArgs args(std::vector<float>& out) const {
    out.assign(static_cast<size_t>(rows * (out_features + kGap)), -7.0f);
    kernels::LinearArgs a{};
    a.out = out.data();
    a.x = x.data();
    a.weight = panels.data();
    a.bias = bias.data();
    a.residual = residual.data();
    a.rows = rows;
    a.out_features = out_features;
    a.in_features = in_features;
    a.out_stride = out_features + kGap;
    a.x_stride = in_features + kGap;
    a.residual_stride = out_features + kGap;
    a.segments = segments;
    a.activation = activation;
    return a;
  }
};

}  // namespace qvl::test
