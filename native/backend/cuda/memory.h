#pragma once

// Device memory with reuse, and uploads that go on while the next piece is being read.

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/module.h"

namespace qvl::cuda {

/// Hands out device memory and keeps what comes back for the next who wants as much. All users of
/// a pool work in one stream, so memory may be handed on while its last reader still waits there.
/// Safe to use from several threads.
class MemoryPool {
 public:
  explicit MemoryPool(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// At least `bytes`, aligned to 256. Throws Error(ERR_OUT_OF_MEMORY); everything goes on then.
  void* take(size_t bytes, const char* what);
  void give_back(void* pointer);
  /// Returns what nobody uses to the driver.
  void trim();
  /// What the driver has left, and what nobody uses here.
  size_t available_bytes();

 private:
  void trim_locked();
  void* take_small(size_t bytes, const char* what);
  void* allocate(size_t bytes, const char* what);

  std::shared_ptr<Device> device_;
  std::mutex mutex_;
  std::map<void*, size_t> taken_;      // by address: the size it was rounded to
  std::multimap<size_t, void*> free_;  // by size
  std::vector<void*> chunks_;          // small blocks are cut from these
  char* chunk_next_ = nullptr;
  size_t chunk_left_ = 0;
};

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(std::shared_ptr<MemoryPool> pool, size_t bytes, const char* what)
      : pool_(std::move(pool)), pointer_(pool_->take(bytes, what)), bytes_(bytes) {}
  ~CudaBuffer() override { pool_->give_back(pointer_); }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  void* data() const override { return pointer_; }
  size_t size_bytes() const override { return bytes_; }

 private:
  std::shared_ptr<MemoryPool> pool_;  // outlives the backend while there are buffers
  void* pointer_;
  size_t bytes_;
};

/// Memory that grows on demand and is kept for the next operation.
class Scratch {
 public:
  /// Whether get() will return the place that it returned last.
  bool holds(size_t bytes) const { return buffer_ != nullptr && buffer_->size_bytes() >= bytes; }
  /// Valid until the next call that wants more. Without memory for that there is none at all then.
  void* get(const std::shared_ptr<MemoryPool>& pool, size_t bytes);
  /// Of what get() gave, which may be more than was wanted.
  size_t size_bytes() const { return buffer_ == nullptr ? 0 : buffer_->size_bytes(); }

 private:
  std::unique_ptr<CudaBuffer> buffer_;
};

/// Copies to the device through page-locked memory, in a stream of its own: a caller fills one
/// piece while the one before is on its way. Safe to use from several threads.
class UploadQueue {
 public:
  explicit UploadQueue(Device& device);
  ~UploadQueue();
  UploadQueue(const UploadQueue&) = delete;
  UploadQueue& operator=(const UploadQueue&) = delete;

  static constexpr size_t kPieceBytes = size_t{1} << 20;

  /// Copies `bytes` to `to`. fill(piece, offset, count) writes what belongs to [offset, offset +
  /// count) to page-locked memory, at most kPieceBytes at a time, offsets multiples of that.
  void upload(void* to, size_t bytes,
              const std::function<void(void* piece, size_t offset, size_t count)>& fill);
  /// Returns when everything uploaded so far has arrived. Cheap when nothing was.
  void finish();

 private:
  struct Piece {
    void* memory = nullptr;
    api::Event copied = nullptr;
  };
  Piece take();
  void give_back(Piece piece);

  Device& device_;
  api::Stream stream_ = nullptr;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Piece> free_;
  size_t num_pieces_ = 0;
  bool is_pending_ = false;
};

}  // namespace qvl::cuda
