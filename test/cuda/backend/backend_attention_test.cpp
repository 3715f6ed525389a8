// Attention on device 'cuda' as the decoder calls it: what comes before it, the paged cache, ragged
// steps. Steps of up to 8 rows use the kernels of decoding, larger ones those of prefill.

#include <algorithm>
#include <span>

#include "backend/batch_of.h"
#include "backend/on_device.h"
#include "kernels/attention_reference.h"

using namespace qvl;
using namespace qvl::test;

namespace {

struct Heads {
  int64_t kv_heads, group, dim;
  int64_t q_cols() const { return kv_heads * group * dim; }
  int64_t kv_cols() const { return kv_heads * dim; }
  int64_t cols() const { return q_cols() + 2 * kv_cols(); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(dim)); }
};
// 2B's, 7B's and 72B's groups, the tiny checkpoint's, and one that the decode kernel does not have.
constexpr Heads kHeads[] = {{1, 6, 128}, {2, 7, 128}, {1, 8, 64},
                            {2, 4, 32},  {1, 1, 128}, {1, 12, 32}};

/// Queries, keys and values of all tokens of a sequence, and what attention has made of them.
struct Sequence {
  Heads heads;
  Half type;
  std::vector<float> qkv;  // [tokens, (H + 2G) D]
  std::vector<int32_t> blocks;
  std::vector<float> out;  // [tokens, H D]

  Sequence(const Heads& shape, Half half, int64_t tokens, unsigned seed,
           std::vector<int32_t> block_table)
      : heads(shape),
        type(half),
        qkv(random_halves(static_cast<size_t>(tokens * shape.cols()), seed, half, 1.5f)),
        blocks(std::move(block_table)),
        out(static_cast<size_t>(tokens * shape.q_cols()), NAN) {}

  int64_t tokens() const { return static_cast<int64_t>(qkv.size()) / heads.cols(); }

  /// Of tokens [from, to), in double precision.
  std::vector<Expected> expected(int64_t from, int64_t to) const {
    const auto dim = heads.dim;
    const auto at = [&](int64_t token, int64_t column) {
      return qkv.data() + token * heads.cols() + column;
    };
    std::vector<Expected> all;
    for (int64_t token = from; token < to; ++token) {
      for (int64_t head = 0; head < heads.kv_heads * heads.group; ++head) {
        const int64_t k = heads.q_cols() + head / heads.group * dim;
        append_attention(
            all, at(token, head * dim), static_cast<int>(dim), static_cast<int>(token + 1),
            double{heads.scale()}, type, [&](int j) { return at(j, k); },
            [&](int j) { return at(j, k + heads.kv_cols()); });
      }
    }
    return all;
  }
};

struct Part {
  Sequence* sequence;
  int64_t from, to;
};

constexpr int64_t kLayer = 1;

std::unique_ptr<KvCache> cache_of(Backend& backend, const Heads& heads, int64_t num_blocks,
                                  Half type) {
  return backend.create_kv_cache({3, heads.kv_heads, heads.dim, num_blocks, dtype_of(type)});
}

/// Appends and attends tokens [from, to) of each sequence in one ragged step.
void step(Backend& backend, KvCache& cache, const std::vector<Part>& parts) {
  const Heads& heads = parts.front().sequence->heads;
  const DType dtype = dtype_of(parts.front().sequence->type);
  std::vector<float> qkv;
  std::vector<SequenceSpan> spans;
  int64_t rows = 0;
  for (const auto& [sequence, from, to] : parts) {
    const std::vector<float> more = rows_of(sequence->qkv, heads.cols(), from, to - from);
    qkv.insert(qkv.end(), more.begin(), more.end());
    spans.push_back({rows, to - from, from, sequence->blocks});
    rows += to - from;
  }
  const auto batch = batch_of(backend, cache, spans);
  const OnDevice in(backend, qkv, heads.cols(), dtype);
  const OnDevice out(backend, rows, heads.q_cols(), dtype, 8);
  const Tensor all = in.tensor();
  backend.append_kv(cache, kLayer, all.columns(heads.q_cols(), heads.kv_cols()),
                    all.columns(heads.q_cols() + heads.kv_cols(), heads.kv_cols()), *batch);
  backend.attention(out.tensor(), all.columns(0, heads.q_cols()), cache, kLayer, *batch,
                    heads.scale());
  const std::vector<float> values = out.values();
  for (size_t i = 0; i < parts.size(); ++i) {
    std::copy_n(values.begin() + spans[i].first_row * heads.q_cols(),
                spans[i].num_tokens * heads.q_cols(),
                parts[i].sequence->out.begin() + parts[i].from * heads.q_cols());
  }
}

void check(const Sequence& sequence, int64_t from, int64_t to, const std::string& what) {
  const Heads& heads = sequence.heads;
  const auto cols = static_cast<size_t>(heads.q_cols());
  check_rows(rows_of(sequence.out, heads.q_cols(), from, to - from), cols,
             sequence.expected(from, to), cols, sequence.type,
             describe(what, ", ", name_of(sequence.type), ", ", heads.kv_heads, " x ", heads.group,
                      " heads of ", heads.dim, ", tokens from ", from));
}

bool same_rows(const Sequence& a, const Sequence& b, int64_t from, int64_t to) {
  const int64_t cols = a.heads.q_cols();
  return same_bits(rows_of(a.out, cols, from, to - from), rows_of(b.out, cols, from, to - from));
}

}  // namespace

TEST(attention_is_that_of_double_precision_whatever_the_heads) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const Heads& heads : kHeads) {
      const auto cache = cache_of(*backend, heads, 8, type);
      // A prompt that ends in the middle of a tile and of a block, then tokens one by one and some
      // together, over the border of a block.
      Sequence sequence(heads, type, 72, 1, {5, 2, 7});
      step(*backend, *cache, {{&sequence, 0, 61}});
      check(sequence, 0, 61, "prompt");
      for (const auto& [from, to] :
           {std::pair<int64_t, int64_t>{61, 62}, {62, 63}, {63, 71}, {71, 72}}) {
        step(*backend, *cache, {{&sequence, from, to}});
      }
      check(sequence, 61, 72, "tokens");
    }
  }
}

TEST(prompts_do_not_depend_on_chunks_neighbours_or_recycled_blocks) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const Heads& heads : {kHeads[0], kHeads[3]}) {
      constexpr int64_t kTokens = 81;
      const auto cache = cache_of(*backend, heads, 16, type);
      Sequence alone(heads, type, kTokens, 1, {7, 2, 9});
      step(*backend, *cache, {{&alone, 0, kTokens}});

      // In chunks of several sizes, in blocks full of another's NaN.
      Sequence poison(heads, type, kTokens, 4, {0, 5, 3});
      std::fill(poison.qkv.begin(), poison.qkv.end(), NAN);
      for (const int64_t chunk : {40, 32, 27, 9}) {
        step(*backend, *cache, {{&poison, 0, kTokens}});
        Sequence chunked(heads, type, kTokens, 1, poison.blocks);
        for (int64_t from = 0; from < kTokens; from += chunk) {
          // Never so few rows that the decode kernel has them.
          const int64_t to = kTokens - from < chunk + 9 ? kTokens : from + chunk;
          step(*backend, *cache, {{&chunked, from, to}});
          if (to == kTokens) break;
        }
        CHECK(same_rows(chunked, alone, 0, kTokens));
      }

      // Beside others: one that prefills, one that decodes, in any order.
      Sequence a(heads, type, kTokens, 1, {4, 6, 8});
      Sequence b(heads, type, kTokens, 20, {10, 11, 12});
      Sequence c(heads, type, kTokens, 30, {13, 14, 15});
      step(*backend, *cache, {{&c, 0, 50}});
      step(*backend, *cache, {{&b, 0, 13}, {&a, 0, 60}, {&c, 50, 51}});
      step(*backend, *cache, {{&a, 60, 61}, {&b, 13, kTokens}, {&c, 51, 52}});
      step(*backend, *cache, {{&c, 52, 60}, {&a, 61, kTokens}});
      CHECK(same_rows(a, alone, 0, kTokens));
      Sequence b_alone(heads, type, kTokens, 20, {10, 11, 12});
      step(*backend, *cache, {{&b_alone, 0, kTokens}});
      CHECK(same_rows(b, b_alone, 0, kTokens));
    }
  }
}

TEST(decode_steps_do_not_depend_on_neighbours_at_any_length) {
  // One token each of sequences whose lengths are about the edges of blocks and of splits of keys.
  const int64_t lengths[] = {1, 32, 33, 128, 129, 255, 257, 300};
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    const Heads heads = {1, 6, 128};
    const auto cache = cache_of(*backend, heads, 64, type);
    std::vector<Sequence> sequences;
    std::vector<Part> prompts;
    std::vector<Part> tokens;
    sequences.reserve(std::size(lengths));
    int32_t next_block = 63;
    for (const int64_t length : lengths) {
      std::vector<int32_t> blocks;
      for (int64_t token = 0; token < length; token += kKvBlockTokens) {
        blocks.push_back(next_block--);
      }
      const auto seed = static_cast<unsigned>(length);
      sequences.emplace_back(heads, type, length, seed, std::move(blocks));
      Sequence* const sequence = &sequences.back();
      if (length > 1) prompts.push_back({sequence, 0, length - 1});
      tokens.push_back({sequence, length - 1, length});
    }
    step(*backend, *cache, prompts);
    step(*backend, *cache, tokens);
    const std::vector<Sequence> together = sequences;
    for (const Sequence& sequence : together) {
      check(sequence, sequence.tokens() - 1, sequence.tokens(), "a token beside others");
    }
    const auto check_same = [&](const std::vector<Part>& parts) {
      step(*backend, *cache, parts);
      for (const auto& [sequence, from, to] : parts) {
        CHECK(same_rows(*sequence, together[static_cast<size_t>(sequence - sequences.data())], from,
                        to));
      }
    };
    for (const Part& part : tokens) check_same({part});
    std::reverse(tokens.begin(), tokens.end());
    check_same(tokens);
    // A draft: the last tokens of a sequence in one step. Each sees those before it.
    Sequence& draft = sequences.back();
    step(*backend, *cache, {{&draft, draft.tokens() - 5, draft.tokens()}});
    CHECK(same_rows(draft, together.back(), draft.tokens() - 1, draft.tokens()));
    check(draft, draft.tokens() - 5, draft.tokens(), "a draft");
  }
}

namespace {

/// A layer's way to attention: norm, projection with bias, rotation, and the cache.
class AttentionLayer {
 public:
  static constexpr int64_t kWidth = 72;

  AttentionLayer(const Heads& heads, Half type)
      : heads_(heads),
        type_(type),
        weight_(random_halves(static_cast<size_t>(heads.cols() * kWidth), 1, type, 0.12f)),
        norm_(random_values(kWidth, 2)),
        bias_(random_values(static_cast<size_t>(heads.cols()), 3)) {}

  /// Of a residual stream [rows, kWidth] and angles [rows, D / 2]: what attention makes of it, all
  /// rows being one sequence. In one operation, or in those that it consists of.
  std::vector<float> run(Backend& backend, const std::vector<float>& x,
                         const std::vector<float>& angles, bool fused) const {
    const DType dtype = dtype_of(type_);
    const auto rows = static_cast<int64_t>(x.size()) / kWidth;
    const auto cache = cache_of(backend, heads_, 4, type_);
    const std::vector<int32_t> blocks = {2, 0, 3};
    const auto batch = batch_of(backend, *cache, {{0, rows, 0, blocks}});
    const auto weight = weight_of(backend, weight_, kWidth, type_);
    const auto norm = buffer_of(backend, norm_);
    const auto bias = buffer_of(backend, bias_);
    const OnDevice in(backend, x, kWidth, DType::kF32, 8);
    const OnDevice cos(backend, cosines(angles), heads_.dim / 2, DType::kF32);
    const OnDevice sin(backend, sines(angles), heads_.dim / 2, DType::kF32);
    const OnDevice out(backend, rows, heads_.q_cols(), dtype);
    const OnDevice qkv(backend, rows, heads_.cols(), dtype);
    const Tensor all = qkv.tensor();
    if (fused) {
      backend.attention_input(
          all,
          {in.tensor(), {norm.get(), kEps}, weight.get(), bias.get(), cos.tensor(), sin.tensor()},
          *cache, kLayer, *batch);
    } else {
      const OnDevice normed(backend, rows, kWidth, dtype);
      backend.rms_norm(normed.tensor(), in.tensor(), *norm, kEps);
      backend.linear(all, normed.tensor(), *weight, {bias.get()});
      backend.rope(all.columns(0, heads_.q_cols() + heads_.kv_cols()), heads_.dim, cos.tensor(),
                   sin.tensor());
      backend.append_kv(*cache, kLayer, all.columns(heads_.q_cols(), heads_.kv_cols()),
                        all.columns(heads_.q_cols() + heads_.kv_cols(), heads_.kv_cols()), *batch);
    }
    backend.attention(out.tensor(), all.columns(0, heads_.q_cols()), *cache, kLayer, *batch,
                      heads_.scale());
    return out.values();
  }

  /// In double precision, with queries, keys and values as numbers of the type.
  std::vector<Expected> expected(const std::vector<float>& x,
                                 const std::vector<float>& angles) const {
    const auto rows = static_cast<int64_t>(x.size()) / kWidth;
    Sequence sequence(heads_, type_, rows, 1, {});
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<double> qkv = projection(x.data() + row * kWidth);
      rotate(qkv, angles.data() + row * heads_.dim / 2);
      for (size_t i = 0; i < qkv.size(); ++i) {
        sequence.qkv[static_cast<size_t>(row) * qkv.size() + i] =
            widen(narrow(static_cast<float>(qkv[i]), type_), type_);
      }
    }
    std::vector<Expected> all = sequence.expected(0, rows);
    // Between kernels queries, keys and values may be rounded twice more, before their bias comes
    // to them and before they are rotated: those, of size 1 to 4, move scores and so the weights.
    for (Expected& element : all) element.slack = 4 * element.slack + 4 * rounding_of(type_);
    return all;
  }

 private:
  static constexpr float kEps = 1e-6f;

  static std::vector<float> cosines(const std::vector<float>& angles) {
    std::vector<float> values;
    for (const float angle : angles) values.push_back(std::cos(angle));
    return values;
  }
  static std::vector<float> sines(const std::vector<float>& angles) {
    std::vector<float> values;
    for (const float angle : angles) values.push_back(std::sin(angle));
    return values;
  }

  std::vector<double> projection(const float* x) const {
    double squares = 0;
    for (int64_t i = 0; i < kWidth; ++i) squares += double{x[i]} * double{x[i]};
    const double scale = 1 / std::sqrt(squares / kWidth + double{kEps});
    std::vector<double> out(bias_.begin(), bias_.end());
    for (size_t i = 0; i < out.size(); ++i) {
      for (size_t k = 0; k < kWidth; ++k) {
        const auto normed = static_cast<float>(double{x[k]} * scale * double{norm_[k]});
        out[i] += double{widen(narrow(normed, type_), type_)} * double{weight_[i * kWidth + k]};
      }
    }
    return out;
  }

  void rotate(std::vector<double>& qkv, const float* angles) const {
    const int64_t half = heads_.dim / 2;
    for (int64_t head = 0; head < heads_.kv_heads * (heads_.group + 1); ++head) {
      for (int64_t i = 0; i < half; ++i) {
        double& a = qkv[static_cast<size_t>(head * heads_.dim + i)];
        double& b = qkv[static_cast<size_t>(head * heads_.dim + i + half)];
        const double cos = std::cos(double{angles[i]}), sin = std::sin(double{angles[i]});
        const double rotated = a * cos - b * sin;
        b = b * cos + a * sin;
        a = rotated;
      }
    }
  }

  Heads heads_;
  Half type_;
  std::vector<float> weight_, norm_, bias_;
};

}  // namespace

TEST(what_comes_before_attention_is_that_of_double_precision_and_its_operations_one_by_one) {
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    for (const Heads& heads : kHeads) {
      const AttentionLayer layer(heads, type);
      for (const int64_t rows : {1, 3, 8, 9, 70}) {
        const auto x = random_values(static_cast<size_t>(rows * AttentionLayer::kWidth), 7, 3.f);
        const auto angles = random_values(static_cast<size_t>(rows * heads.dim / 2), 8, 2.f);
        const std::vector<float> out = layer.run(*backend, x, angles, true);
        const auto cols = static_cast<size_t>(heads.q_cols());
        const std::string where = describe(name_of(type), ", ", rows, " rows of ", heads.kv_heads,
                                           " x ", heads.group, " heads of ", heads.dim);
        check_rows(out, cols, layer.expected(x, angles), cols, type, where);
        const std::vector<float> apart = layer.run(*backend, x, angles, false);
        check_rows(apart, cols, layer.expected(x, angles), cols, type, where + ", one by one");
        // The fused kernel of few rows rounds once where these round twice.
        if (rows > 8) CHECK(same_bits(out, apart));
      }
    }
  }
}

TEST(steps_that_are_recorded_give_the_bits_of_those_that_are_not) {
  const Heads heads = {2, 4, 32};
  constexpr int64_t kTokens = 140;
  for (const Half type : kHalves) {
    const auto backend = cuda_backend(type);
    const auto cache = cache_of(*backend, heads, 12, type);
    Sequence expected(heads, type, kTokens, 1, {7, 2, 9, 1, 5});
    step(*backend, *cache, {{&expected, 0, 60}});
    for (int64_t token = 60; token < kTokens; ++token) {
      step(*backend, *cache, {{&expected, token, token + 1}});
    }
    // The same with tensors that stay where they are, over several shapes of block tables.
    Sequence recorded(heads, type, kTokens, 1, {0, 3, 4, 6, 8});
    step(*backend, *cache, {{&recorded, 0, 60}});
    const OnDevice row(*backend, 1, heads.cols(), dtype_of(type));
    const OnDevice out(*backend, 1, heads.q_cols(), dtype_of(type));
    const auto batch = backend->create_sequence_batch(1, 12);
    int runs = 0;
    for (int64_t token = 60; token < kTokens; ++token) {
      const auto bits = narrow(rows_of(recorded.qkv, heads.cols(), token, 1), type);
      backend->upload(row.tensor().data, bits.data(), bits.size() * sizeof(uint16_t));
      const SequenceSpan span = {0, 1, token, recorded.blocks};
      batch->assign({&span, 1});
      // Keys and values without what append_kv() uploads, as the model's steps: unrotated angles.
      const Tensor kv = row.tensor().columns(heads.q_cols(), 2 * heads.kv_cols());
      backend->append_kv(*cache, kLayer, kv.columns(0, heads.kv_cols()),
                         kv.columns(heads.kv_cols(), heads.kv_cols()), *batch);
      backend->run_step(*batch, true, [&] {
        ++runs;
        backend->attention(out.tensor(), row.tensor().columns(0, heads.q_cols()), *cache, kLayer,
                           *batch, heads.scale());
      });
      const std::vector<float> values = out.values();
      std::copy(values.begin(), values.end(), recorded.out.begin() + token * heads.q_cols());
    }
    CHECK(same_rows(recorded, expected, 0, kTokens));
    // Block tables of 2, 4 and 8 entries: twice each, once to have the memory and once to record.
    CHECK_EQ(runs, 6);
  }
}

TEST(steps_that_break_the_interface_are_refused) {
  const Heads heads = {1, 2, 32};
  const auto backend = cuda_backend(Half::kBf16);
  const auto cache = cache_of(*backend, heads, 2, Half::kBf16);
  const OnDevice rows(*backend, 3, heads.cols(), DType::kBF16);
  const auto batch = backend->create_sequence_batch(3, 2);
  const auto assign = [&](const SequenceSpan& span) { batch->assign({&span, 1}); };
  for (const int32_t block : {-1, 2}) {
    CHECK_ERROR("ERR_INTERNAL", assign({0, 1, 0, {&block, 1}}));
  }
  const std::vector<int32_t> blocks = {1, 0};
  CHECK_ERROR("ERR_INTERNAL", assign({0, 1, 64, blocks}));
  CHECK_ERROR("ERR_INTERNAL", assign({0, 4, 0, blocks}));
  CHECK_ERROR("ERR_INTERNAL", assign({2, 2, 0, blocks}));
  CHECK_ERROR("ERR_INTERNAL", assign({-1, 1, 0, blocks}));
  assign({0, 3, 0, blocks});
  const Tensor all = rows.tensor();
  const Tensor k = all.columns(64, 32), v = all.columns(96, 32);
  CHECK_ERROR("ERR_INTERNAL", backend->append_kv(*cache, 3, k, v, *batch));
  CHECK_ERROR("ERR_INTERNAL", backend->append_kv(*cache, 0, v, k, *batch));
  CHECK_ERROR("ERR_INTERNAL", backend->append_kv(*cache, 0, k.slice(0, 2), v.slice(0, 2), *batch));
  const OnDevice out(*backend, 3, 64, DType::kBF16);
  CHECK_ERROR("ERR_INTERNAL",
              backend->attention(out.tensor(), all.columns(0, 64), *cache, -1, *batch, 1.f));
  CHECK_ERROR("ERR_INTERNAL", backend->attention(out.tensor(), k, *cache, 0, *batch, 1.f));
}
