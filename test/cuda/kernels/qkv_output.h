#pragma once

// What the kernels that end in QkvEpilogue are given beside a product, and where they leave it: for
// the tests of all of them.

#include <cmath>
#include <functional>
#include <vector>

#include "kernels/cuda/gemv_epilogue.h"
#include "kernels/paged_cache.h"

namespace qvl::test {

struct QkvHeads {
  int heads, kv_heads, head_dim;
  int count() const { return heads + 2 * kv_heads; }
  int columns() const { return count() * head_dim; }
};

/// Biases, and angles of every row of a step.
class QkvInputs {
 public:
  QkvInputs(Gpu& gpu, const QkvHeads& heads, const Step& step)
      : heads_(heads),
        step_(step),
        bias_(random_values(static_cast<size_t>(heads.columns()), 11)),
        device_bias_(gpu.upload(bias_)),
        device_cos_(gpu.upload(angles(&std::cos))),
        device_sin_(gpu.upload(angles(&std::sin))) {}

  const QkvHeads& heads() const { return heads_; }
  const Step& step() const { return step_; }

  /// All but where results go, for a launch whose first row is `first_row` of the step.
  QkvEpilogue epilogue(int first_row) const {
    QkvEpilogue e{};
    e.bias = device_bias_.get();
    e.cos = device_cos_.get() + first_row * half();
    e.sin = device_sin_.get() + first_row * half();
    e.table_stride = half();
    e.heads = heads_.heads;
    e.kv_heads = heads_.kv_heads;
    e.head_dim = heads_.head_dim;
    return e;
  }

  /// [rows, columns] from products(row, column) without a bias, each off by at most `slack`.
  std::vector<Expected> expected(
      const std::function<Expected(int row, int column)>& product) const {
    const int dim = heads_.head_dim;
    const std::vector<float> cos = angles(&std::cos), sin = angles(&std::sin);
    std::vector<Expected> all;
    for (int row = 0; row < step_.num_rows; ++row) {
      for (int column = 0; column < heads_.columns(); ++column) {
        const auto biased = [&](int at) {
          const Expected sum = product(row, at);
          return Expected{sum.value + static_cast<double>(bias_[static_cast<size_t>(at)]),
                          sum.slack};
        };
        Expected e = biased(column);
        const int d = column % dim, angle = row * half() + d % half();
        if (column / dim < heads_.heads + heads_.kv_heads) {
          const Expected other = biased(d < half() ? column + half() : column - half());
          const double c = cos[static_cast<size_t>(angle)], s = sin[static_cast<size_t>(angle)];
          e.value = e.value * c + (d < half() ? -other.value : other.value) * s;
          e.slack += other.slack;
        }
        all.push_back(e);
      }
    }
    return all;
  }

 private:
  int half() const { return heads_.head_dim / 2; }
  std::vector<float> angles(float (*function)(float)) const {
    auto values = random_values(static_cast<size_t>(step_.num_rows * half()), 12, 3.f);
    for (float& value : values) value = function(value);
    return values;
  }

  QkvHeads heads_;
  Step step_;
  std::vector<float> bias_;
  DeviceArray<float> device_bias_, device_cos_, device_sin_;
};

/// Where the rows [first_row, first_row + rows) of a step go, in one launch.
class QkvOutput {
 public:
  QkvOutput(Gpu& gpu, const QkvInputs& inputs, int first_row, int rows)
      : gpu_(gpu),
        inputs_(inputs),
        step_(inputs.step().part(first_row, rows)),
        layout_{inputs.heads().kv_heads, inputs.heads().head_dim},
        first_row_(first_row),
        device_step_(gpu, step_),
        q_(gpu.filled<uint16_t>(static_cast<size_t>(rows) * q_width(), 0xff)),
        cache_(gpu.filled<uint16_t>(layout_.size(step_), 0x11)) {}

  QkvEpilogue epilogue() const {
    QkvEpilogue e = inputs_.epilogue(first_row_);
    e.q = q_.get();
    e.cache = cache_.get();
    e.sequences = device_step_.table();
    e.q_stride = static_cast<int64_t>(q_width());
    return e;
  }

  /// [rows, columns]: queries, and keys and values from their places in the cache. Of it nothing
  /// else may have been written.
  std::vector<uint16_t> download() const {
    const QkvHeads& heads = inputs_.heads();
    const size_t dim = static_cast<size_t>(heads.head_dim);
    const std::vector<uint16_t> q = gpu_.download(q_);
    std::vector<uint16_t> cache = gpu_.download(cache_), all;
    for (int row = 0; row < step_.num_rows; ++row) {
      const auto first_q =
          q.begin() + static_cast<std::ptrdiff_t>(row) * static_cast<std::ptrdiff_t>(q_width());
      all.insert(all.end(), first_q, first_q + static_cast<std::ptrdiff_t>(q_width()));
      const auto sequence = static_cast<size_t>(step_.row_sequence[static_cast<size_t>(row)]);
      for (int head = 0; head < 2 * heads.kv_heads; ++head) {
        const size_t at = layout_.at(step_, sequence, step_.position(sequence, row),
                                     head % heads.kv_heads, head / heads.kv_heads);
        for (size_t i = at; i < at + dim; ++i) all.push_back(std::exchange(cache[i], kUnwritten));
      }
    }
    for (const uint16_t bits : cache) CHECK_EQ(bits, kUnwritten);
    return all;
  }

 private:
  static constexpr uint16_t kUnwritten = 0x1111;
  size_t q_width() const {
    return static_cast<size_t>(inputs_.heads().heads * inputs_.heads().head_dim);
  }

  Gpu& gpu_;
  const QkvInputs& inputs_;
  Step step_;
  CacheLayout layout_;
  int first_row_;
  DeviceStep device_step_;
  DeviceArray<uint16_t> q_, cache_;
};

}  // namespace qvl::test
