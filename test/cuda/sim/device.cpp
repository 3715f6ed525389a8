#include "device.h"

#include <cstdio>
#include <cstdlib>

#include "error.h"
#include "memory.h"

namespace qvl::sim {
namespace {

int integer(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

bool equals(const char* name, const char* value) {
  const char* text = std::getenv(name);
  return text && std::string(text) == value;
}

bool created = false;

// At the process's very end, when every owner is gone: memory that nobody gave back.
[[gnu::destructor]] void report_leaks() {
  if (!created) return;
  size_t bytes = 0;
  const auto live = DeviceMemory::instance().live();
  for (const Allocation& a : live) bytes += a.bytes;
  if (!live.empty())
    Device::instance().log("leak: " + std::to_string(live.size()) + " allocations of " +
                           std::to_string(bytes) + " bytes of device memory were never freed");
}

}  // namespace

Device& Device::instance() {
  static auto* device = [] {
    created = true;
    return new Device;
  }();
  return *device;
}

Device::Device()
    : architecture_(integer("QWEN2_VL_SIM_ARCH", 80)),
      late_(!equals("QWEN2_VL_SIM_STREAMS", "early")),
      options_(Options::from_environment()) {}

void Device::log(const std::string& text) const {
  const char* path = std::getenv("QWEN2_VL_SIM_LOG");
  std::FILE* out = path ? std::fopen(path, "a") : stderr;
  if (!out) return;
  std::fprintf(out, "CUDA simulator: %s\n", text.c_str());
  if (path) std::fclose(out);
}

void Device::run(const Work& work) {
  if (error_ != CUDA_SUCCESS) return;
  try {
    work();
  } catch (const KernelError& e) {
    error_ = e.kind == KernelError::Kind::kIllegalAddress ? CUDA_ERROR_ILLEGAL_ADDRESS
                                                          : CUDA_ERROR_LAUNCH_FAILED;
    log(e.what());
  } catch (const std::exception& e) {
    error_ = CUDA_ERROR_UNKNOWN;
    log(e.what());
  }
}

CUresult Device::synchronize() {
  if (const CUresult r = not_while_capturing()) return r;
  const std::vector<Work> work = std::move(queue_);
  queue_.clear();
  for (const Work& w : work) run(w);
  synchronize_launches();
  return error_;
}

CUresult Device::enqueue(CUstream stream, Work work) {
  if (error_ != CUDA_SUCCESS) return error_;
  if (capturing(stream)) {
    captures_[stream].graph->nodes.push_back(std::move(work));
    return CUDA_SUCCESS;
  }
  if (late_) {
    queue_.push_back(std::move(work));
    return CUDA_SUCCESS;
  }
  run(work);
  return error_;
}

CUresult Device::begin_capture(CUstream stream, CUstreamCaptureMode mode) {
  if (!stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;  // the default stream cannot
  if (capturing(stream)) return CUDA_ERROR_ILLEGAL_STATE;
  captures_[stream] = {std::make_unique<Graph>(), std::this_thread::get_id(),
                       mode == CU_STREAM_CAPTURE_MODE_GLOBAL};
  return CUDA_SUCCESS;
}

CUresult Device::end_capture(CUstream stream, CUgraph* graph) {
  if (!capturing(stream)) return CUDA_ERROR_ILLEGAL_STATE;
  std::unique_ptr<Graph> done = std::move(captures_[stream].graph);
  captures_.erase(stream);
  *graph = nullptr;
  if (done->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = reinterpret_cast<CUgraph>(done.release());
  return CUDA_SUCCESS;
}

CUresult Device::not_while_capturing() {
  bool is_forbidden = false;
  for (auto& [stream, capture] : captures_) {
    if (!capture.is_global && capture.thread != std::this_thread::get_id()) continue;
    capture.graph->invalid = true;
    is_forbidden = true;
  }
  if (!is_forbidden) return CUDA_SUCCESS;
  log("a call that a stream capture forbids");
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

unsigned char* device_bytes(CUdeviceptr address, size_t bytes, const char* what) {
  DeviceMemory& memory = DeviceMemory::instance();
  if (bytes != 0 && memory.find(address, bytes).bytes == 0)
    throw KernelError(std::string(what) + " of " + std::to_string(bytes) +
                          " bytes is not in one allocation: " + memory.describe(address),
                      KernelError::Kind::kIllegalAddress);
  return memory.host(address);
}

CUresult enqueue_work(CUstream stream, Work work) {
  Device& device = Device::instance();
  std::lock_guard lock(device.mutex());
  return device.enqueue(stream, std::move(work));
}

void note_written(CUdeviceptr address, size_t bytes) { note_library_kernel(address, bytes); }

void log_line(const std::string& text) { Device::instance().log(text); }

}  // namespace qvl::sim
