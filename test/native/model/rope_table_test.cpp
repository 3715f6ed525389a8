// Inverse frequencies bit for bit, and which position turns which of them.

#include "model/rope_table.h"

#include <bit>
#include <cmath>

#include "check.h"

namespace qvl {
namespace {

// 1 / 1000000^(2i/128) as the reference computes it in float32.
constexpr uint32_t kLanguageBits[] = {
    0x3f800000, 0x3f4e4bad, 0x3f263de0, 0x3f05f6ef, 0x3ed7e89b, 0x3eadfcff, 0x3e8c3504, 0x3e61f835,
    0x3e361887, 0x3e12bd91, 0x3dec7fd6, 0x3dbe94c6, 0x3d99940d, 0x3d778513, 0x3d47763f, 0x3d20bc1d,
    0x3d0186e3, 0x3cd0c1a8, 0x3ca8398b, 0x3c879008, 0x3c5a7bf2, 0x3c301052, 0x3c0de12d, 0x3be4aa46,
    0x3bb8449c, 0x3b947dae, 0x3b6f520e, 0x3b40dac5, 0x3b1b690d, 0x3afa78f0, 0x3ac9d75c, 0x3aa2a6f7,
    0x3a83126f, 0x3a533f28, 0x3a2a3b44, 0x3a092e02, 0x39dd1725, 0x39b229fb, 0x398f9272, 0x39676492,
    0x393a7753, 0x39164324, 0x38f22ce2, 0x38c327b5, 0x389d43a4, 0x387d75d4, 0x384c3fbe, 0x382497ab,
    0x3804a2b2, 0x37d5c441, 0x37ac431d, 0x378ad0ed, 0x375fba4f, 0x37344a0e, 0x371148e3, 0x36ea2732,
    0x36bcb0c1, 0x36980e02, 0x36751070, 0x36457bab, 0x361f23e4, 0x36003dec, 0x35ceaf79, 0x35a68e4c};

// 1 / 10000^(2j/40).
constexpr uint32_t kVisionBits[] = {0x3f800000, 0x3f21866b, 0x3ecbd4b4, 0x3e809bcc, 0x3e224b06,
                                    0x3dcccccd, 0x3d813855, 0x3d231091, 0x3ccdc613, 0x3c81d5a0,
                                    0x3c23d70a, 0x3bcec089, 0x3b8273a4, 0x3b249e78, 0x3acfbc32,
                                    0x3a83126f, 0x3a2566d4, 0x39d0b907, 0x3983b1fa, 0x39263028};

template <size_t N>
void check_bits(const std::vector<float>& values, const uint32_t (&expected)[N]) {
  CHECK_EQ(values.size(), N);
  for (size_t i = 0; i < N; ++i) CHECK_EQ(std::bit_cast<uint32_t>(values[i]), expected[i]);
}

TEST(frequencies_of_the_published_models_have_the_reference_s_bits) {
  check_bits(inverse_frequencies(1e6, 128), kLanguageBits);
  check_bits(inverse_frequencies(1e4, 40), kVisionBits);
}

/// The rule without its exception.
uint32_t rounded_bits(double theta, int i, int dim) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
  const auto power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  return std::bit_cast<uint32_t>(1.0f / power);
}

TEST(one_frequency_only_is_an_exception_to_the_rule) {
  for (int i = 0; i < 64; ++i) CHECK_EQ(rounded_bits(1e6, i, 128) != kLanguageBits[i], i == 37);
  for (int j = 0; j < 20; ++j) CHECK_EQ(rounded_bits(1e4, j, 40), kVisionBits[j]);
}

TEST(other_models_follow_the_rule) {
  const std::vector<float> values = inverse_frequencies(1e6, 16);
  CHECK_EQ(values.size(), size_t{8});
  for (int i = 0; i < 8; ++i) {
    CHECK_EQ(std::bit_cast<uint32_t>(values[static_cast<size_t>(i)]), rounded_bits(1e6, i, 16));
  }
}

TEST(sections_choose_the_axis_of_a_frequency) {
  const std::vector<float> inv_freq = {1.0f, 0.5f, 0.25f, 0.125f, 0.0625f, 0.03125f};
  const int32_t t[] = {0, 7};
  const int32_t h[] = {0, 11};
  const int32_t w[] = {0, 13};
  const RopeTable table = mrope_table(inv_freq, {1, 2, 3}, t, h, w);
  CHECK_EQ(table.cos.size(), size_t{12});
  CHECK_EQ(table.sin.size(), size_t{12});
  const double angles[] = {7 * 1.0, 11 * 0.5, 11 * 0.25, 13 * 0.125, 13 * 0.0625, 13 * 0.03125};
  for (size_t i = 0; i < 6; ++i) {
    CHECK_EQ(table.cos[i], 1.0f);
    CHECK_EQ(table.sin[i], 0.0f);
    CHECK_EQ(table.cos[6 + i], static_cast<float>(std::cos(angles[i])));
    CHECK_EQ(table.sin[6 + i], static_cast<float>(std::sin(angles[i])));
  }
}

TEST(an_empty_section_has_no_frequencies) {
  const std::vector<float> inv_freq = {1.0f, 0.5f};
  const int32_t t[] = {1};
  const int32_t h[] = {2};
  const int32_t w[] = {3};
  const RopeTable table = mrope_table(inv_freq, {1, 0, 1}, t, h, w);
  CHECK_EQ(table.cos[0], static_cast<float>(std::cos(1.0)));
  CHECK_EQ(table.cos[1], static_cast<float>(std::cos(1.5)));
}

TEST(the_angle_is_a_float32_product_and_is_reduced_fully) {
  const std::vector<float> inv_freq = inverse_frequencies(1e6, 128);
  const int32_t position[] = {31999};
  const RopeTable table = mrope_table(inv_freq, {16, 24, 24}, position, position, position);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const float angle = 31999.0f * inv_freq[i];
    CHECK_EQ(table.cos[i], static_cast<float>(std::cos(static_cast<double>(angle))));
    CHECK_EQ(table.sin[i], static_cast<float>(std::sin(static_cast<double>(angle))));
  }
  CHECK_CLOSE(&table.sin[0], std::vector<float>{-0.95293364f}.data(), 1, 1e-6);  // sin(31999)
}

TEST(vision_patches_come_in_merge_grouped_order) {
  const std::vector<float> inv_freq = {1.0f, 0.5f};
  const RopeTable table = vision_rope_table(inv_freq, 2, 4, 6);
  CHECK_EQ(table.cos.size(), size_t{2 * 24 * 4});
  CHECK_EQ(table.sin.size(), size_t{2 * 24 * 4});
  const int order[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2},
                          {1, 3}, {0, 4}, {0, 5}, {1, 4}, {1, 5}, {2, 0}};
  for (size_t slice = 0; slice < 2; ++slice) {
    for (size_t patch = 0; patch < std::size(order); ++patch) {
      const float* sin = &table.sin[(slice * 24 + patch) * 4];
      const float* cos = &table.cos[(slice * 24 + patch) * 4];
      for (size_t axis = 0; axis < 2; ++axis) {
        for (size_t i = 0; i < 2; ++i) {
          const double angle = order[patch][axis] * static_cast<double>(inv_freq[i]);
          CHECK_EQ(sin[axis * 2 + i], static_cast<float>(std::sin(angle)));
          CHECK_EQ(cos[axis * 2 + i], static_cast<float>(std::cos(angle)));
        }
      }
    }
  }
}

TEST(attention_scores_are_scaled_by_the_root_of_the_head_size) {
  CHECK_EQ(attention_scale(128), 0.088388346f);
  CHECK_EQ(attention_scale(80), 0.11180340f);
  CHECK_EQ(attention_scale(16), 0.25f);
}

}  // namespace
}  // namespace qvl
