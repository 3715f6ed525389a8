// Which rows of logits a step gives back, however many. What a step refuses is in
// language_model_test.

#include <cstring>
#include <numeric>

#include "check.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

namespace qvl {
namespace {

constexpr size_t kVocab = 64;

std::unique_ptr<Model> load_tiny(int64_t max_step_tokens = 128) {
  const ModelConfig config = test::tiny_config();
  test::LoadSettings settings;
  settings.options.num_kv_blocks = 16;
  settings.options.max_step_tokens = max_step_tokens;
  return test::load_model(test::formula_tensors(config), config, settings);
}

/// A text of `count` tokens at the positions behind `num_cached` others, in KV blocks of its own.
struct Text {
  explicit Text(int64_t count, int64_t cached = 0, int32_t first_block = 0)
      : ids(static_cast<size_t>(count)), positions(ids.size()), blocks(4), num_cached(cached) {
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>((cached + static_cast<int64_t>(i)) * 7 % 50);
    }
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(cached));
    std::iota(blocks.begin(), blocks.end(), first_block);
  }

  StepSequence step(LogitsWanted logits) const {
    return {ids, positions, positions, positions, num_cached, blocks, {}, logits};
  }

  std::vector<int32_t> ids, positions, blocks;
  int64_t num_cached;
};

bool same_row(const std::vector<float>& a, size_t row_a, const std::vector<float>& b,
              size_t row_b) {
  return std::memcmp(&a[row_a * kVocab], &b[row_b * kVocab], kVocab * sizeof(float)) == 0;
}

TEST(rows_come_in_the_order_of_the_sequences_as_many_as_each_wants) {
  const auto model = load_tiny();
  const Text first(5, 0, 0), second(9, 0, 4), third(3, 0, 8);
  const std::vector<float> all = test::logits_of(
      *model, std::vector{first.step(LogitsWanted::kAll), second.step(LogitsWanted::kAll),
                          third.step(LogitsWanted::kAll)});
  CHECK_EQ(all.size(), size_t{17 * kVocab});
  const std::vector<float> some = test::logits_of(
      *model, std::vector{first.step(LogitsWanted::kLast), second.step(LogitsWanted::kNone),
                          third.step(LogitsWanted::kAll)});
  CHECK_EQ(some.size(), size_t{4 * kVocab});
  CHECK(same_row(some, 0, all, 4));
  for (size_t i = 0; i < 3; ++i) CHECK(same_row(some, 1 + i, all, 14 + i));
}

TEST(more_rows_than_the_head_takes_at_once) {
  const auto model = load_tiny();
  const std::vector<float> all =
      test::logits_of(*model, std::vector{Text(100).step(LogitsWanted::kAll)});
  CHECK_EQ(all.size(), size_t{100 * kVocab});
  for (const int64_t length : {1, 32, 33, 64, 65, 100}) {
    const std::vector<float> last =
        test::logits_of(*model, std::vector{Text(length).step(LogitsWanted::kLast)});
    CHECK(same_row(last, 0, all, static_cast<size_t>(length - 1)));
  }
}

}  // namespace
}  // namespace qvl
