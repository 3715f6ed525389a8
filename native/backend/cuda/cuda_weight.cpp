#include "backend/cuda/cuda_weight.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "backend/check.h"
#include "backend/format.h"
#include "common/error.h"
#include "kernels/cpu/convert.h"

namespace qvl::cuda {

// ---- plain ----

CudaWeight::CudaWeight(const std::shared_ptr<MemoryPool>& pool, WeightSpec spec)
    : spec_(std::move(spec)),
      memory_(pool,
              checked_bytes(spec_.out_features,
                            static_cast<int64_t>(checked_bytes(
                                spec_.in_features, static_cast<int64_t>(dtype_size(spec_.dtype))))),
              "the model's weights") {}

void CudaWeight::write_rows(int64_t first_row, int64_t num_rows, const void* rows, DType dtype,
                            UploadQueue& uploads) {
  const size_t row_bytes = static_cast<size_t>(spec_.in_features) * dtype_size(spec_.dtype);
  const auto* source = static_cast<const char*>(rows);
  const auto fill = [&](void* piece, size_t offset, size_t bytes) {
    if (dtype == spec_.dtype) {
      std::memcpy(piece, source + offset, bytes);
      return;
    }
    auto* const to = static_cast<uint16_t*>(piece);
    const auto first = static_cast<int64_t>(offset / sizeof(uint16_t));
    for (size_t i = 0; i < bytes / sizeof(uint16_t); ++i) {
      const float value = kernels::load(source, to_format(dtype), first + static_cast<int64_t>(i));
      to[i] =
          spec_.dtype == DType::kBF16 ? kernels::f32_to_bf16(value) : kernels::f32_to_f16(value);
    }
  };
  uploads.upload(static_cast<char*>(memory_.data()) + static_cast<size_t>(first_row) * row_bytes,
                 static_cast<size_t>(num_rows) * row_bytes, fill);
}

// ---- quantised ----

namespace {

QuantizedMatrixSpec layout_spec(const WeightSpec& spec) {
  if (spec.quantization.int8_activations) {
    throw Error("ERR_INVALID_ARGUMENT",
                "activations: 'int8' is not available on device 'cuda': leave it out, or use "
                "device 'cpu'",
                {{"path", std::string("activations")}});
  }
  const int64_t pairs = spec.pair_distance;
  return {spec.out_features,
          spec.in_features,
          spec.quantization.bits,
          spec.quantization.group_size,
          spec.quantization.has_zeros,
          spec.segments,
          pairs >= kPlainPairDistance ? pairs : kPlainPairDistance};
}

}  // namespace

CudaQuantizedWeight::CudaQuantizedWeight(const std::shared_ptr<MemoryPool>& pool, WeightSpec spec)
    : spec_(std::move(spec)),
      layout_(layout_spec(spec_)),
      memory_(pool, size_bytes(), "the model's weights"),
      missing_(spec_.out_features * num_groups()) {
  if (spec_.input_order.empty()) return;
  const auto inputs = static_cast<size_t>(spec_.in_features);
  require(spec_.input_order.size() == inputs, "an order of inputs must have all of them");
  for (const int32_t input : spec_.input_order) {
    require(input >= 0 && input < spec_.in_features, "an order of inputs names one too many");
  }
  order_ = std::make_unique<CudaBuffer>(pool, inputs * sizeof(int32_t), "the model's weights");
}

int64_t CudaQuantizedWeight::num_groups() const {
  const int64_t size = spec_.quantization.group_size;
  return size == 0 ? 1 : (spec_.in_features + size - 1) / size;
}

size_t CudaQuantizedWeight::size_bytes() const {
  return static_cast<size_t>(layout_.code_bytes() + layout_.scale_bytes() + layout_.zero_bytes());
}

QuantizedArrays CudaQuantizedWeight::arrays_at(void* memory) const {
  // Codes are whole units of 1 KB, scales a multiple of 32 bytes.
  auto* const scales = static_cast<char*>(memory) + layout_.code_bytes();
  return {memory, reinterpret_cast<uint16_t*>(scales),
          reinterpret_cast<uint8_t*>(scales + layout_.scale_bytes())};
}

QuantizedArrays CudaQuantizedWeight::staged() {
  const std::lock_guard lock(mutex_);
  if (stage_ == nullptr) {
    stage_.reset(std::calloc(size_bytes(), 1));
    if (stage_ == nullptr) {
      throw Error("ERR_OUT_OF_MEMORY",
                  "putting a quantised matrix together needs " + std::to_string(size_bytes()) +
                      " bytes of memory, which are not to be had: stop what else runs here",
                  {{"requiredBytes", static_cast<int64_t>(size_bytes())}});
    }
  }
  return arrays_at(stage_.get());
}

void CudaQuantizedWeight::count(int64_t groups_of_rows, UploadQueue& uploads) {
  if (missing_.fetch_sub(groups_of_rows, std::memory_order_acq_rel) != groups_of_rows) return;
  const auto* const from = static_cast<const char*>(stage_.get());
  uploads.upload(memory_.data(), size_bytes(), [&](void* piece, size_t offset, size_t bytes) {
    std::memcpy(piece, from + offset, bytes);
  });
  stage_ = nullptr;
}

void CudaQuantizedWeight::write_block(const QuantizedBlock& block, UploadQueue& uploads) {
  require(block.first_row >= 0 && block.num_rows >= 0 &&
              block.num_rows <= spec_.out_features - block.first_row,
          "write_quantized outside the weight");
  require(block.group >= 0 && block.group < num_groups(), "write_quantized: no such group");
  require((block.zeros != nullptr) == spec_.quantization.has_zeros, "write_quantized: zero points");
  if (block.num_rows == 0) return;
  layout_.write_group(staged(), block.group, block.first_row, block.num_rows, block.codes,
                      block.scales, block.zeros);
  count(block.num_rows, uploads);
}

void CudaQuantizedWeight::write_rows(int64_t first_row, int64_t num_rows, const void* rows,
                                     DType dtype, UploadQueue& uploads) {
  constexpr int64_t kWidth = kernels::kPanelWidth;
  require(!spec_.quantization.has_zeros, "write_weight to a weight with zero points");
  if (num_rows == 0) return;
  const int64_t group = spec_.quantization.group_size;
  const kernels::QuantizedLayout panel_layout{
      spec_.in_features, group == 0 ? spec_.in_features : group, spec_.quantization.bits, false};
  std::vector<char> panel(static_cast<size_t>(panel_layout.panel_bytes()));
  const size_t row_bytes = static_cast<size_t>(spec_.in_features) * dtype_size(dtype);
  const auto* source = static_cast<const char*>(rows);
  for (int64_t done = 0; done < num_rows; done += kWidth) {
    const int64_t in_panel = std::min(kWidth, num_rows - done);
    kernels::quantize_weight(panel.data(), panel_layout, 0, in_panel,
                             source + static_cast<size_t>(done) * row_bytes, to_format(dtype));
    layout_.write_panel(staged(), panel_layout, panel.data(), first_row + done, in_panel);
  }
  count(num_rows * num_groups(), uploads);
}

CudaQuantizedWeight* as_quantized(Weight& weight) {
  const bool is_quantized = weight.spec().quantization.is_quantized();
  return is_quantized ? static_cast<CudaQuantizedWeight*>(&weight) : nullptr;
}

const CudaQuantizedWeight* as_quantized(const Weight& weight) {
  return as_quantized(const_cast<Weight&>(weight));
}

}  // namespace qvl::cuda
