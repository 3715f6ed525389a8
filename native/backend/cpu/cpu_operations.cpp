// The row-wise operations and the linear layers of the CPU backend: checks, and how the work is
// shared between threads. The arithmetic is in kernels/cpu.

#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend_impl.h"

namespace qvl {
namespace {

// Work on fewer numbers than this is done before a second thread has noticed it.
constexpr int64_t kMinParallelElements = 16 * 1024;
// Packed rows of x should stay in the last-level cache while all panels go over them.
constexpr int64_t kMaxPackedBytes = int64_t{16} << 20;
constexpr int64_t kMinPackedRows = 96;
// Tasks a thread should get of a matrix product, so that a delayed thread holds up little.
constexpr int64_t kTasksPerThread = 4;

const float* f32_data(const Buffer& buffer, int64_t count) {
  require(buffer.size_bytes() / sizeof(float) >= static_cast<size_t>(count),
          "a norm's weight or a bias is too short");
  return static_cast<const float*>(buffer.data());
}

void require_f32(const Tensor& tensor) {
  require(tensor.dtype == DType::kF32, "activations are F32");
}

kernels::Activation to_activation(Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu:
      return kernels::Activation::kQuickGelu;
    case Activation::kGelu:
      return kernels::Activation::kGelu;
    case Activation::kSwiGlu:
      return kernels::Activation::kSwiGlu;
    case Activation::kNone:
      break;
  }
  return kernels::Activation::kNone;
}

kernels::RowsArgs rows_args(const Tensor& out, const Tensor& x) {
  require_f32(out);
  require_f32(x);
  require(out.rows == x.rows, "an operation's rows differ");
  return {out.f32(), x.f32(), out.cols, out.row_stride, x.row_stride};
}

/// Row `row` with its columns as the caller counts them.
void unpack_quantized(float* to, const CpuWeight& matrix, int64_t row) {
  const std::vector<int32_t>& order = matrix.spec().input_order;
  if (order.empty()) {
    return kernels::unpack_quantized_row(to, matrix.panels(), *matrix.layout(), row);
  }
  std::vector<float> values(order.size());
  kernels::unpack_quantized_row(values.data(), matrix.panels(), *matrix.layout(), row);
  for (size_t k = 0; k < order.size(); ++k) to[order[k]] = values[k];
}

}  // namespace

template <class Body>
void CpuBackend::for_rows(int64_t rows, int64_t elements_per_row, const Body& body) {
  if (rows <= 0) return;
  if (rows == 1 || rows * elements_per_row < kMinParallelElements) return body(0, rows);
  pool_.run_static(rows, 1, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

void CpuBackend::embed(Tensor out, const Weight& weight, std::span<const int32_t> ids) {
  const WeightSpec& spec = weight.spec();
  require_f32(out);
  require(out.cols == spec.in_features, "embed: columns differ from in_features");
  require(out.rows == static_cast<int64_t>(ids.size()), "embed: rows differ from ids");
  for (const int32_t id : ids) require(id >= 0 && id < spec.out_features, "embed: id out of range");
  const auto& matrix = static_cast<const CpuWeight&>(weight);
  for_rows(out.rows, out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const to = out.f32() + row * out.row_stride;
      const int32_t id = ids[static_cast<size_t>(row)];
      if (matrix.rows() != nullptr) {
        kernels::widen(to, matrix.rows()[id], to_format(spec.dtype), spec.in_features);
      } else if (matrix.layout() != nullptr) {
        unpack_quantized(to, matrix, id);
      } else {
        kernels::unpack_weight_row(to, matrix.panels(), to_format(spec.dtype), spec.in_features,
                                   id);
      }
    }
  });
}

void CpuBackend::copy_rows(Tensor dst, std::span<const int32_t> dst_rows, Tensor src,
                           std::span<const int32_t> src_rows) {
  require(dst.dtype == src.dtype && dst.cols == src.cols, "copy_rows: rows differ");
  require(dst_rows.size() == src_rows.size(), "copy_rows: index lists differ");
  const size_t element = dtype_size(dst.dtype);
  const auto row_of = [&](const Tensor& tensor, int32_t row) {
    require(row >= 0 && row < tensor.rows, "copy_rows: row out of range");
    return static_cast<char*>(tensor.data) + static_cast<size_t>(row * tensor.row_stride) * element;
  };
  for (size_t i = 0; i < dst_rows.size(); ++i) {
    std::memcpy(row_of(dst, dst_rows[i]), row_of(src, src_rows[i]),
                static_cast<size_t>(dst.cols) * element);
  }
}

void CpuBackend::rms_norm(Tensor out, Tensor x, const Buffer& weight, float eps) {
  const kernels::RowsArgs args = rows_args(out, x);
  require(x.cols == out.cols, "rms_norm: columns differ");
  const float* w = f32_data(weight, x.cols);
  for_rows(x.rows, x.cols,
           [&](int64_t begin, int64_t end) { kernels_.rms_norm(args, w, eps, begin, end); });
}

Tensor CpuBackend::normalized(Tensor x, const RmsNorm& norm) {
  if (norm.weight == nullptr) return x;
  const int64_t bytes = static_cast<int64_t>(checked_bytes(x.rows, x.cols));
  const Tensor out{norm_scratch_.get(bytes), x.rows, x.cols, x.cols};
  rms_norm(out, x, *norm.weight, norm.eps);
  return out;
}

void CpuBackend::layer_norm(Tensor out, Tensor x, const Buffer& weight, const Buffer& bias,
                            float eps) {
  const kernels::RowsArgs args = rows_args(out, x);
  require(x.cols == out.cols, "layer_norm: columns differ");
  const float* w = f32_data(weight, x.cols);
  const float* b = f32_data(bias, x.cols);
  for_rows(x.rows, x.cols,
           [&](int64_t begin, int64_t end) { kernels_.layer_norm(args, w, b, eps, begin, end); });
}

void CpuBackend::rope(Tensor x, int64_t head_dim, Tensor cos, Tensor sin) {
  require_f32(x);
  require_f32(cos);
  require_f32(sin);
  require(head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0, "rope: head_dim");
  require(cos.cols == head_dim / 2 && sin.cols == head_dim / 2, "rope: columns of cos and sin");
  require(cos.rows >= x.rows && sin.rows >= x.rows, "rope: rows of cos and sin");
  const kernels::RopeArgs args{x.f32(),  cos.f32(),    sin.f32(),      x.cols / head_dim,
                               head_dim, x.row_stride, cos.row_stride, sin.row_stride};
  for_rows(x.rows, x.cols, [&](int64_t begin, int64_t end) { kernels_.rope(args, begin, end); });
}

void CpuBackend::linear(Tensor out, Tensor input, const Weight& weight,
                        const LinearOptions& options) {
  const WeightSpec& spec = weight.spec();
  Tensor x = normalized(input, options.norm);
  const bool is_quantized = spec.quantization.is_quantized();
  // Integers of x have a layout of their own.
  const bool is_packed =
      !spec.quantization.int8_activations &&
      x.rows > (is_quantized ? kernels_.max_unpacked_quantized_rows : kernels_.max_unpacked_rows);
  require_f32(out);
  require_f32(x);
  require(out.rows == x.rows, "linear: rows differ");
  require(x.cols == spec.in_features, "linear: columns of x differ from in_features");
  if (options.activation == Activation::kSwiGlu) {
    require(2 * out.cols == spec.out_features, "linear: out must have half of out_features");
    require(options.residual == nullptr, "linear: SwiGLU has no residual");
    if (out.cols % kernels::kPanelWidth != 0 || (is_quantized && !is_packed) ||
        options.bias != nullptr) {
      return linear_then_swiglu(out, x, weight, options.bias);
    }
  } else {
    require(out.cols == spec.out_features, "linear: columns of out differ from out_features");
  }
  if (!spec.input_order.empty()) x = in_input_order(x, spec.input_order);
  kernels::LinearArgs args{};
  args.out = out.f32();
  args.x = x.f32();
  const auto& matrix = static_cast<const CpuWeight&>(weight);
  args.weight = matrix.panels();
  args.quantized = matrix.layout();
  args.weight_rows = matrix.rows();
  if (options.bias != nullptr) args.bias = f32_data(*options.bias, spec.out_features);
  if (options.residual != nullptr) {
    const Tensor& residual = *options.residual;
    require_f32(residual);
    require(residual.rows == out.rows && residual.cols == out.cols, "linear: residual's shape");
    args.residual = residual.f32();
    args.residual_stride = residual.row_stride;
  }
  args.rows = x.rows;
  args.out_features = out.cols;
  args.in_features = spec.in_features;
  args.out_stride = out.row_stride;
  args.x_stride = x.row_stride;
  args.segments = spec.segments;
  args.format = to_format(spec.dtype);
  args.activation = to_activation(options.activation);
  if (args.rows == 0) return;
  if (spec.quantization.int8_activations) return linear_int8(args);
  if (is_packed) return linear_packed(args);

  const int64_t panels = kernels::num_panels(args.out_features);
  const auto linear = is_quantized ? kernels_.linear_quantized : kernels_.linear;
  if (args.rows * args.in_features * spec.out_features < kMinParallelElements) {
    return linear(args, 0, panels);
  }
  // Every thread streams one contiguous part of the weight.
  pool_.run_static(panels, 4, [&](int64_t begin, int64_t end, int) { linear(args, begin, end); });
}

// Tasks are panels x tiles; tiles are divided only when there are too few panels.
void CpuBackend::run_panels_by_tiles(int64_t panels, int64_t tiles,
                                     const std::function<void(const Part&, int thread)>& body) {
  const int64_t panels_per_task = std::min(panels, kernels_.panels_at_once);
  const int64_t wanted = kTasksPerThread * pool_.num_threads();
  const int64_t panel_parts = kernels::ceil_div(panels, panels_per_task);
  const int64_t tile_parts = std::min(tiles, kernels::ceil_div(wanted, panel_parts));
  pool_.run_dynamic(panel_parts * tile_parts, [&](int64_t task, int thread) {
    const int64_t tile_part = task % tile_parts;
    const int64_t first_panel = task / tile_parts * panels_per_task;
    body({first_panel, std::min(first_panel + panels_per_task, panels),
          tiles * tile_part / tile_parts, tiles * (tile_part + 1) / tile_parts},
         thread);
  });
}

Tensor CpuBackend::in_input_order(Tensor x, const std::vector<int32_t>& order) {
  Tensor ordered{nullptr, x.rows, x.cols, x.cols};
  ordered.data = ordered_scratch_.get(static_cast<int64_t>(checked_bytes(x.rows, x.cols)));
  for_rows(x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const from = x.f32() + row * x.row_stride;
      float* const to = ordered.f32() + row * ordered.row_stride;
      for (size_t k = 0; k < order.size(); ++k) to[k] = from[order[k]];
    }
  });
  return ordered;
}

void CpuBackend::linear_then_swiglu(Tensor out, Tensor x, const Weight& weight,
                                    const Buffer* bias) {
  const int64_t cols = weight.spec().out_features;
  Tensor gate_up = {nullptr, x.rows, cols, cols};
  gate_up.data = gate_up_scratch_.get(static_cast<int64_t>(checked_bytes(x.rows, cols)));
  linear(gate_up, x, weight, {bias});
  const kernels::RowsArgs args = rows_args(out, gate_up);
  for_rows(out.rows, out.cols,
           [&](int64_t begin, int64_t end) { kernels_.swiglu(args, begin, end); });
}

// Many rows: blocks of rows are packed, then every panel goes over the block.
void CpuBackend::linear_packed(const kernels::LinearArgs& all) {
  const int64_t panels = kernels::num_panels(all.out_features);
  const auto multiply =
      all.quantized == nullptr ? kernels_.linear_packed : kernels_.linear_quantized_packed;
  const int64_t fitting =
      std::max(kMaxPackedBytes / (all.in_features * int64_t{sizeof(float)}), kMinPackedRows);
  const int64_t num_blocks = kernels::ceil_div(all.rows, fitting);
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t first = all.rows * block / num_blocks;
    kernels::LinearArgs args = all;
    args.rows = all.rows * (block + 1) / num_blocks - first;
    args.x += first * args.x_stride;
    args.out += first * args.out_stride;
    if (args.residual != nullptr) args.residual += first * args.residual_stride;

    const int64_t tiles = kernels_.num_row_tiles(args.rows);
    float* packed =
        shared_scratch_.get(static_cast<int64_t>(checked_bytes(args.rows, args.in_features)));
    pool_.run_static(tiles, 1, [&](int64_t begin, int64_t end, int) {
      kernels_.pack_rows(packed, args, begin, end);
    });

    run_panels_by_tiles(panels, tiles, [&](const Part& part, int thread) {
      multiply(args, packed, part.first_tile, part.last_tile, part.first_panel, part.last_panel,
               thread_scratch_[static_cast<size_t>(thread)].get(kernels_.linear_scratch_floats));
    });
  }
}

// Rows become 8-bit integers first; then every panel goes over them.
void CpuBackend::linear_int8(const kernels::LinearArgs& args) {
  const int64_t panels = kernels::num_panels(args.out_features);
  const int64_t tiles = kernels::num_int8_tiles(args.rows, kernels_.max_int8_rows);
  const int64_t bytes =
      static_cast<int64_t>(checked_bytes(args.rows, kernels::int8_row_bytes(*args.quantized)));
  void* packed = shared_scratch_.get(kernels::ceil_div(bytes, int64_t{sizeof(float)}));
  if (tiles == 1) {
    kernels_.quantize_rows(packed, args, 0, 1);
    if (args.rows * args.in_features * args.out_features < kMinParallelElements) {
      return kernels_.linear_int8(args, packed, 0, 1, 0, panels);
    }
    // Every thread streams one contiguous part of the weight.
    return pool_.run_static(panels, 4, [&](int64_t begin, int64_t end, int) {
      kernels_.linear_int8(args, packed, 0, 1, begin, end);
    });
  }
  pool_.run_static(tiles, 1, [&](int64_t begin, int64_t end, int) {
    kernels_.quantize_rows(packed, args, begin, end);
  });
  run_panels_by_tiles(panels, tiles, [&](const Part& part, int) {
    kernels_.linear_int8(args, packed, part.first_tile, part.last_tile, part.first_panel,
                         part.last_panel);
  });
}

}  // namespace qvl
