#include "kernels/cuda/convert.h"

#include <limits>

#include "check.h"
#include "kernels/gpu.h"

using namespace qvl;
using namespace qvl::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Every exponent that the 16-bit types have, values halfway between two of their numbers, and what
/// is outside them.
std::vector<float> interesting(size_t count) {
  std::vector<float> values = {0.f,        -0.f,    1.f,     -1.f, kInfinity,
                               -kInfinity, 65504.f, 65520.f, 1e38f};
  for (int exponent = -30; exponent < 20; ++exponent) {
    for (const float mantissa : {1.f, 1.f + 0x1p-9f, 1.f + 0x3p-9f, 1.f + 0x1p-12f, 1.9999f}) {
      values.push_back(std::ldexp(mantissa, exponent));
      values.push_back(-std::ldexp(mantissa, exponent));
    }
  }
  const size_t period = values.size();
  for (size_t i = period; i < count; ++i) values.push_back(values[i % period]);
  values.resize(count);
  return values;
}

}  // namespace

TEST(convert_rounds_to_the_nearest_number_and_writes_no_further) {
  Gpu gpu;
  for (const Half type : kHalves) {
    for (const size_t count :
         {size_t{1}, size_t{7}, size_t{8}, size_t{2047}, size_t{2048}, size_t{2500}}) {
      const std::vector<float> values = interesting(count);
      const auto src = gpu.upload(values);
      auto dst = gpu.filled<uint16_t>(count + 8, 0xab);
      const auto blocks = static_cast<unsigned>((count + kConvertChunk - 1) / kConvertChunk);
      gpu.launch(kernel_name("convert", type), {blocks}, {kConvertThreads}, 0,
                 ConvertParams{src.get(), dst.get(), static_cast<int64_t>(count)});
      std::vector<uint16_t> expected = narrow(values, type);
      expected.resize(count + 8, 0xabab);
      const std::vector<uint16_t> actual = gpu.download(dst);
      for (size_t i = 0; i < actual.size(); ++i) CHECK_EQ(actual[i], expected[i]);
    }
  }
}
