// The stand-in driver's modules, kernels and graphs.

#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "device.h"
#include "error.h"
#include "host_kernels.h"
#include "machine.h"
#include "program.h"

namespace {

using qvl::sim::Device;
using qvl::sim::Graph;
using qvl::sim::Launch;

constexpr uint32_t kFatbinMagic = 0xba55ed50, kWrapperMagic = 0x466243b1;
constexpr unsigned kSharedWithoutAsking = 48 * 1024;

struct Function {
  std::shared_ptr<const qvl::sim::PtxModule> module;
  const qvl::sim::Program* program;
  int max_dynamic_shared = kSharedWithoutAsking;
};
struct Module {
  std::shared_ptr<const qvl::sim::PtxModule> code;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

int device_attribute(CUdevice_attribute which) {
  int value = 0;
  cuDeviceGetAttribute(&value, which, 0);
  return value;
}

// A kernel that goes wrong, for tests of those who start kernels.
void fail_where_asked_to() {
  const char* how = std::getenv("QWEN2_VL_SIM_FAULT");
  if (how == nullptr) return;
  using Kind = qvl::sim::KernelError::Kind;
  const std::string kind = how;
  if (kind == "illegal-address")
    throw qvl::sim::KernelError("QWEN2_VL_SIM_FAULT", Kind::kIllegalAddress);
  if (kind == "launch-failed") throw qvl::sim::KernelError("QWEN2_VL_SIM_FAULT");
}

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Where the build put <family>.fatbin and <family>.compute_<arch>.ptx: QWEN2_VL_SIM_PTX, or beside
// this library.
std::string ptx_folder() {
  if (const char* folder = std::getenv("QWEN2_VL_SIM_PTX")) return folder;
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&ptx_folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  return path.substr(0, path.find_last_of('/'));
}

size_t fatbin_bytes(const unsigned char* image) {
  uint16_t header = 0;
  uint64_t body = 0;
  std::memcpy(&header, image + 6, sizeof header);
  std::memcpy(&body, image + 8, sizeof body);
  return header + body;
}

// The PTX of the family whose fatbin this is; "" when there is none.
std::string ptx_of(const unsigned char* image) {
  const std::string folder = ptx_folder();
  const size_t bytes = fatbin_bytes(image);
  std::ifstream list(folder + "/modules.txt");
  std::string hash, family;
  while (list >> hash >> family) {
    const std::string fatbin = contents(folder + "/" + family + ".fatbin");
    if (fatbin.size() < bytes || std::memcmp(fatbin.data(), image, bytes) != 0) continue;
    const std::string path = folder + "/" + family + ".compute_" +
                             std::to_string(Device::instance().architecture()) + ".ptx";
    std::string text = contents(path);
    if (text.empty()) Device::instance().log("there is no " + path);
    return text;
  }
  Device::instance().log("a fatbin that none in " + folder + " (QWEN2_VL_SIM_PTX) equals");
  return "";
}

std::shared_ptr<const qvl::sim::PtxModule> parsed(const std::string& text) {
  static auto* cache = new std::map<std::string, std::shared_ptr<const qvl::sim::PtxModule>>;
  auto& entry = (*cache)[text];
  if (!entry) entry = std::make_shared<qvl::sim::PtxModule>(text);
  return entry;
}

// What a driver refuses at once.
CUresult check_launch(const CUlaunchConfig& c, const Function& f) {
  const uint64_t threads = uint64_t{c.blockDimX} * c.blockDimY * c.blockDimZ;
  const uint64_t blocks = uint64_t{c.gridDimX} * c.gridDimY * c.gridDimZ;
  const auto refuse = [&](const std::string& why) {
    Device::instance().log(f.program->name + ": refused: " + why);
    return CUDA_ERROR_INVALID_VALUE;
  };
  if (threads == 0 || blocks == 0) return refuse("an empty grid or block");
  if (threads > 1024 || threads > static_cast<uint64_t>(f.program->max_threads))
    return refuse("a block of " + std::to_string(threads) + " threads; the limit is " +
                  std::to_string(f.program->max_threads));
  if (c.gridDimX > 0x7fffffffu || c.gridDimY > 65535 || c.gridDimZ > 65535)
    return refuse("a grid beyond the limits");
  if (c.sharedMemBytes > static_cast<unsigned>(f.max_dynamic_shared))
    return refuse(std::to_string(c.sharedMemBytes) +
                  " bytes of shared memory; cuFuncSetAttribute allowed " +
                  std::to_string(f.max_dynamic_shared));
  return CUDA_SUCCESS;
}

}  // namespace

#define LOCKED std::lock_guard qvl_lock(Device::instance().mutex())
#define RETURN_ON_ERROR \
  LOCKED;               \
  if (const CUresult qvl_result = Device::instance().error()) return qvl_result

#pragma GCC visibility push(default)
extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  RETURN_ON_ERROR;
  const auto* bytes = static_cast<const unsigned char*>(image);
  uint32_t magic = 0;
  std::memcpy(&magic, bytes, sizeof magic);
  if (magic == kWrapperMagic) {
    std::memcpy(&bytes, bytes + 8, sizeof bytes);
    std::memcpy(&magic, bytes, sizeof magic);
  }
  const bool fatbin = magic == kFatbinMagic;
  const std::string text = fatbin ? ptx_of(bytes) : static_cast<const char*>(image);
  if (text.empty()) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  if (text.find(".version") == std::string::npos) return CUDA_ERROR_INVALID_IMAGE;
  try {
    *module = reinterpret_cast<CUmodule>(new Module{parsed(text), {}});
    return CUDA_SUCCESS;
  } catch (const std::exception& e) {
    Device::instance().log(e.what());
    return CUDA_ERROR_INVALID_PTX;
  }
}
CUresult cuModuleUnload(CUmodule module) {
  LOCKED;
  const CUresult r = Device::instance().synchronize();
  delete reinterpret_cast<Module*>(module);
  return r;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  RETURN_ON_ERROR;
  auto* m = reinterpret_cast<Module*>(module);
  const qvl::sim::Program* program = m->code->find(name);
  if (!program) return CUDA_ERROR_NOT_FOUND;
  auto& entry = m->functions[name];
  if (!entry) entry = std::make_unique<Function>(Function{m->code, program});
  *function = reinterpret_cast<CUfunction>(entry.get());
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  RETURN_ON_ERROR;
  auto* f = reinterpret_cast<Function*>(function);
  if (which == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
  if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
  if (value < 0 || value > device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
    return CUDA_ERROR_INVALID_VALUE;
  f->max_dynamic_shared = value;
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction function) {
  RETURN_ON_ERROR;
  const auto* f = reinterpret_cast<const Function*>(function);
  switch (which) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = f->program->max_threads;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = f->max_dynamic_shared;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = static_cast<int>(f->program->local_bytes);
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      *value = Device::instance().architecture();
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
// By threads and shared memory; how many registers a kernel takes only ptxas knows.
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads,
                                                     size_t shared_bytes) {
  RETURN_ON_ERROR;
  if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  const int rounded = (threads + 31) / 32 * 32;
  int most =
      std::min(device_attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR),
               device_attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR) / rounded);
  const int shared = static_cast<int>((shared_bytes + 1024 + 127) / 128 * 128);
  most = std::min(
      most, device_attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / shared);
  *blocks = most;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction function, void** parameters,
                          void** extra) {
  RETURN_ON_ERROR;
  const auto* f = reinterpret_cast<const Function*>(function);
  if (!f || extra) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult r = check_launch(*c, *f)) return r;
  // Arguments are those of the time of the call, also of a captured launch.
  Launch launch;
  launch.program = f->program;
  launch.grid = {c->gridDimX, c->gridDimY, c->gridDimZ};
  launch.block = {c->blockDimX, c->blockDimY, c->blockDimZ};
  launch.shared_bytes = c->sharedMemBytes;
  launch.parameters.resize(f->program->parameter_bytes);
  for (size_t i = 0; i < f->program->parameters.size(); ++i) {
    const auto& p = f->program->parameters[i];
    std::memcpy(launch.parameters.data() + p.offset, parameters[i], p.bytes);
  }
  for (unsigned i = 0; i < c->numAttrs; ++i)
    if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
      launch.programmatic = c->attrs[i].value.programmaticStreamSerializationAllowed != 0;
  return Device::instance().enqueue(c->hStream, [launch, code = f->module] {
    fail_where_asked_to();
    const qvl::sim::Options& options = Device::instance().options();
    if (qvl::sim::uses_host_kernels()) return qvl::sim::run_host_launch(launch, options);
    qvl::sim::run_launch(launch, options);
  });
}
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream,
                        void** parameters, void** extra) {
  CUlaunchConfig c{};
  c.gridDimX = gx, c.gridDimY = gy, c.gridDimZ = gz;
  c.blockDimX = bx, c.blockDimY = by, c.blockDimZ = bz;
  c.sharedMemBytes = shared_bytes;
  c.hStream = stream;
  return cuLaunchKernelEx(&c, f, parameters, extra);
}

// ---- graphs ----

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
  RETURN_ON_ERROR;
  return Device::instance().begin_capture(stream, mode);
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  RETURN_ON_ERROR;
  return Device::instance().end_capture(stream, graph);
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  RETURN_ON_ERROR;
  *status = Device::instance().capturing(stream) ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                                 : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  RETURN_ON_ERROR;
  *executable = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  RETURN_ON_ERROR;
  for (const auto& node : reinterpret_cast<Graph*>(executable)->nodes)
    if (const CUresult r = Device::instance().enqueue(stream, node)) return r;
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
  LOCKED;
  delete reinterpret_cast<Graph*>(graph);
  return Device::instance().error();
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
  LOCKED;
  delete reinterpret_cast<Graph*>(executable);
  return Device::instance().error();
}

}  // extern "C"
#pragma GCC visibility pop
