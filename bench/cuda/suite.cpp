#include "suite.h"

#include <algorithm>
#include <cstdio>

#include "backend/cuda/cuda_backend.h"
#include "kernels/cpu/convert.h"

namespace qvl::bench {
namespace {

/// Of Qwen2-VL-2B.
const Shapes kPublished = {1536, 8960, 12,          2,           128,         151936,
                           16,   80,   {512, 8192}, {512, 4096}, {1024, 3996}};
const Shapes kSmall = {256, 512, 4, 2, 64, 512, 2, 32, {64}, {32}, {64}};

/// More than the last cache of any GPU holds.
constexpr double kBeyondCaches = 400e6;
/// Operations that are started before anybody waits.
constexpr int kMostOperations = 64;

}  // namespace

Suite::Suite(const Options& options) : options_(options) { keeper_ = make_backend(); }

const Shapes& Suite::shapes() const { return options_.is_small ? kSmall : kPublished; }

bool Suite::wants(const std::string& name) const {
  return name.find(options_.filter) != std::string::npos;
}

std::unique_ptr<Backend> Suite::make_backend() const {
  return create_cuda_backend({options_.device, DType::kBF16});
}

int Suite::copies_beyond_caches(double bytes) const {
  if (options_.is_small) return 2;
  return static_cast<int>(std::clamp(kBeyondCaches / bytes, 1.0, double{kMostOperations}));
}

void Suite::run(const Case& which, Backend& backend, const SequenceBatch* batch, int count,
                const std::function<void(int)>& body) const {
  const auto mark = backend.allocate(sizeof(float));
  const auto wait = [&] {
    float value = 0;
    backend.download(&value, mark->data(), sizeof value);
  };
  const auto pass = [&] {
    for (int i = 0; i < count; ++i) body(i);
  };
  const auto start = [&] {
    if (batch != nullptr) {
      backend.run_step(*batch, /*repeatable=*/true, pass);
    } else {
      pass();
    }
  };
  // The first touches memory, the second records; another for the clocks of the device.
  for (int i = 0; i < 3; ++i) start();
  wait();
  std::vector<double> rounds;
  for (int round = 0; round < options_.rounds; ++round) {
    double taken = 0;
    int passes = 0;
    const double begin = now();
    do {
      start();
      ++passes;
      // As many as need no more than a look at the clock in between.
      if (passes % 4 != 0) continue;
      wait();
    } while ((taken = now() - begin) < options_.seconds);
    wait();
    taken = now() - begin;
    rounds.push_back(taken / passes / count);
  }
  print_case(which, rounds, {});
}

void Suite::print_machine() const {
  const DeviceInfo& device = keeper_->device();
  std::printf("{\"processor\":\"%s\",\"instructionSet\":\"%s\",\"threads\":%d}\n",
              device.name.c_str(), device.instruction_set.c_str(), device.threads);
}

Operand::Operand(Backend& backend, int64_t rows, int64_t cols, DType dtype)
    : buffer_(backend.allocate(static_cast<size_t>(rows * cols) * dtype_size(dtype))),
      tensor_{buffer_->data(), rows, cols, cols, dtype} {
  const std::vector<float> values = numbers(rows * cols);
  if (dtype == DType::kF32) {
    backend.upload(buffer_->data(), values.data(), values.size() * sizeof(float));
    return;
  }
  std::vector<uint16_t> halves(values.size());
  std::transform(values.begin(), values.end(), halves.begin(), kernels::f32_to_bf16);
  backend.upload(buffer_->data(), halves.data(), halves.size() * sizeof(uint16_t));
}

}  // namespace qvl::bench
