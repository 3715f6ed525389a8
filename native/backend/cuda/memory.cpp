#include "backend/cuda/memory.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "common/error.h"

namespace qvl::cuda {
namespace {

constexpr size_t kAlignment = 256;
/// What the driver hands out is a multiple of this, whatever is asked for: smaller blocks share
/// one.
constexpr size_t kChunkBytes = size_t{2} << 20;
constexpr size_t kMaxSmall = kChunkBytes / 4;
/// Pieces of page-locked memory: enough to keep the bus busy while as many threads read.
constexpr size_t kMaxPieces = 16;

size_t round_up(size_t bytes, size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

api::DevicePointer address(const void* pointer) {
  return reinterpret_cast<api::DevicePointer>(pointer);
}

std::string mebibytes(size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

// ---- the pool ----

MemoryPool::~MemoryPool() {
  device_->make_current_quietly();
  for (const auto& [pointer, bytes] : taken_) {
    if (bytes > kMaxSmall) device_->driver()->mem_free(address(pointer));
  }
  for (const auto& [bytes, pointer] : free_) {
    if (bytes > kMaxSmall) device_->driver()->mem_free(address(pointer));
  }
  for (void* const chunk : chunks_) device_->driver()->mem_free(address(chunk));
}

void* MemoryPool::allocate(size_t bytes, const char* what) {
  const Driver& call = device_->driver();
  api::DevicePointer pointer = 0;
  api::Result result = call->mem_alloc(&pointer, bytes);
  if (result == api::kOutOfMemory) {
    trim_locked();
    result = call->mem_alloc(&pointer, bytes);
  }
  if (result == api::kOutOfMemory) {
    const size_t free = device_->free_bytes();
    throw Error("ERR_OUT_OF_MEMORY",
                "the GPU has " + mebibytes(free) + " left, and " + what + " needs " +
                    mebibytes(bytes) +
                    ": use a smaller memoryLimit or contextSize, quantise the weights, or stop "
                    "what else runs on the device",
                {{"requiredBytes", static_cast<int64_t>(bytes)},
                 {"availableBytes", static_cast<int64_t>(free)}});
  }
  call.check(result, std::string("allocating memory for ") + what);
  return reinterpret_cast<void*>(pointer);
}

void* MemoryPool::take_small(size_t bytes, const char* what) {
  if (bytes > chunk_left_) {
    chunks_.push_back(allocate(kChunkBytes, what));
    chunk_next_ = static_cast<char*>(chunks_.back());
    chunk_left_ = kChunkBytes;
  }
  void* const pointer = chunk_next_;
  chunk_next_ += bytes;
  chunk_left_ -= bytes;
  return pointer;
}

void* MemoryPool::take(size_t bytes, const char* what) {
  device_->make_current();
  const std::lock_guard lock(mutex_);
  const bool is_small = bytes <= kMaxSmall;
  const size_t rounded = round_up(std::max(bytes, size_t{1}), is_small ? kAlignment : kChunkBytes);
  // A block that is a little too large will do, but a small one stays what it is.
  const size_t most = is_small ? rounded : rounded + rounded / 4;
  const auto found = free_.lower_bound(rounded);
  if (found != free_.end() && found->first <= most) {
    void* const pointer = found->second;
    taken_[pointer] = found->first;
    free_.erase(found);
    return pointer;
  }
  void* const pointer = is_small ? take_small(rounded, what) : allocate(rounded, what);
  taken_[pointer] = rounded;
  return pointer;
}

void MemoryPool::give_back(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto found = taken_.find(pointer);
  free_.emplace(found->second, pointer);
  taken_.erase(found);
}

void MemoryPool::trim() {
  device_->make_current_quietly();
  const std::lock_guard lock(mutex_);
  trim_locked();
}

void MemoryPool::trim_locked() {
  for (auto block = free_.begin(); block != free_.end();) {
    if (block->first <= kMaxSmall) {
      ++block;
      continue;
    }
    // The driver waits for the device before it takes memory back.
    device_->driver()->mem_free(address(block->second));
    block = free_.erase(block);
  }
}

size_t MemoryPool::available_bytes() {
  device_->make_current();
  const std::lock_guard lock(mutex_);
  size_t bytes = device_->free_bytes();
  for (const auto& [size, pointer] : free_) {
    if (size > kMaxSmall) bytes += size;
  }
  return bytes;
}

void* Scratch::get(const std::shared_ptr<MemoryPool>& pool, size_t bytes) {
  if (!holds(bytes)) {
    buffer_ = nullptr;  // first give back, then take
    // What grows a little with every step shall not move with every step.
    const size_t roomy = bytes <= kMaxSmall ? std::bit_ceil(bytes) : bytes;
    buffer_ = std::make_unique<CudaBuffer>(pool, roomy, "working memory");
  }
  return buffer_->data();
}

// ---- uploads ----

UploadQueue::UploadQueue(Device& device) : device_(device) {
  const Driver& call = device.driver();
  call.check(call->stream_create(&stream_, api::kStreamNonBlocking), "creating a CUDA stream");
}

UploadQueue::~UploadQueue() {
  const Driver& call = device_.driver();
  device_.make_current_quietly();
  call->stream_synchronize(stream_);
  for (const Piece& piece : free_) {
    call->event_destroy(piece.copied);
    call->mem_free_host(piece.memory);
  }
  call->stream_destroy(stream_);
}

UploadQueue::Piece UploadQueue::take() {
  const Driver& call = device_.driver();
  std::unique_lock lock(mutex_);
  if (free_.empty() && num_pieces_ < kMaxPieces) {
    Piece piece;
    call.check(call->mem_host_alloc(&piece.memory, kPieceBytes, 0), "page-locking memory");
    const api::Result result = call->event_create(&piece.copied, api::kEventDisableTiming);
    if (result != api::kSuccess) {
      call->mem_free_host(piece.memory);
      call.check(result, "creating a CUDA event");
    }
    ++num_pieces_;
    return piece;
  }
  returned_.wait(lock, [&] { return !free_.empty(); });
  // The one that has been on its way for longest.
  const Piece piece = free_.front();
  free_.erase(free_.begin());
  return piece;
}

void UploadQueue::give_back(Piece piece) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(piece);
  }
  returned_.notify_one();
}

void UploadQueue::upload(void* to, size_t bytes,
                         const std::function<void(void*, size_t, size_t)>& fill) {
  device_.make_current();
  const Driver& call = device_.driver();
  for (size_t done = 0; done < bytes; done += kPieceBytes) {
    const size_t count = std::min(kPieceBytes, bytes - done);
    const Piece piece = take();
    try {
      call.check(call->event_synchronize(piece.copied), "waiting for an upload");
      fill(piece.memory, done, count);
      call.check(call->memcpy_htod_async(address(to) + done, piece.memory, count, stream_),
                 "uploading weights");
      call.check(call->event_record(piece.copied, stream_), "uploading weights");
    } catch (...) {
      give_back(piece);
      throw;
    }
    give_back(piece);
  }
  const std::lock_guard lock(mutex_);
  is_pending_ = true;
}

void UploadQueue::finish() {
  const Driver& call = device_.driver();
  const std::lock_guard lock(mutex_);
  if (!is_pending_) return;
  // The first that the thread of a model does on the device.
  device_.make_current();
  is_pending_ = false;
  call.check(call->stream_synchronize(stream_), "uploading weights");
}

}  // namespace qvl::cuda
