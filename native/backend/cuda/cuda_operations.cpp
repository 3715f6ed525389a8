// The row-wise operations and the linear layers of the CUDA backend: checks, and which kernels.

#include <algorithm>

#include "backend/cuda/cuda_backend_impl.h"
#include "common/error.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/dequantize.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/rows.h"

namespace qvl::cuda {
namespace {

unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

void require_type(const Tensor& tensor, DType dtype) {
  require(tensor.dtype == dtype, "a tensor has another type than the operation takes");
}

}  // namespace

const float* f32_data(const Buffer& buffer, int64_t count) {
  require(buffer.size_bytes() / sizeof(float) >= static_cast<size_t>(count),
          "a norm's weight or a bias is too short");
  return static_cast<const float*>(buffer.data());
}

std::string CudaBackend::name_of(std::string_view base) const {
  return std::string(base) + (dtype_ == DType::kBF16 ? "_bf16" : "_fp16");
}

std::string CudaBackend::name_for_head(std::string_view base, int64_t head_dim) {
  std::string name = name_of(base);
  if (!device_->has_kernel(name)) {
    throw Error("ERR_CHECKPOINT_UNSUPPORTED", "heads of " + std::to_string(head_dim) +
                                                  " numbers: there is no CUDA kernel " + name +
                                                  " for them; use device 'cpu'");
  }
  return name;
}

Tensor CudaBackend::scratch_tensor(Scratch& memory, int64_t rows, int64_t cols, DType dtype) {
  const size_t bytes = static_cast<size_t>(rows) * static_cast<size_t>(cols) * dtype_size(dtype);
  return {scratch(memory, bytes), rows, cols, cols, dtype};
}

const int32_t* CudaBackend::upload_indices(Scratch& memory, const std::vector<int32_t>& values) {
  const size_t bytes = values.size() * sizeof(int32_t);
  void* const pointer = scratch(memory, bytes);
  upload(pointer, values.data(), bytes);
  return static_cast<const int32_t*>(pointer);
}

void CudaBackend::embed(Tensor out, const Weight& weight, std::span<const int32_t> ids) {
  const WeightSpec& spec = weight.spec();
  require_type(out, DType::kF32);
  require(out.cols == spec.in_features, "embed: columns differ from in_features");
  require(out.rows == static_cast<int64_t>(ids.size()), "embed: rows differ from ids");
  for (const int32_t id : ids) require(id >= 0 && id < spec.out_features, "embed: id out of range");
  if (ids.empty()) return;
  uploads_.finish();
  const int32_t* const device_ids =
      upload_indices(indices_scratch_, std::vector<int32_t>(ids.begin(), ids.end()));
  const Dim3 grid{static_cast<unsigned>(out.rows)};
  if (const CudaQuantizedWeight* const table = as_quantized(weight)) {
    require(spec.quantization.bits == 8 && spec.segments == 1 && table->layout().group() == 128 &&
                spec.pair_distance == 0 && table->input_order() == nullptr,
            "embed: a quantised table has 8 bits, groups of 128 and its rows in order");
    const EmbedQuantizedParams params{table->matrix(), device_ids, out.f32(), out.row_stride};
    return launch("embed_int8", grid, kEmbedQuantizedThreads, 0, params);
  }
  const EmbedParams params{static_cast<const CudaWeight&>(weight).data(), device_ids, out.f32(),
                           out.row_stride, narrow_count(out.cols)};
  launch(name_of("embed"), grid, kRowsThreads, 0, params);
}

void CudaBackend::copy_rows(Tensor dst, std::span<const int32_t> dst_rows, Tensor src,
                            std::span<const int32_t> src_rows) {
  require(dst.dtype == src.dtype && dst.cols == src.cols, "copy_rows: rows differ");
  require(dst_rows.size() == src_rows.size(), "copy_rows: index lists differ");
  if (dst_rows.empty()) return;
  std::vector<int32_t> rows(dst_rows.begin(), dst_rows.end());
  for (const int32_t row : dst_rows) require(row >= 0 && row < dst.rows, "copy_rows: row");
  for (const int32_t row : src_rows) require(row >= 0 && row < src.rows, "copy_rows: row");
  rows.insert(rows.end(), src_rows.begin(), src_rows.end());
  const auto element = static_cast<int64_t>(dtype_size(dst.dtype));
  require(dst.cols * element % 16 == 0 && dst.row_stride * element % 16 == 0 &&
              src.row_stride * element % 16 == 0,
          "copy_rows: rows of whole 16 bytes");
  const int32_t* const device_rows = upload_indices(indices_scratch_, rows);
  const CopyRowsParams params{dst.data,
                              src.data,
                              device_rows,
                              device_rows + dst_rows.size(),
                              dst.row_stride * element,
                              src.row_stride * element,
                              dst.cols * element};
  launch("copy_rows", {static_cast<unsigned>(dst_rows.size())}, kRowsThreads, 0, params);
}

void CudaBackend::rms_norm(Tensor out, Tensor x, const Buffer& weight, float eps) {
  require_type(out, dtype_);
  require_type(x, DType::kF32);
  require(x.rows == out.rows && x.cols == out.cols, "rms_norm: shapes differ");
  if (x.rows == 0) return;
  const NormParams params{x.f32(),        f32_data(weight, x.cols), nullptr, out.data, x.row_stride,
                          out.row_stride, narrow_count(x.cols),     eps};
  launch(name_of("rms_norm"), {static_cast<unsigned>(x.rows)},
         static_cast<unsigned>(norm_threads(params.cols)), kNormSharedBytes, params);
}

void CudaBackend::layer_norm(Tensor out, Tensor x, const Buffer& weight, const Buffer& bias,
                             float eps) {
  require_type(out, dtype_);
  require_type(x, DType::kF32);
  require(x.rows == out.rows && x.cols == out.cols, "layer_norm: shapes differ");
  if (x.rows == 0) return;
  const NormParams params{x.f32(),      f32_data(weight, x.cols), f32_data(bias, x.cols), out.data,
                          x.row_stride, out.row_stride,           narrow_count(x.cols),   eps};
  launch(name_of("layer_norm"), {static_cast<unsigned>(x.rows)},
         static_cast<unsigned>(norm_threads(params.cols)), kNormSharedBytes, params);
}

void CudaBackend::rope(Tensor x, int64_t head_dim, Tensor cos, Tensor sin) {
  require_type(x, dtype_);
  require(head_dim > 0 && head_dim % 16 == 0 && x.cols % head_dim == 0, "rope: head_dim");
  require(cos.cols == head_dim / 2 && sin.cols == head_dim / 2, "rope: columns of cos and sin");
  require(cos.rows >= x.rows && sin.rows >= x.rows && cos.row_stride == sin.row_stride,
          "rope: rows of cos and sin");
  if (x.rows == 0) return;
  const RopeParams params{x.data,
                          cos.f32(),
                          sin.f32(),
                          x.row_stride,
                          cos.row_stride,
                          narrow_count(x.cols / head_dim),
                          narrow_count(head_dim)};
  launch(name_of("rope"), {static_cast<unsigned>(x.rows)}, kRopeThreads, 0, params);
}

// ---- linear layers ----

const void* CudaBackend::dense(const Weight& weight) {
  const CudaQuantizedWeight* const quantized = as_quantized(weight);
  if (quantized == nullptr) return static_cast<const CudaWeight&>(weight).data();
  const WeightSpec& spec = quantized->spec();
  const Tensor out = scratch_tensor(dense_scratch_, spec.out_features, spec.in_features, dtype_);
  const DequantizeParams params{quantized->matrix(), quantized->input_order(), out.data};
  const int64_t units =
      int64_t{params.matrix.num_tiles} * params.matrix.segments * params.matrix.segment_units;
  const std::string name = name_of("dequantize_int" + std::to_string(spec.quantization.bits) +
                                   "_g" + std::to_string(quantized->layout().group()));
  launch(name, {blocks_for(units, kDequantizeUnits)}, kDequantizeThreads, 0, params);
  return out.data;
}

Tensor CudaBackend::narrow(Tensor x, const RmsNorm& norm) {
  if (norm.weight == nullptr && x.dtype == dtype_) return x;
  const Tensor out = scratch_tensor(narrow_scratch_, x.rows, x.cols, dtype_);
  if (norm.weight != nullptr) {
    rms_norm(out, x, *norm.weight, norm.eps);
    return out;
  }
  require_type(x, DType::kF32);
  require(x.row_stride == x.cols, "linear: F32 rows must follow each other");
  const ConvertParams params{x.f32(), out.data, x.rows * x.cols};
  launch(name_of("convert"), {blocks_for(params.count, kConvertChunk)}, kConvertThreads, 0, params);
  return out;
}

void CudaBackend::add_bias(Tensor x, const Buffer& bias, Activation activation) {
  const bool is_f32 = x.dtype == DType::kF32;
  require(!is_f32 || activation == Activation::kNone, "linear: an activation of F32");
  const std::string name = is_f32                                 ? "bias_f32"
                           : activation == Activation::kQuickGelu ? name_of("bias_quick_gelu")
                           : activation == Activation::kGelu      ? name_of("bias_gelu")
                                                                  : name_of("bias");
  const ActivationParams params{x.data,
                                f32_data(bias, x.cols),
                                x.data,
                                x.row_stride,
                                x.row_stride,
                                narrow_count(x.rows),
                                narrow_count(x.cols)};
  launch(name, {static_cast<unsigned>(bias_blocks(x.rows, x.cols))}, kActivationThreads, 0, params);
}

void CudaBackend::linear_swiglu(Tensor out, Tensor x, const Weight& weight, const Buffer* bias) {
  require_type(out, dtype_);
  const Tensor gate_up = scratch_tensor(gate_up_scratch_, x.rows, 2 * out.cols, dtype_);
  products_.multiply(gate_up, x, dense(weight), false, stream_.get());
  if (bias != nullptr) add_bias(gate_up, *bias, Activation::kNone);
  const ActivationParams params{gate_up.data,          nullptr,        out.data,
                                gate_up.row_stride,    out.row_stride, narrow_count(out.rows),
                                narrow_count(out.cols)};
  launch(name_of("swiglu"), {static_cast<unsigned>(swiglu_blocks(out.rows, out.cols))},
         kActivationThreads, 0, params);
}

void CudaBackend::linear(Tensor out, Tensor input, const Weight& weight,
                         const LinearOptions& options) {
  const WeightSpec& spec = weight.spec();
  require(out.rows == input.rows, "linear: rows differ");
  require(input.cols == spec.in_features, "linear: columns of x differ from in_features");
  if (out.rows == 0) return;
  uploads_.finish();
  if (linear_few_rows(out, input, weight, options)) return;
  const Tensor x = narrow(input, options.norm);
  if (options.activation == Activation::kSwiGlu) {
    require(2 * out.cols == spec.out_features, "linear: out must have half of out_features");
    require(options.residual == nullptr, "linear: SwiGLU has no residual");
    return linear_swiglu(out, x, weight, options.bias);
  }
  require(out.cols == spec.out_features, "linear: columns of out differ from out_features");
  if (options.residual != nullptr) {
    require_type(out, DType::kF32);
    require(options.residual->data == out.data && options.residual->row_stride == out.row_stride &&
                options.activation == Activation::kNone,
            "linear: a residual is where out is");
    if (options.bias != nullptr) add_bias(out, *options.bias, Activation::kNone);
    return products_.multiply(out, x, dense(weight), true, stream_.get());
  }
  products_.multiply(out, x, dense(weight), false, stream_.get());
  require(options.bias != nullptr || options.activation == Activation::kNone,
          "linear: an activation without a bias");
  if (options.bias != nullptr) add_bias(out, *options.bias, options.activation);
}

}  // namespace qvl::cuda
