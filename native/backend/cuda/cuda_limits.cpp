#include "backend/cuda/cuda_limits.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>

#include "backend/cuda/driver.h"
#include "backend/cuda/module.h"

namespace qvl::cuda {
namespace {

using Clock = std::chrono::steady_clock;

/// Several times what a cache of the second level holds; less where memory is short.
constexpr size_t kMostBytes = size_t{512} << 20;
/// Copies that are started before anybody waits: starting one takes microseconds.
constexpr int kCopies = 4;

/// Two blocks of memory, and a stream that copies from one to the other.
class Copies {
 public:
  Copies(const Driver& driver, size_t bytes) : call_(driver), bytes_(bytes) {
    try {
      call_.check(call_->stream_create(&stream_, api::kStreamNonBlocking), "creating a stream");
      call_.check(call_->mem_alloc(&from_, bytes_), "memory to copy from");
      call_.check(call_->mem_alloc(&to_, bytes_), "memory to copy to");
      call_.check(call_->memset_d8_async(from_, 0, bytes_, stream_), "filling memory");
    } catch (...) {
      free();
      throw;
    }
  }
  ~Copies() { free(); }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;

  /// Bytes read and written a second.
  double rate() {
    call_.check(call_->stream_synchronize(stream_), "waiting for copies");
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < kCopies; ++i) {
      call_.check(call_->memcpy_dtod_async(to_, from_, bytes_, stream_), "copying on the GPU");
    }
    call_.check(call_->stream_synchronize(stream_), "waiting for copies");
    const std::chrono::duration<double> taken = Clock::now() - begin;
    return 2.0 * kCopies * static_cast<double>(bytes_) / std::max(taken.count(), 1e-9);
  }

 private:
  void free() {
    if (stream_ != nullptr) {
      call_->stream_synchronize(stream_);
      call_->stream_destroy(stream_);
    }
    for (const api::DevicePointer pointer : {from_, to_}) {
      if (pointer != 0) call_->mem_free(pointer);
    }
  }

  const Driver& call_;
  size_t bytes_;
  api::Stream stream_ = nullptr;
  api::DevicePointer from_ = 0, to_ = 0;
};

}  // namespace

double measure_copy_rate(int ordinal, double seconds) {
  const std::shared_ptr<const Driver> driver = Driver::open();
  const DeviceProperties properties = device_properties(*driver, ordinal);  // throws without it
  const PrimaryContext context(*driver, properties.ordinal);
  const size_t bytes = std::clamp(context.free_bytes() / 8, size_t{1} << 16, kMostBytes);
  Copies copies(*driver, bytes);
  copies.rate();  // the first use of memory and of the device's clocks
  const Clock::time_point end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                   std::chrono::duration<double>(seconds));
  double best = 0;
  do {
    best = std::max(best, copies.rate());
  } while (Clock::now() < end);
  return best;
}

}  // namespace qvl::cuda
