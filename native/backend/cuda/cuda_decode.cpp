// Steps of few rows: the kernels of decoding, which a recorded step consists of.

#include <algorithm>

#include "backend/cuda/cuda_backend_impl.h"
#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/gemv.h"

namespace qvl::cuda {
template <class Epilogue>
void CudaBackend::launch_gemv(std::string_view epilogue_name, const Tensor& x, const Weight& weight,
                              const RmsNorm& norm, const Epilogue& epilogue) {
  if (const CudaQuantizedWeight* const quantized = as_quantized(weight)) {
    return launch_quantized_gemv(epilogue_name, x, *quantized, norm, epilogue);
  }
  const WeightSpec& spec = weight.spec();
  const GemvKernelParams<Epilogue> params{
      {static_cast<const CudaWeight&>(weight).data(), x.data,
       norm.weight != nullptr ? f32_data(*norm.weight, spec.in_features) : nullptr, x.row_stride,
       narrow_count(x.rows), narrow_count(spec.in_features), narrow_count(spec.out_features),
       norm.eps},
      epilogue};
  const std::string name = name_of("gemv_" + std::string(epilogue_name));
  const size_t shared_bytes = gemv_shared_bytes<Epilogue>(x.rows, spec.in_features);
  const int64_t resident = device_->resident_blocks(name, kGemvThreads, shared_bytes);
  device_->launch(name, stream_.get(),
                  {{gemv_grid<Epilogue>(spec.out_features, resident)},
                   {kGemvThreads},
                   shared_bytes,
                   /*overlaps_predecessor=*/true},
                  params);
}

template <class Epilogue>
void CudaBackend::launch_quantized_gemv(std::string_view epilogue_name, const Tensor& x,
                                        const CudaQuantizedWeight& weight, const RmsNorm& norm,
                                        const Epilogue& epilogue) {
  const WeightSpec& spec = weight.spec();
  const bool is_normalized = norm.weight != nullptr;
  const DeviceProperties& device = device_->properties();
  const auto launch = weight.layout().gemv_launch(
      narrow_count(x.rows), is_normalized, device.max_shared_bytes, device.num_multiprocessors);
  const QuantizedGemvKernelParams<Epilogue> params{
      {weight.matrix(), x.data, is_normalized ? f32_data(*norm.weight, spec.in_features) : nullptr,
       weight.input_order(), x.row_stride, narrow_count(x.rows), launch.staged_units, norm.eps},
      epilogue};
  const std::string name =
      name_of("gemv_int" + std::to_string(spec.quantization.bits) + "_" +
              std::string(epilogue_name) + "_g" + std::to_string(weight.layout().group()));
  device_->launch(name, stream_.get(),
                  {{launch.blocks},
                   {kQuantizedGemvThreads},
                   launch.shared_bytes,
                   /*overlaps_predecessor=*/true},
                  params);
}

bool CudaBackend::linear_few_rows(const Tensor& out, const Tensor& x, const Weight& weight,
                                  const LinearOptions& options) {
  if (x.rows > kGemvMaxRows || options.bias != nullptr) return false;
  const bool has_norm = options.norm.weight != nullptr;
  const DType x_type = has_norm ? DType::kF32 : dtype_;
  if (x.dtype != x_type) return false;
  if (options.activation == Activation::kSwiGlu) {
    const int64_t inner = weight.spec().out_features / 2;
    const CudaQuantizedWeight* const quantized = as_quantized(weight);
    if (!has_norm || options.residual != nullptr || inner % 8 != 0 ||
        (quantized != nullptr && !quantized->has_pairs(inner))) {
      return false;
    }
    require(out.dtype == dtype_ && out.cols == inner, "linear: out must have half of out_features");
    launch_gemv("swiglu", x, weight, options.norm, SwiGluEpilogue{out.data, out.row_stride});
    return true;
  }
  if (options.activation != Activation::kNone || out.dtype != DType::kF32 ||
      out.cols != weight.spec().out_features) {
    return false;
  }
  if (options.residual != nullptr) {
    if (has_norm || options.residual->data != out.data ||
        options.residual->row_stride != out.row_stride) {
      return false;
    }
    launch_gemv("residual", x, weight, {}, ResidualEpilogue{out.f32(), out.row_stride});
    return true;
  }
  if (!has_norm) return false;
  launch_gemv("logits", x, weight, options.norm, LogitsEpilogue{out.f32(), out.row_stride});
  return true;
}

bool CudaBackend::qkv_few_rows(const Tensor& qkv, const AttentionInput& input,
                               const CudaKvCache& cache, int64_t layer,
                               const CudaSequenceBatch& batch) {
  const Weight& weight = *input.weight;
  const WeightSpec& spec = weight.spec();
  const CudaQuantizedWeight* const quantized = as_quantized(weight);
  if (qkv.rows > kGemvMaxRows || input.bias == nullptr || input.norm.weight == nullptr ||
      spec.out_features % 16 != 0 || !batch.covers_all_rows() ||
      (quantized != nullptr && !quantized->has_pairs(cache.spec().head_dim / 2))) {
    return false;
  }
  require(qkv.dtype == dtype_ && qkv.cols == spec.out_features && input.x.rows == qkv.rows &&
              input.x.cols == spec.in_features && input.x.dtype == DType::kF32,
          "attention_input: shapes of qkv and x");
  uploads_.finish();
  const int64_t dim = cache.spec().head_dim;
  const int64_t kv_heads = cache.spec().num_kv_heads;
  launch_gemv(
      "qkv", input.x, weight, input.norm,
      QkvEpilogue{f32_data(*input.bias, spec.out_features), input.cos.f32(), input.sin.f32(),
                  qkv.data, cache.layer(layer), batch.table(), qkv.row_stride, input.cos.row_stride,
                  narrow_count(qkv.cols / dim - 2 * kv_heads), narrow_count(kv_heads),
                  narrow_count(dim)});
  return true;
}

bool CudaBackend::attention_few_rows(const Tensor& out, const Tensor& q, const CudaKvCache& cache,
                                     int64_t layer, const CudaSequenceBatch& batch, float scale) {
  const int64_t dim = cache.spec().head_dim;
  const int64_t kv_heads = cache.spec().num_kv_heads;
  const int64_t heads = q.cols / dim;
  const int64_t rows = batch.num_rows();
  if (rows > kGemvMaxRows || heads / kv_heads > kAttentionDecodeMaxGroup ||
      !batch.covers_all_rows()) {
    return false;
  }
  // Always for as many rows as there can be: recorded steps know these places.
  const auto partials = static_cast<size_t>(attention_decode_partials(kGemvMaxRows, heads, dim));
  const auto statistics = static_cast<size_t>(attention_decode_statistics(kGemvMaxRows, heads));
  auto* const sums =
      static_cast<float*>(scratch(partials_scratch_, (partials + statistics) * sizeof(float)));
  auto* const arrivals = static_cast<uint32_t*>(zeroed_scratch(
      arrivals_scratch_, static_cast<size_t>(kGemvMaxRows * kv_heads) * sizeof(uint32_t)));
  const AttentionDecodeParams params{q.data,
                                     cache.layer(layer),
                                     out.data,
                                     sums,
                                     sums + partials,
                                     arrivals,
                                     batch.table(),
                                     q.row_stride,
                                     out.row_stride,
                                     scale_log2e(scale),
                                     narrow_count(heads),
                                     narrow_count(kv_heads)};
  // For all lengths that steps of this shape may have: longer rows have no smaller splits.
  const int64_t splits = std::min<int64_t>(
      (batch.max_keys() + kAttentionDecodeLeastSplit - 1) / kAttentionDecodeLeastSplit,
      kAttentionDecodeMaxSplits);
  device_->launch(name_for_head("attention_decode_" + std::to_string(dim), dim), stream_.get(),
                  {{static_cast<unsigned>(splits), static_cast<unsigned>(kv_heads),
                    static_cast<unsigned>(rows)},
                   {kAttentionDecodeThreads},
                   attention_decode_shared_bytes(dim),
                   /*overlaps_predecessor=*/true},
                  params);
  return true;
}

void* CudaBackend::zeroed_scratch(Scratch& memory, size_t bytes) {
  const bool is_new = !memory.holds(bytes);
  void* const pointer = scratch(memory, bytes);
  if (is_new) {
    const Driver& call = device_->driver();
    call.check(call->memset_d8_async(reinterpret_cast<api::DevicePointer>(pointer), 0,
                                     memory.size_bytes(), stream_.get()),
               "clearing counters");
  }
  return pointer;
}

}  // namespace qvl::cuda
