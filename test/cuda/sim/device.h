#pragma once

// The state of the stand-in driver: the one device, work that waits in streams, captures, errors.

#include <cuda.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "machine.h"

namespace qvl::sim {

/// A piece of work of a stream; it may throw KernelError.
using Work = std::function<void()>;

struct Graph {
  std::vector<Work> nodes;
  bool invalid = false;
};

/// One simulated GPU. Work of all streams runs in the order it was issued, but only when somebody
/// waits: reading a result too early, or reusing a buffer too early, shows. With
/// QWEN2_VL_SIM_STREAMS=early it runs when it is issued.
///
/// What a kernel did wrong is printed to the standard error stream, or to QWEN2_VL_SIM_LOG, and
/// stays: every later call answers with it.
class Device {
 public:
  static Device& instance();

  int architecture() const { return architecture_; }
  const Options& options() const { return options_; }

  /// Runs everything issued; the device's error, if it has one.
  CUresult synchronize();
  CUresult error() const { return error_; }
  /// Adds work to the stream, or to the graph that it is capturing.
  CUresult enqueue(CUstream stream, Work work);

  CUresult begin_capture(CUstream stream, CUstreamCaptureMode mode);
  CUresult end_capture(CUstream stream, CUgraph* graph);
  bool capturing(CUstream stream) const { return captures_.contains(stream); }
  /// What must not be called while the thread captures, or while any does in the global mode,
  /// spoils the capture and answers with an error.
  CUresult not_while_capturing();

  /// Says what went wrong, where people look for it.
  void log(const std::string& text) const;
  std::recursive_mutex& mutex() { return mutex_; }

 private:
  Device();
  void run(const Work& work);

  std::recursive_mutex mutex_;
  int architecture_;
  bool late_;
  Options options_;
  std::vector<Work> queue_;
  CUresult error_ = CUDA_SUCCESS;
  struct Capture {
    std::unique_ptr<Graph> graph;
    std::thread::id thread;  // that began it
    bool is_global = false;  // it forbids all threads what it forbids its own
  };
  std::map<CUstream, Capture> captures_;
};

/// [address, address + bytes) of device memory as the host sees it; throws KernelError when it is
/// not inside one allocation.
#pragma GCC visibility push(default)
unsigned char* device_bytes(CUdeviceptr address, size_t bytes, const char* what);
/// Device::enqueue, for libraries built on the driver.
CUresult enqueue_work(CUstream stream, Work work);
/// A kernel of such a library has written there.
void note_written(CUdeviceptr address, size_t bytes);
void log_line(const std::string& text);
#pragma GCC visibility pop

}  // namespace qvl::sim
