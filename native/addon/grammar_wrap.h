#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "addon/model_handle.h"
#include "constraint/grammar_matcher.h"

namespace qvl::addon {

/// A grammar made ready for one model.
struct ModelGrammar {
  std::shared_ptr<GrammarMatcher> matcher;
  std::weak_ptr<ModelHandle> model;
};

/// The JavaScript object `NativeGrammar`.
class GrammarWrap : public Napi::ObjectWrap<GrammarWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, std::shared_ptr<ModelGrammar> grammar);
  /// The grammar of an object that create() made for this model; null for undefined. Throws
  /// Error(ERR_INVALID_ARGUMENT) for any other.
  static std::shared_ptr<GrammarMatcher> read(Napi::Value value, const std::string& path,
                                              const std::shared_ptr<ModelHandle>& model);

  explicit GrammarWrap(const Napi::CallbackInfo& info);

 private:
  std::shared_ptr<ModelGrammar> grammar_;
};

/// setVocabulary(bytes, lengths): what the ids of the model stand for. Work is done off the
/// JavaScript thread.
Napi::Value set_vocabulary(const Napi::CallbackInfo& info,
                           const std::shared_ptr<ModelHandle>& model);

/// compileGrammar(packed): checks and compiles a grammar off the JavaScript thread.
Napi::Value compile_grammar(const Napi::CallbackInfo& info,
                            const std::shared_ptr<ModelHandle>& model);

}  // namespace qvl::addon
