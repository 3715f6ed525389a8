// Memory, weights and the key/value cache of the CPU backend, and how it is created.

#include "backend/cpu/cpu_backend.h"

#include <cstring>
#include <string>
#include <utility>

#include "backend/cpu/cpu_backend_impl.h"
#include "backend/cpu/cpu_features.h"
#include "common/error.h"
#include "kernels/cpu/pack_quantized.h"
#include "kernels/cpu/processor.h"

namespace qvl {
namespace {

const kernels::KernelTable& choose_kernels(const CpuFeatures& features, const std::string& wanted) {
  const std::vector<const kernels::KernelTable*>& tables = kernels::available_kernels();
  if (wanted.empty()) return *tables.front();
  std::string choice;
  for (const kernels::KernelTable* table : tables) {
    if (wanted == table->name) return *table;
    choice += (choice.empty() ? "\"" : ", \"") + std::string(table->name) + "\"";
  }
  throw Error("ERR_BACKEND_UNAVAILABLE",
              "The instruction set \"" + wanted + "\" is not available on " + features.name +
                  ", which has " + choice +
                  ": choose one of these, or leave the choice to the library.");
}

}  // namespace

std::unique_ptr<Backend> create_cpu_backend(const CpuBackendOptions& options) {
  const CpuFeatures features = detect_cpu_features();
  const kernels::KernelTable& kernels = choose_kernels(features, options.instruction_set);
  DeviceInfo device;
  device.kind = "cpu";
  device.name = features.name;
  device.instruction_set = kernels.name;
  device.threads = options.threads > 0 ? options.threads : features.physical_cores;
  return std::make_unique<CpuBackend>(kernels, std::move(device));
}

CpuBuffer::CpuBuffer(size_t bytes)
    : bytes_(bytes), memory_(bytes == 0 ? 1 : bytes, PageUse::kHuge, "activations") {}

namespace {

kernels::QuantizedLayout make_layout(const WeightSpec& spec) {
  const Quantization& quantization = spec.quantization;
  require(quantization.bits == 4 || quantization.bits == 8, "codes have 4 or 8 bits");
  const int64_t group = quantization.group_size;
  require(group == 0 || group == 32 || group == 64 || group == 128,
          "groups have 32, 64 or 128 inputs, or are whole rows");
  kernels::QuantizedLayout layout;
  layout.in_features = spec.in_features;
  layout.group_size = group == 0 ? spec.in_features : group;
  layout.bits = quantization.bits;
  layout.has_zeros = quantization.has_zeros;
  static_assert(kActivationBlock == kernels::kMaxActivationBlock);
  require(spec.segments == 1 || spec.in_features / spec.segments % layout.activation_block() == 0,
          "a segment must be whole groups");
  return layout;
}

}  // namespace

void CpuWeight::check_spec() const {
  require(spec_.out_features > 0 && spec_.in_features > 0, "a weight must have rows and columns");
  require(spec_.segments == 1 || spec_.segments == 2 || spec_.segments == 4 || spec_.segments == 8,
          "segments must be 1, 2, 4 or 8");
  require(spec_.in_features % spec_.segments == 0, "segments must divide in_features");
  if (!spec_.input_order.empty()) check_input_order();
}

void CpuWeight::check_input_order() const {
  require(spec_.quantization.is_quantized(), "only a quantised weight may order its inputs");
  std::vector<bool> seen(static_cast<size_t>(spec_.in_features));
  for (const int32_t input : spec_.input_order) {
    require(input >= 0 && input < spec_.in_features && !seen[static_cast<size_t>(input)],
            "an order of inputs must have each of them once");
    seen[static_cast<size_t>(input)] = true;
  }
  require(spec_.input_order.size() == seen.size(), "an order of inputs must have all of them");
}

CpuWeight::CpuWeight(const WeightSpec& spec) : spec_(spec) {
  check_spec();
  if (spec.quantization.is_quantized()) {
    checked_bytes(spec.in_features, 2 * kernels::kPanelWidth);  // more than a panel has
    layout_ = make_layout(spec);
    memory_ =
        PageMemory(checked_bytes(kernels::num_panels(spec.out_features), layout_->panel_bytes()),
                   PageUse::kHuge, "model weights");
    return;
  }
  const int64_t row_bytes = static_cast<int64_t>(
      checked_bytes(spec.in_features, static_cast<int64_t>(dtype_size(spec.dtype))));
  const int64_t padded_rows = static_cast<int64_t>(
      checked_bytes(kernels::num_panels(spec.out_features), kernels::kPanelWidth));
  memory_ = PageMemory(checked_bytes(padded_rows, row_bytes), PageUse::kHuge, "model weights");
}

CpuWeight::CpuWeight(const WeightSpec& spec, std::span<const WeightRows> parts,
                     std::shared_ptr<const void> owner)
    : spec_(spec), owner_(std::move(owner)) {
  check_spec();
  const size_t row_bytes = static_cast<size_t>(spec.in_features) * dtype_size(spec.dtype);
  for (const WeightRows& part : parts) {
    for (int64_t row = 0; row < part.num_rows; ++row) {
      rows_.push_back(static_cast<const char*>(part.data) + static_cast<size_t>(row) * row_bytes);
    }
  }
  require(static_cast<int64_t>(rows_.size()) == spec.out_features,
          "the parts of a weight do not add up to its rows");
  const int64_t panels = kernels::num_panels(spec.out_features);
  rows_.resize(static_cast<size_t>(panels) * kernels::kPanelWidth, nullptr);
}

CpuKvCache::CpuKvCache(const KvCacheSpec& spec) : spec_(spec) {
  static_assert(kKvBlockTokens == kernels::kBlockTokens);
  require(spec.num_layers > 0 && spec.num_kv_heads > 0 && spec.head_dim > 0 && spec.num_blocks > 0,
          "a key/value cache must have layers, heads and blocks");
  const auto element = static_cast<int64_t>(dtype_size(spec.dtype));
  require(spec.head_dim <= (int64_t{1} << 20), "head_dim is absurd");
  key_bytes_ = kernels::key_block_elements(spec.head_dim) * element;
  head_bytes_ = key_bytes_ + kernels::value_block_elements(spec.head_dim) * element;
  block_bytes_ = static_cast<int64_t>(checked_bytes(head_bytes_, spec.num_kv_heads));
  layer_bytes_ = static_cast<int64_t>(checked_bytes(block_bytes_, spec.num_blocks));
  memory_ = PageMemory(checked_bytes(layer_bytes_, spec.num_layers), PageUse::kLazy,
                       "the key/value cache");
}

char* CpuKvCache::keys(int64_t layer, int64_t head) const {
  return static_cast<char*>(memory_.data()) + layer * layer_bytes_ + head * head_bytes_;
}

int64_t CpuBackend::available_bytes() const {
  return static_cast<int64_t>(available_memory_bytes());
}

CpuBackend::CpuBackend(const kernels::KernelTable& kernels, DeviceInfo device)
    : kernels_(kernels), pool_(device.threads), device_(std::move(device)) {
  device_.threads = pool_.num_threads();
  thread_scratch_.resize(static_cast<size_t>(device_.threads));
}

std::unique_ptr<Buffer> CpuBackend::allocate(size_t bytes) {
  return std::make_unique<CpuBuffer>(bytes);
}

void CpuBackend::upload(void* device, const void* host, size_t bytes) {
  if (bytes != 0) std::memcpy(device, host, bytes);
}

void CpuBackend::upload_f32(void* device, const void* host, DType dtype, int64_t count) {
  kernels::widen(static_cast<float*>(device), host, to_format(dtype), count);
}

void CpuBackend::download(void* host, const void* device, size_t bytes) {
  if (bytes != 0) std::memcpy(host, device, bytes);
}

std::unique_ptr<Weight> CpuBackend::create_weight(const WeightSpec& spec) {
  return std::make_unique<CpuWeight>(spec);
}

void CpuBackend::write_weight(Weight& weight, int64_t first_row, int64_t num_rows, const void* rows,
                              DType dtype) {
  static_assert(kWeightRowAlignment % kernels::kPanelWidth == 0);
  const WeightSpec& spec = weight.spec();
  require(static_cast<CpuWeight&>(weight).rows() == nullptr, "a wrapped weight is not written to");
  require(first_row >= 0 && num_rows >= 0 && num_rows <= spec.out_features - first_row,
          "write_weight outside the weight");
  auto& matrix = static_cast<CpuWeight&>(weight);
  if (matrix.layout() != nullptr) {
    kernels::quantize_weight(matrix.panels(), *matrix.layout(), first_row, num_rows, rows,
                             to_format(dtype));
    return;
  }
  kernels::pack_weight(matrix.panels(), to_format(spec.dtype), spec.in_features, first_row,
                       num_rows, rows, to_format(dtype));
}

void CpuBackend::write_quantized(Weight& weight, const QuantizedBlock& block) {
  auto& matrix = static_cast<CpuWeight&>(weight);
  require(matrix.layout() != nullptr, "write_quantized to a weight that is not quantised");
  const kernels::QuantizedLayout& layout = *matrix.layout();
  require(block.first_row >= 0 && block.num_rows >= 0 &&
              block.num_rows <= matrix.spec().out_features - block.first_row,
          "write_quantized outside the weight");
  require(block.group >= 0 && block.group < layout.num_groups(), "write_quantized: no such group");
  require((block.zeros != nullptr) == layout.has_zeros, "write_quantized: zero points");
  kernels::pack_quantized(matrix.panels(), layout, block.group, block.first_row, block.num_rows,
                          block.codes, block.scales, block.zeros);
}

std::unique_ptr<Weight> CpuBackend::wrap_weight(const WeightSpec& spec,
                                                std::span<const WeightRows> parts,
                                                std::shared_ptr<const void> owner) {
  return std::make_unique<CpuWeight>(spec, parts, std::move(owner));
}

std::unique_ptr<KvCache> CpuBackend::create_kv_cache(const KvCacheSpec& spec) {
  return std::make_unique<CpuKvCache>(spec);
}

std::unique_ptr<SequenceBatch> CpuBackend::create_sequence_batch(int64_t, int64_t) {
  return std::make_unique<CpuSequenceBatch>();
}

void CpuBackend::run_step(const SequenceBatch&, bool, const std::function<void()>& body) { body(); }

void CpuBackend::parallel(int64_t num_tasks, const std::function<void(int64_t)>& task) {
  pool_.run_dynamic(num_tasks, [&](int64_t index, int) { task(index); });
}

float* CpuBackend::Scratch::get(int64_t floats) {
  const size_t bytes = checked_bytes(floats, sizeof(float));
  if (memory_.size_bytes() < bytes) {
    memory_ = PageMemory();  // first give back, then take
    memory_ = PageMemory(bytes, PageUse::kHuge, "working memory");
  }
  return static_cast<float*>(memory_.data());
}

}  // namespace qvl
