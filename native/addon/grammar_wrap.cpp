#include "addon/grammar_wrap.h"

#include <span>
#include <utility>
#include <vector>

#include "addon/addon.h"
#include "addon/async.h"
#include "addon/convert.h"
#include "common/error.h"

namespace qvl::addon {
namespace {

// Marks our objects, so that no other wrapped object is taken for a grammar.
constexpr napi_type_tag kGrammarTag = {0x27c1d0b84e5f4a93, 0xa1b97d22c68e05f4};

// How lib/constraint/pack.ts writes a symbol.
enum SymbolKind : int32_t { kChars = 0, kText = 1, kRule = 2 };

/// Reads the numbers of a packed grammar: counts stand before what they count.
class PackedReader {
 public:
  explicit PackedReader(std::span<const int32_t> numbers) : numbers_(numbers) {}

  Grammar read() {
    Grammar grammar;
    const size_t num_rules = count();
    for (size_t i = 0; i < num_rules; ++i) grammar.rules.push_back(rule());
    const size_t num_triggers = count();
    for (size_t i = 0; i < num_triggers; ++i) grammar.triggers.push_back(text());
    grammar.repeat = next() != 0;
    if (at_ != numbers_.size()) damaged();
    return grammar;
  }

 private:
  [[noreturn]] static void damaged() { throw_invalid("grammar", "packed as pack.ts does it"); }

  int32_t next() {
    if (at_ == numbers_.size()) damaged();
    return numbers_[at_++];
  }
  /// Of things that take a number each at least: more than there are cannot follow.
  size_t count() {
    const int32_t found = next();
    if (found < 0 || static_cast<size_t>(found) > numbers_.size() - at_) damaged();
    return static_cast<size_t>(found);
  }
  uint32_t unsigned_number() {
    const int32_t found = next();
    if (found < 0) damaged();
    return static_cast<uint32_t>(found);
  }

  GrammarRule rule() {
    GrammarRule result;
    const size_t num_sequences = count();
    for (size_t i = 0; i < num_sequences; ++i) {
      GrammarSequence sequence;
      const size_t num_symbols = count();
      for (size_t k = 0; k < num_symbols; ++k) sequence.push_back(symbol());
      result.push_back(std::move(sequence));
    }
    return result;
  }

  GrammarSymbol symbol() {
    const int32_t kind = next();
    if (kind == kText) return TextSymbol{text()};
    if (kind == kChars) {
      CharSymbol chars;
      const size_t num_ranges = count();
      for (size_t i = 0; i < num_ranges; ++i) {
        const uint32_t first = unsigned_number();
        chars.ranges.push_back({first, unsigned_number()});
      }
      return chars;
    }
    if (kind != kRule) damaged();
    RuleSymbol rule;
    rule.rule = unsigned_number();
    rule.min = unsigned_number();
    const int32_t max = next();
    rule.max = max < 0 ? std::nullopt : std::optional(static_cast<uint32_t>(max));
    return rule;
  }

  std::string text() {
    std::string result;
    const size_t num_bytes = count();
    for (size_t i = 0; i < num_bytes; ++i) {
      const int32_t byte = next();
      if (byte < 0 || byte > 255) damaged();
      result.push_back(static_cast<char>(static_cast<uint8_t>(byte)));
    }
    return result;
  }

  std::span<const int32_t> numbers_;
  size_t at_ = 0;
};

}  // namespace

Napi::Function GrammarWrap::define(Napi::Env env) { return DefineClass(env, "NativeGrammar", {}); }

Napi::Object GrammarWrap::create(Napi::Env env, std::shared_ptr<ModelGrammar> grammar) {
  Addon& addon = Addon::of(env);
  return addon.construct(addon.grammar_constructor, addon.pending_grammar, std::move(grammar));
}

std::shared_ptr<GrammarMatcher> GrammarWrap::read(Napi::Value value, const std::string& path,
                                                  const std::shared_ptr<ModelHandle>& model) {
  if (value.IsUndefined()) return nullptr;
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kGrammarTag)) {
    throw_invalid(path, "a grammar that compileGrammar() made");
  }
  const std::shared_ptr<ModelGrammar>& grammar = Unwrap(value.As<Napi::Object>())->grammar_;
  if (grammar->model.lock() != model)
    throw_invalid(path, "a grammar of this model, not of another");
  return grammar->matcher;
}

GrammarWrap::GrammarWrap(const Napi::CallbackInfo& info)
    : ObjectWrap(info), grammar_(std::move(Addon::of(info.Env()).pending_grammar)) {
  if (grammar_ == nullptr) {
    throw Napi::TypeError::New(info.Env(), "NativeGrammar is made by compileGrammar() only.");
  }
  info.This().As<Napi::Object>().TypeTag(&kGrammarTag);
}

Napi::Value set_vocabulary(const Napi::CallbackInfo& info,
                           const std::shared_ptr<ModelHandle>& model) {
  if (!info[0].IsTypedArray() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw_invalid("bytes", "a Uint8Array");
  }
  const auto array = info[0].As<Napi::Uint8Array>();
  std::vector<uint8_t> bytes(array.Data(), array.Data() + array.ElementLength());
  std::vector<int32_t> lengths = read_int32_array(info[1], "lengths");
  using Result = std::shared_ptr<const Vocabulary>;
  return run_async<Result>(
      info.Env(), "qwen2-vl.setVocabulary",
      [bytes = std::move(bytes), lengths = std::move(lengths), size = model->vocab_size] {
        return std::make_shared<const Vocabulary>(bytes, lengths, size);
      },
      [model](Napi::Env env, Result vocabulary) {
        model->vocabulary = std::move(vocabulary);
        return env.Undefined();
      });
}

Napi::Value compile_grammar(const Napi::CallbackInfo& info,
                            const std::shared_ptr<ModelHandle>& model) {
  std::vector<int32_t> packed = read_int32_array(info[0], "grammar");
  if (model->vocabulary == nullptr) {
    throw Error("ERR_INVALID_ARGUMENT",
                "the model has no vocabulary yet: call setVocabulary() and wait for it");
  }
  using Result = std::shared_ptr<GrammarMatcher>;
  return run_async<Result>(
      info.Env(), "qwen2-vl.compileGrammar",
      [packed = std::move(packed), vocabulary = model->vocabulary] {
        return std::make_shared<GrammarMatcher>(PackedReader(packed).read(), vocabulary);
      },
      [model](Napi::Env env, Result matcher) -> Napi::Value {
        auto grammar = std::make_shared<ModelGrammar>();
        *grammar = {std::move(matcher), model};
        return GrammarWrap::create(env, std::move(grammar));
      });
}

}  // namespace qvl::addon
