#include "backend/cuda/graph.h"

namespace qvl::cuda {
namespace {

/// Each holds the parameters of some hundred kernels, on the host and on the device.
constexpr size_t kMaxEntries = 64;

}  // namespace

void StepGraphs::clear() {
  for (const auto& [shape, entry] : entries_) {
    if (entry.executable != nullptr) device_.driver()->graph_exec_destroy(entry.executable);
  }
  entries_.clear();
}

void StepGraphs::run(const StepShape& shape, api::Stream stream,
                     const std::function<void()>& body) {
  const Driver& call = device_.driver();
  const auto known = entries_.find(shape);
  if (known == entries_.end()) {
    body();
    if (entries_.size() >= kMaxEntries) clear();
    entries_[shape] = {};
    return;
  }
  if (known->second.executable == nullptr) {
    known->second.executable = record(stream, body);
  }
  call.check(call->graph_launch(known->second.executable, stream), "starting a recorded step");
}

api::GraphExec StepGraphs::record(api::Stream stream, const std::function<void()>& body) {
  const Driver& call = device_.driver();
  call.check(call->stream_begin_capture(stream, api::kCaptureModeThreadLocal), "recording a step");
  api::Graph graph = nullptr;
  try {
    body();
  } catch (...) {
    call->stream_end_capture(stream, &graph);
    if (graph != nullptr) call->graph_destroy(graph);
    throw;
  }
  call.check(call->stream_end_capture(stream, &graph), "recording a step");
  api::GraphExec executable = nullptr;
  const api::Result result = call->graph_instantiate(&executable, graph, 0);
  call->graph_destroy(graph);
  call.check(result, "preparing a recorded step");
  return executable;
}

}  // namespace qvl::cuda
