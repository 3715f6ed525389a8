// The stand-in driver answers as the real one does. Errors stay, so those cases run in processes of
// their own.

#include <cuda.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "check.h"
#include "ptx_kernel.h"

namespace {

using qvl::sim::ptx_text;

std::string temporary(const std::string& name) {
  static const std::string folder = [] {
    std::string path = "/tmp/qvl-sim-XXXXXX";
    return std::string(mkdtemp(path.data()));
  }();
  return folder + "/" + name;
}

std::string contents(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Runs a test in a child process with its own driver; what the driver logged.
std::string in_child(const std::vector<std::pair<std::string, std::string>>& environment,
                     const std::function<void()>& test) {
  const std::string log = temporary("log"), result = temporary("result");
  std::remove(log.c_str());
  std::remove(result.c_str());
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    setenv("QWEN2_VL_SIM_LOG", log.c_str(), 1);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    try {
      test();
    } catch (const std::exception& e) {
      std::ofstream(result) << e.what();
    }
    std::exit(0);  // with the report of leaks
  }
  int status = 0;
  waitpid(child, &status, 0);
  const std::string failure = contents(result);
  if (!failure.empty()) throw qvl::test::Failure(failure);
  CHECK_EQ(status, 0);
  return contents(log);
}

struct Gpu {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction kernel = nullptr;
  CUstream stream = nullptr;
  explicit Gpu(const std::string& body, int parameters) {
    CHECK_EQ(cuInit(0), CUDA_SUCCESS);
    CHECK_EQ(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
    CHECK_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
    CHECK_EQ(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    CHECK_EQ(cuModuleLoadData(&module, ptx_text(body, parameters).c_str()), CUDA_SUCCESS);
    CHECK_EQ(cuModuleGetFunction(&kernel, module, "kernel"), CUDA_SUCCESS);
  }
  ~Gpu() {
    cuModuleUnload(module);
    cuStreamDestroy(stream);
    cuDevicePrimaryCtxRelease(0);
  }
  CUresult launch(CUdeviceptr p, unsigned threads = 32, unsigned shared = 0) {
    CUlaunchConfig c{};
    c.gridDimX = c.gridDimY = c.gridDimZ = c.blockDimY = c.blockDimZ = 1;
    c.blockDimX = threads;
    c.sharedMemBytes = shared;
    c.hStream = stream;
    void* arguments[] = {&p};
    return cuLaunchKernelEx(&c, kernel, arguments, nullptr);
  }
  CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr p = 0;
    CHECK_EQ(cuMemAlloc(&p, bytes), CUDA_SUCCESS);
    return p;
  }
};

const char* const kAddOne =
    "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d2, %r0, 4;\nadd.s64 %d3, %d0, %d2;\nld.global.u32 %r1, "
    "[%d3];\nadd.s32 %r1, %r1, 1;\n"
    "st.global.u32 [%d3], %r1;\n";

TEST(a_kernel_runs_through_the_driver) {
  in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    std::vector<uint32_t> values(32, 5), out(32);
    const CUdeviceptr p = gpu.allocate(128);
    CHECK_EQ(cuMemcpyHtoDAsync(p, values.data(), 128, gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(gpu.launch(p), CUDA_SUCCESS);
    CHECK_EQ(cuMemcpyDtoHAsync(out.data(), p, 128, gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_SUCCESS);
    CHECK(out == std::vector<uint32_t>(32, 6));
    CHECK_EQ(cuMemFree(p), CUDA_SUCCESS);
  });
}

TEST(work_on_pinned_memory_happens_when_somebody_waits) {
  in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    void* pinned = nullptr;
    CHECK_EQ(cuMemHostAlloc(&pinned, 128, 0), CUDA_SUCCESS);
    auto* values = static_cast<uint32_t*>(pinned);
    std::fill_n(values, 32, 5u);
    const CUdeviceptr p = gpu.allocate(128);
    CHECK_EQ(cuMemcpyHtoDAsync(p, values, 128, gpu.stream), CUDA_SUCCESS);
    std::fill_n(values, 32, 9u);  // too early: the copy reads this
    CHECK_EQ(gpu.launch(p), CUDA_SUCCESS);
    CHECK_EQ(cuMemcpyDtoHAsync(values, p, 128, gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(values[0], 9u);  // not there yet
    CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(values[0], 10u);
    CHECK_EQ(cuMemFree(p), CUDA_SUCCESS);
    CHECK_EQ(cuMemFreeHost(pinned), CUDA_SUCCESS);
  });
}

TEST(a_graph_replays_with_the_arguments_of_its_capture) {
  in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    const CUdeviceptr p = gpu.allocate(128);
    CHECK_EQ(cuMemsetD8Async(p, 0, 128, gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(cuStreamBeginCapture(gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
    CHECK_EQ(gpu.launch(p), CUDA_SUCCESS);
    CHECK_EQ(gpu.launch(p), CUDA_SUCCESS);
    CUgraph graph = nullptr;
    CUgraphExec executable = nullptr;
    CHECK_EQ(cuStreamEndCapture(gpu.stream, &graph), CUDA_SUCCESS);
    CHECK_EQ(cuGraphInstantiateWithFlags(&executable, graph, 0), CUDA_SUCCESS);
    CHECK_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
    for (int i = 0; i < 3; ++i) CHECK_EQ(cuGraphLaunch(executable, gpu.stream), CUDA_SUCCESS);
    std::vector<uint32_t> out(32);
    CHECK_EQ(cuMemcpyDtoH(out.data(), p, 128), CUDA_SUCCESS);
    CHECK_EQ(out[31], 6u);  // nothing ran while capturing
    CHECK_EQ(cuGraphExecDestroy(executable), CUDA_SUCCESS);
    CHECK_EQ(cuMemFree(p), CUDA_SUCCESS);
  });
}

TEST(a_capture_forbids_allocations_and_waits) {
  const std::string log = in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    CHECK_EQ(cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
             CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQ(cuStreamBeginCapture(gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
    CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CUgraph graph = nullptr;
    CHECK_EQ(cuStreamEndCapture(gpu.stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  });
  CHECK(log.find("a stream capture forbids") != std::string::npos);
}

TEST(a_capture_forbids_others_nothing_unless_it_is_global) {
  const auto allocates_elsewhere = [](CUstreamCaptureMode mode) {
    Gpu gpu(kAddOne, 1);
    CUstream second = nullptr;
    CHECK_EQ(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    CHECK_EQ(cuStreamBeginCapture(gpu.stream, mode), CUDA_SUCCESS);
    CUresult allocated = CUDA_ERROR_UNKNOWN, began = CUDA_ERROR_UNKNOWN;
    std::thread([&] {
      cuCtxSetCurrent(gpu.context);
      CUdeviceptr p = 0;
      allocated = cuMemAlloc(&p, 4);
      began = cuStreamBeginCapture(second, mode);
      CUgraph empty = nullptr;
      cuStreamEndCapture(second, &empty);
      if (empty) cuGraphDestroy(empty);
    }).join();
    CHECK_EQ(began, CUDA_SUCCESS);
    CUgraph graph = nullptr;
    CHECK_EQ(cuStreamEndCapture(gpu.stream, &graph),
             allocated == CUDA_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    if (graph) CHECK_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
    return allocated;
  };
  in_child({}, [&] {
    CHECK_EQ(allocates_elsewhere(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  });
  in_child({}, [&] {
    CHECK_EQ(allocates_elsewhere(CU_STREAM_CAPTURE_MODE_GLOBAL),
             CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  });
}

TEST(what_a_kernel_did_wrong_is_told_and_stays) {
  const std::string log = in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    const CUdeviceptr p = gpu.allocate(64);
    CHECK_EQ(gpu.launch(p), CUDA_SUCCESS);  // reports come when somebody waits
    CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_ERROR_ILLEGAL_ADDRESS);
    uint32_t word = 0;
    CHECK_EQ(cuMemcpyDtoH(&word, p, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_EQ(gpu.launch(p), CUDA_ERROR_ILLEGAL_ADDRESS);
    CUdeviceptr other = 0;
    CHECK_EQ(cuMemAlloc(&other, 64), CUDA_ERROR_ILLEGAL_ADDRESS);
    CHECK_EQ(cuMemFree(p), CUDA_ERROR_ILLEGAL_ADDRESS);
  });
  CHECK(log.find("thread 16") != std::string::npos);
  CHECK(log.find("reads out of bounds") != std::string::npos);
  CHECK(log.find("leak") == std::string::npos);
}

TEST(a_kernel_fails_where_a_test_asks_for_it) {
  for (const auto& [fault, expected] : {std::pair{"illegal-address", CUDA_ERROR_ILLEGAL_ADDRESS},
                                        std::pair{"launch-failed", CUDA_ERROR_LAUNCH_FAILED}}) {
    const std::string log = in_child({}, [&, fault = fault, expected = expected] {
      Gpu gpu("mov.u32 %r0, %tid.x;\n", 1);
      CHECK_EQ(gpu.launch(0), CUDA_SUCCESS);
      CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_SUCCESS);
      setenv("QWEN2_VL_SIM_FAULT", fault, 1);
      CHECK_EQ(gpu.launch(0), CUDA_SUCCESS);
      CHECK_EQ(cuStreamSynchronize(gpu.stream), expected);
    });
    CHECK(log.find("QWEN2_VL_SIM_FAULT") != std::string::npos);
  }
}

TEST(memory_can_become_less_while_the_process_runs) {
  in_child({}, [] {
    Gpu gpu("mov.u32 %r0, %tid.x;\n", 1);
    setenv("QWEN2_VL_SIM_MEMORY", "1000", 1);
    size_t free = 0, total = 0;
    CHECK_EQ(cuMemGetInfo(&free, &total), CUDA_SUCCESS);
    CHECK_EQ(total, size_t{1000});
    CUdeviceptr pointer = 0;
    CHECK_EQ(cuMemAlloc(&pointer, 2000), CUDA_ERROR_OUT_OF_MEMORY);
    setenv("QWEN2_VL_SIM_MEMORY", "1000000", 1);
    CHECK_EQ(cuMemAlloc(&pointer, 2000), CUDA_SUCCESS);
    CHECK_EQ(cuMemFree(pointer), CUDA_SUCCESS);
  });
}

TEST(a_race_is_a_failed_launch) {
  const std::string log = in_child({}, [] {
    Gpu gpu("mov.u32 %r0, %tid.x;\nst.shared.u32 [0], %r0;\n", 1);
    CHECK_EQ(gpu.launch(0, 64, 128), CUDA_SUCCESS);
    CHECK_EQ(cuStreamSynchronize(gpu.stream), CUDA_ERROR_LAUNCH_FAILED);
    const char* name = nullptr;
    CHECK_EQ(cuGetErrorName(CUDA_ERROR_LAUNCH_FAILED, &name), CUDA_SUCCESS);
    CHECK_EQ(std::string(name), std::string("CUDA_ERROR_LAUNCH_FAILED"));
  });
  CHECK(log.find("write after write on shared byte 0") != std::string::npos);
}

TEST(memory_that_nobody_frees_is_reported) {
  const std::string log = in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    gpu.allocate(100);
  });
  CHECK(log.find("leak: 1 allocations of 100 bytes") != std::string::npos);
}

TEST(memory_runs_out_where_the_environment_says) {
  in_child({{"QWEN2_VL_SIM_MEMORY", "1000000"}}, [] {
    Gpu gpu(kAddOne, 1);
    const CUdeviceptr p = gpu.allocate(900000);
    CUdeviceptr more = 0;
    CHECK_EQ(cuMemAlloc(&more, 200000), CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQ(cuMemFree(p), CUDA_SUCCESS);
    CHECK_EQ(cuMemAlloc(&more, 200000), CUDA_SUCCESS);  // not an error that stays
    CHECK_EQ(cuMemFree(more), CUDA_SUCCESS);
    size_t free = 0, total = 0;
    CHECK_EQ(cuMemGetInfo(&free, &total), CUDA_SUCCESS);
    CHECK_EQ(free, total);
  });
}

TEST(devices_and_versions_are_what_the_environment_says) {
  in_child({{"QWEN2_VL_SIM_ARCH", "120"}, {"QWEN2_VL_SIM_DRIVER_VERSION", "12040"}}, [] {
    int value = 0;
    CHECK_EQ(cuDeviceGetCount(&value), CUDA_ERROR_NOT_INITIALIZED);
    CHECK_EQ(cuDriverGetVersion(&value), CUDA_SUCCESS);
    CHECK_EQ(value, 12040);
    CHECK_EQ(cuInit(0), CUDA_SUCCESS);
    CHECK_EQ(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0),
             CUDA_SUCCESS);
    CHECK_EQ(value, 12);
    CUdevice device = 0;
    CHECK_EQ(cuDeviceGet(&device, 1), CUDA_ERROR_INVALID_DEVICE);
    CUdeviceptr p = 0;
    CHECK_EQ(cuMemAlloc(&p, 4), CUDA_ERROR_INVALID_CONTEXT);
  });
  in_child({{"QWEN2_VL_SIM_DEVICES", "0"}}, [] { CHECK_EQ(cuInit(0), CUDA_ERROR_NO_DEVICE); });
  in_child({{"QWEN2_VL_SIM_INIT_ERROR", "999"}}, [] { CHECK_EQ(cuInit(0), CUDA_ERROR_UNKNOWN); });
}

TEST(every_thread_has_to_make_the_context_current) {
  in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    CUresult before = CUDA_SUCCESS, after = CUDA_ERROR_UNKNOWN;
    std::thread([&] {
      CUdeviceptr p = 0;
      before = cuMemAlloc(&p, 4);
      cuCtxSetCurrent(gpu.context);
      after = cuMemAlloc(&p, 4);
    }).join();
    CHECK_EQ(before, CUDA_ERROR_INVALID_CONTEXT);
    CHECK_EQ(after, CUDA_SUCCESS);
  });
}

TEST(launches_beyond_the_limits_are_refused) {
  in_child({}, [] {
    Gpu gpu(kAddOne, 1);
    CHECK_EQ(gpu.launch(0, 0), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQ(gpu.launch(0, 1025), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQ(gpu.launch(0, 32, 48 * 1024 + 16), CUDA_ERROR_INVALID_VALUE);
    CHECK_EQ(
        cuFuncSetAttribute(gpu.kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 * 1024),
        CUDA_SUCCESS);
    CHECK_EQ(
        cuFuncSetAttribute(gpu.kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 512 * 1024),
        CUDA_ERROR_INVALID_VALUE);
    CUfunction missing = nullptr;
    CHECK_EQ(cuModuleGetFunction(&missing, gpu.module, "other"), CUDA_ERROR_NOT_FOUND);
    CUmodule module = nullptr;
    CHECK_EQ(cuModuleLoadData(&module, "no code"), CUDA_ERROR_INVALID_IMAGE);
    CHECK_EQ(cuModuleLoadData(&module, ptx_text("wgmma.fence.sync.aligned;\n", 0).c_str()),
             CUDA_ERROR_INVALID_PTX);
  });
}

TEST(a_fatbin_stands_for_the_ptx_of_its_family) {
  // The header of a fatbin: magic, version, header's size, body's size.
  std::string image(16 + 24, 'x');
  const uint32_t magic = 0xba55ed50;
  const uint16_t version = 1, header = 16;
  const uint64_t body = 24;
  std::memcpy(image.data(), &magic, 4);
  std::memcpy(image.data() + 4, &version, 2);
  std::memcpy(image.data() + 6, &header, 2);
  std::memcpy(image.data() + 8, &body, 8);
  const std::string folder = temporary("").substr(0, temporary("").size() - 1);
  std::ofstream(temporary("modules.txt")) << "00 other\n00 family\n";
  std::ofstream(temporary("other.fatbin")) << image.substr(0, 39) << "y";
  std::ofstream(temporary("family.fatbin")) << image;
  std::ofstream(temporary("family.compute_90.ptx")) << ptx_text(kAddOne, 1);
  std::string unknown = image;
  unknown.back() = 'z';
  const auto load = [&](const std::string& bytes) {
    CHECK_EQ(cuInit(0), CUDA_SUCCESS);
    CUmodule module = nullptr;
    CUfunction kernel = nullptr;
    const CUresult r = cuModuleLoadData(&module, bytes.data());
    if (r == CUDA_SUCCESS) {
      CHECK_EQ(cuModuleGetFunction(&kernel, module, "kernel"), CUDA_SUCCESS);
      CHECK_EQ(cuModuleUnload(module), CUDA_SUCCESS);
    }
    return r;
  };
  in_child({{"QWEN2_VL_SIM_PTX", folder}, {"QWEN2_VL_SIM_ARCH", "90"}},
           [&] { CHECK_EQ(load(image), CUDA_SUCCESS); });
  const std::string no_ptx = in_child({{"QWEN2_VL_SIM_PTX", folder}, {"QWEN2_VL_SIM_ARCH", "80"}},
                                      [&] { CHECK_EQ(load(image), CUDA_ERROR_NO_BINARY_FOR_GPU); });
  CHECK(no_ptx.find("family.compute_80.ptx") != std::string::npos);
  in_child({{"QWEN2_VL_SIM_PTX", folder}},
           [&] { CHECK_EQ(load(unknown), CUDA_ERROR_NO_BINARY_FOR_GPU); });
}

TEST(a_report_counts_what_a_launch_moved) {
  const std::string report = temporary("report");
  in_child({{"QWEN2_VL_SIM_REPORT", report}}, [] {
    // 32 lanes read 4 bytes each with 8 bytes between: twice the sectors; then 2-way conflicts.
    Gpu gpu(
        "mov.u32 %r0, %tid.x;\nmul.wide.u32 %d2, %r0, 8;\nadd.s64 %d3, %d0, %d2;\nld.global.u32 "
        "%r1, [%d3];\n"
        "mul.lo.s32 %r2, %r0, 8;\nst.shared.u32 [%r2], %r1;\n",
        1);
    const CUdeviceptr p = gpu.allocate(256);
    CHECK_EQ(gpu.launch(p, 32, 256), CUDA_SUCCESS);
    uint32_t words[3];
    CHECK_EQ(cuMemcpyHtoD(p, words, 8), CUDA_SUCCESS);
    CHECK_EQ(cuMemcpyDtoHAsync(words, p, 12, gpu.stream), CUDA_SUCCESS);
    CHECK_EQ(cuMemFree(p), CUDA_SUCCESS);
  });
  const std::string line = contents(report);
  CHECK(
      line.ends_with("{\"copy\":\"to_device\",\"bytes\":8}\n"
                     "{\"copy\":\"to_host\",\"bytes\":12}\n"));
  CHECK(line.find("\"kernel\":\"kernel\"") != std::string::npos);
  CHECK(line.find("\"global\":{\"requests\":1,\"bytes\":128,\"sectors\":8,\"ideal\":4,\"touched_"
                  "bytes\":256}") != std::string::npos);
  CHECK(line.find("\"shared\":{\"requests\":1,\"bytes\":128,\"cycles\":2,\"ideal\":1}") !=
        std::string::npos);
}

}  // namespace
