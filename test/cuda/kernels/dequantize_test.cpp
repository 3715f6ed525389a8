#include "kernels/cuda/dequantize.h"

#include "check.h"
#include "kernels/gpu.h"
#include "kernels/quantized_weights.h"

using namespace qvl;
using namespace qvl::test;
using cuda::QuantizedMatrixSpec;

namespace {

std::vector<uint16_t> dequantized(Gpu& gpu, const QuantizedWeights& weights, Half type,
                                  const int32_t* input_order) {
  const QuantizedMatrixSpec& spec = weights.layout().spec();
  auto out = gpu.filled<uint16_t>(static_cast<size_t>(spec.out_features * spec.in_features), 0xff);
  const DequantizeParams params{weights.matrix(), input_order, out.get()};
  const int64_t units = weights.layout().code_bytes() / kQuantizedUnitBytes;
  const auto blocks = static_cast<unsigned>((units + kDequantizeUnits - 1) / kDequantizeUnits);
  gpu.launch(kernel_name(weights.kernel("dequantize"), type), {blocks}, {kDequantizeThreads}, 0,
             params);
  return gpu.download(out);
}

}  // namespace

TEST(dequantised_numbers_are_those_of_the_file_rounded_once) {
  Gpu gpu;
  QuantizedMatrixSpec gate_and_up{72, 192, 4, 32, true, 1};
  gate_and_up.pair_distance = 36;
  for (const QuantizedMatrixSpec& spec : {gate_and_up,
                                          QuantizedMatrixSpec{33, 576, 4, 128, true, 1},
                                          {40, 384, 8, 32, false, 4},
                                          {17, 1176, 8, 0, true, 1}}) {
    const QuantizedWeights weights(gpu, spec, 3);
    for (const Half type : kHalves) {
      const std::vector<uint16_t> out = dequantized(gpu, weights, type, nullptr);
      for (size_t i = 0; i < out.size(); ++i) {
        const auto n = static_cast<int64_t>(i) / spec.in_features;
        const auto k = static_cast<int64_t>(i) % spec.in_features;
        CHECK_EQ(out[i], narrow(weights.value(n, k), type));
      }
    }
  }
}

TEST(columns_go_back_to_the_order_of_the_inputs) {
  Gpu gpu;
  const QuantizedMatrixSpec spec{20, 256, 4, 128, true, 1};
  const QuantizedWeights weights(gpu, spec, 4);
  std::vector<int32_t> order(256);
  for (int32_t k = 0; k < 256; ++k) order[static_cast<size_t>(k)] = k * 37 % 256;
  const auto device_order = gpu.upload(order);
  const auto out = dequantized(gpu, weights, Half::kBf16, device_order.get());
  for (int64_t n = 0; n < 20; ++n) {
    for (size_t k = 0; k < 256; ++k) {
      CHECK_EQ(out[static_cast<size_t>(n * 256 + order[k])],
               narrow(weights.value(n, static_cast<int64_t>(k)), Half::kBf16));
    }
  }
}

TEST(rows_of_a_table_are_looked_up) {
  Gpu gpu;
  for (const bool has_zeros : {false, true}) {
    const QuantizedMatrixSpec spec{50, 2304, 8, 128, has_zeros, 1};
    const QuantizedWeights weights(gpu, spec, 5);
    const std::vector<int32_t> ids = {0, 49, 7, 8, 33, 7};
    const auto device_ids = gpu.upload(ids);
    auto out = gpu.filled<float>(ids.size() * 2304, 0xff);
    gpu.launch("embed_int8", {static_cast<unsigned>(ids.size())}, {kEmbedQuantizedThreads}, 0,
               EmbedQuantizedParams{weights.matrix(), device_ids.get(), out.get(), 2304});
    const std::vector<float> rows = gpu.download(out);
    for (size_t i = 0; i < rows.size(); ++i) {
      CHECK_EQ(rows[i], weights.value(ids[i / 2304], static_cast<int64_t>(i % 2304)));
    }
  }
}
