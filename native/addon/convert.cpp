#include "addon/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/error.h"

namespace qvl::addon {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr double kMaxFloat = std::numeric_limits<float>::max();
// The largest integer that a JavaScript number holds exactly.
constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

const char* type_name(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return "an object";
  }
}

[[noreturn]] void throw_type(const std::string& path, const std::string& expected,
                             Napi::Value found) {
  throw_invalid(path, expected + ", not " + type_name(found));
}

QuantizationMode read_quantization(const ObjectReader& reader, const char* key, bool allow_int4) {
  const std::string name = reader.string(key);
  if (name == "none") return QuantizationMode::kNone;
  if (name == "int8") return QuantizationMode::kInt8;
  if (name == "int4" && allow_int4) return QuantizationMode::kInt4;
  const std::string choice = allow_int4 ? "'none', 'int8' or 'int4'" : "'none' or 'int8'";
  throw_invalid(reader.path(key), choice + ", not '" + name + "'");
}

QuantizationOptions read_quantization_options(const ObjectReader& reader) {
  QuantizationOptions options;
  options.language = read_quantization(reader, "quantization", true);
  options.vision = read_quantization(reader, "visionQuantization", false);
  const std::string activations = reader.string("activations");
  if (activations != "fp32" && activations != "int8") {
    throw_invalid(reader.path("activations"), "'fp32' or 'int8', not '" + activations + "'");
  }
  options.int8_activations = activations == "int8";
  return options;
}

VisionConfig read_vision_config(const ObjectReader& reader) {
  VisionConfig vision;
  vision.depth = reader.integer("depth", 1, kMaxInt32);
  vision.embed_dim = reader.integer("embedDim", 1, kMaxInt32);
  vision.num_heads = reader.integer("numHeads", 1, kMaxInt32);
  vision.mlp_dim = reader.integer("mlpDim", 1, kMaxInt32);
  vision.out_dim = reader.integer("outDim", 1, kMaxInt32);
  return vision;
}

SamplingOptions read_sampling(const ObjectReader& reader) {
  SamplingOptions sampling;
  sampling.temperature = static_cast<float>(reader.number("temperature", 0, 1e6));
  sampling.top_k = reader.integer("topK", 0, kMaxInt32);
  sampling.top_p = static_cast<float>(reader.number("topP", 0, 1));
  sampling.min_p = static_cast<float>(reader.number("minP", 0, 1));
  sampling.repetition_penalty = static_cast<float>(reader.number("repetitionPenalty", 1e-3, 1e3));
  sampling.frequency_penalty = static_cast<float>(reader.number("frequencyPenalty", -1e3, 1e3));
  sampling.presence_penalty = static_cast<float>(reader.number("presencePenalty", -1e3, 1e3));
  sampling.penalty_last_n = reader.integer("penaltyLastN", -1, kMaxInt32);
  sampling.no_repeat_ngram_size = reader.integer("noRepeatNgramSize", 0, kMaxInt32);
  const Napi::Array biases = reader.array("logitBias");
  for (uint32_t i = 0; i < biases.Length(); ++i) {
    const ObjectReader entry(biases.Get(i),
                             reader.path("logitBias") + "[" + std::to_string(i) + "]");
    sampling.logit_bias.push_back({static_cast<int32_t>(entry.integer("id", 0, kMaxInt32)),
                                   static_cast<float>(entry.number("bias", -1e9, 1e9))});
  }
  sampling.seed = reader.unsigned_bigint("seed");
  return sampling;
}

}  // namespace

void throw_invalid(const std::string& path, const std::string& expected) {
  throw Error("ERR_INVALID_ARGUMENT", path + " must be " + expected + ".", {{"path", path}});
}

ObjectReader::ObjectReader(Napi::Value value, std::string path) : path_(std::move(path)) {
  if (!value.IsObject()) throw_type(path_, "an object", value);
  object_ = value.As<Napi::Object>();
}

Napi::Value ObjectReader::value(const char* key) const { return object_.Get(key); }

double ObjectReader::number(const char* key, double min, double max) const {
  const Napi::Value found = value(key);
  if (!found.IsNumber()) throw_type(path(key), "a number", found);
  const double number = found.As<Napi::Number>().DoubleValue();
  if (!(number >= min && number <= max)) {  // also refuses NaN
    const auto text = [&](double bound) {
      return Napi::Number::New(found.Env(), bound).ToString().Utf8Value();
    };
    throw_invalid(path(key), "from " + text(min) + " to " + text(max) + ", not " + text(number));
  }
  return number;
}

int64_t ObjectReader::integer(const char* key, int64_t min, int64_t max) const {
  const double found = number(key, static_cast<double>(min), static_cast<double>(max));
  if (found != std::floor(found)) throw_invalid(path(key), "a whole number");
  return static_cast<int64_t>(found);
}

bool ObjectReader::boolean(const char* key) const {
  const Napi::Value found = value(key);
  if (!found.IsBoolean()) throw_type(path(key), "a boolean", found);
  return found.As<Napi::Boolean>().Value();
}

std::string ObjectReader::string(const char* key) const {
  const Napi::Value found = value(key);
  if (!found.IsString()) throw_type(path(key), "a string", found);
  return found.As<Napi::String>().Utf8Value();
}

uint64_t ObjectReader::unsigned_bigint(const char* key) const {
  const Napi::Value found = value(key);
  if (!found.IsBigInt()) throw_type(path(key), "a bigint", found);
  bool lossless = false;
  const uint64_t number = found.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw_invalid(path(key), "from 0 to 2^64 - 1");
  return number;
}

ObjectReader ObjectReader::object(const char* key) const { return {value(key), path(key)}; }

Napi::Array ObjectReader::array(const char* key) const {
  const Napi::Value found = value(key);
  if (!found.IsArray()) throw_type(path(key), "an array", found);
  return found.As<Napi::Array>();
}

std::vector<int32_t> ObjectReader::int32_array(const char* key) const {
  return read_int32_array(value(key), path(key));
}

std::array<double, 3> ObjectReader::triple(const char* key) const {
  const Napi::Array found = array(key);
  if (found.Length() != 3) throw_invalid(path(key), "three numbers");
  std::array<double, 3> numbers{};
  for (uint32_t i = 0; i < 3; ++i) {
    const Napi::Value element = found.Get(i);
    if (!element.IsNumber() || !std::isfinite(element.As<Napi::Number>().DoubleValue())) {
      throw_invalid(path(key), "three finite numbers");
    }
    numbers[i] = element.As<Napi::Number>().DoubleValue();
  }
  return numbers;
}

std::vector<std::string> read_strings(Napi::Value value, const std::string& path) {
  if (!value.IsArray()) throw_type(path, "an array of strings", value);
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    if (!element.IsString()) throw_type(path + "[" + std::to_string(i) + "]", "a string", element);
    strings.push_back(element.As<Napi::String>().Utf8Value());
  }
  return strings;
}

std::vector<int32_t> read_int32_array(Napi::Value value, const std::string& path) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    throw_type(path, "an Int32Array", value);
  }
  const auto array = value.As<Napi::Int32Array>();
  // A detached array has no data; its length is then 0.
  return {array.Data(), array.Data() + array.ElementLength()};
}

DType read_dtype(const ObjectReader& reader, const char* key) {
  const std::string name = reader.string(key);
  if (name == "fp32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "fp16") return DType::kF16;
  throw_invalid(reader.path(key), "'fp32', 'bf16' or 'fp16', not '" + name + "'");
}

StoredQuantization read_stored_quantization(const ObjectReader& reader) {
  const std::string method = reader.string("method");
  if (method != "awq" && method != "gptq") {
    throw_invalid(reader.path("method"), "'awq' or 'gptq', not '" + method + "'");
  }
  StoredQuantization stored;
  stored.method =
      method == "awq" ? StoredQuantization::Method::kAwq : StoredQuantization::Method::kGptq;
  stored.bits = static_cast<int>(reader.integer("bits", 1, 8));
  stored.group_size = reader.integer("groupSize", 0, kMaxInt32);
  stored.zeros_less_one = reader.boolean("zerosLessOne");
  stored.needs_group_index = reader.boolean("needsGroupIndex");
  return stored;
}

ModelConfig read_model_config(const ObjectReader& reader) {
  ModelConfig config;
  config.hidden_size = reader.integer("hiddenSize", 1, kMaxInt32);
  config.intermediate_size = reader.integer("intermediateSize", 1, kMaxInt32);
  config.num_layers = reader.integer("numLayers", 1, kMaxInt32);
  config.num_heads = reader.integer("numHeads", 1, kMaxInt32);
  config.num_kv_heads = reader.integer("numKvHeads", 1, kMaxInt32);
  config.vocab_size = reader.integer("vocabSize", 1, kMaxInt32);
  config.rms_norm_eps = static_cast<float>(reader.number("rmsNormEps", 0, 1));
  config.rope_theta = reader.number("ropeTheta", 1, kMaxFloat);
  const std::array<double, 3> section = reader.triple("mropeSection");
  for (size_t i = 0; i < section.size(); ++i) {
    if (section[i] < 0 || section[i] > 65536 || section[i] != std::floor(section[i])) {
      throw_invalid(reader.path("mropeSection"), "three whole numbers from 0 to 65536");
    }
    config.mrope_section[i] = static_cast<int>(section[i]);
  }
  config.tie_word_embeddings = reader.boolean("tieWordEmbeddings");
  config.image_token_id = static_cast<int32_t>(reader.integer("imageTokenId", 0, kMaxInt32));
  config.video_token_id = static_cast<int32_t>(reader.integer("videoTokenId", 0, kMaxInt32));
  config.vision = read_vision_config(reader.object("vision"));
  config.image_mean = reader.triple("imageMean");
  config.image_std = reader.triple("imageStd");
  config.rescale_factor = reader.number("rescaleFactor", -kMaxFloat, kMaxFloat);
  // Undefined where the checkpoint has no matrices that are stored quantised.
  if (!reader.value("storedQuantization").IsUndefined()) {
    config.stored_quantization = read_stored_quantization(reader.object("storedQuantization"));
  }
  return config;
}

LoadOptions read_load_options(Napi::Value value) {
  const ObjectReader reader(value, "options");
  LoadOptions options;
  options.weight_files = read_strings(reader.value("weightFiles"), reader.path("weightFiles"));
  options.config = read_model_config(reader.object("config"));
  if (!reader.value("cudaDevice").IsNull()) {
    options.cuda_device = static_cast<int>(reader.integer("cudaDevice", 0, 1024));
  }
  options.threads = static_cast<int>(reader.integer("threads", 0, 4096));
  options.instruction_set = reader.string("instructionSet");

  const int64_t kv_tokens = reader.integer("kvCacheTokens", 1, kMaxSafeInteger);
  options.engine.max_context = reader.integer("maxContext", 1, kMaxInt32);
  options.engine.max_sequences = reader.integer("maxSequences", 1, 65536);
  options.engine.max_queue = reader.integer("maxQueue", 0, kMaxInt32);
  options.engine.prefill_chunk = reader.integer("prefillChunk", 1, 65536);
  options.engine.image_cache_bytes = reader.integer("imageCacheBytes", 0, kMaxSafeInteger);

  options.model.num_kv_blocks = (kv_tokens - 1) / kKvBlockTokens + 1;
  if (options.model.num_kv_blocks > kMaxInt32) {
    throw_invalid(reader.path("kvCacheTokens"), "at most 2^31 blocks of 32 tokens");
  }
  options.model.kv_dtype = read_dtype(reader, "kvDtype");
  // A step carries a chunk of prefill beside one token of every decoding sequence.
  options.model.max_step_tokens = options.engine.prefill_chunk + options.engine.max_sequences;
  options.model.convert_weights = reader.string("weightDtype") != "auto";
  if (options.model.convert_weights) options.model.weight_dtype = read_dtype(reader, "weightDtype");
  const std::string weights = reader.string("weights");
  if (weights != "packed" && weights != "mapped") {
    throw_invalid(reader.path("weights"), "'packed' or 'mapped', not '" + weights + "'");
  }
  options.model.map_weights = weights == "mapped";
  options.model.quantization = read_quantization_options(reader);
  return options;
}

GenerationRequest read_generation_request(const ObjectReader& reader) {
  GenerationRequest request;
  request.prompt = reader.int32_array("prompt");
  request.sampling = read_sampling(reader.object("sampling"));
  request.stop_ids = reader.int32_array("stopIds");
  request.max_tokens = reader.integer("maxTokens", 1, kMaxInt32);
  request.priority = static_cast<int32_t>(reader.integer("priority", -kMaxInt32, kMaxInt32));
  request.use_cache = reader.boolean("useCache");
  request.max_draft_tokens = reader.integer("maxDraftTokens", 0, kMaxDraftTokens);
  request.log_probabilities = reader.boolean("logProbabilities");
  request.top_logits = static_cast<int>(reader.integer("topLogits", 0, 1024));
  return request;
}

VisionGrid read_vision_grid(Napi::Value value, const std::string& path) {
  const ObjectReader reader(value, path);
  VisionGrid grid;
  grid.t = reader.integer("t", 1, 1 << 20);
  grid.h = reader.integer("h", 2, 1 << 20);
  grid.w = reader.integer("w", 2, 1 << 20);
  grid.is_video = reader.boolean("isVideo");
  return grid;
}

Napi::Object to_js(Napi::Env env, const EngineMetrics& metrics) {
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* key, int64_t value) {
    object.Set(key, Napi::Number::New(env, static_cast<double>(value)));
  };
  set("running", metrics.running);
  set("waiting", metrics.waiting);
  set("kvBlocksUsed", metrics.kv_blocks_used);
  set("kvBlocksCached", metrics.kv_blocks_cached);
  set("kvBlocksTotal", metrics.kv_blocks_total);
  set("generatedTokens", metrics.generated_tokens);
  set("promptTokens", metrics.prompt_tokens);
  set("cachedPromptTokens", metrics.cached_prompt_tokens);
  set("draftTokens", metrics.draft_tokens);
  set("acceptedDraftTokens", metrics.accepted_draft_tokens);
  set("steps", metrics.steps);
  set("preemptions", metrics.preemptions);
  set("imageCacheHits", metrics.image_cache.hits);
  set("imageCacheMisses", metrics.image_cache.misses);
  set("imageCacheImages", metrics.image_cache.images);
  set("imageCacheBytes", metrics.image_cache.bytes);
  return object;
}

Napi::Object to_js(Napi::Env env, const GenerationStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* key, double value) {
    object.Set(key, Napi::Number::New(env, value));
  };
  set("promptTokens", static_cast<double>(stats.prompt_tokens));
  set("cachedTokens", static_cast<double>(stats.cached_tokens));
  set("completionTokens", static_cast<double>(stats.completion_tokens));
  set("draftTokens", static_cast<double>(stats.draft_tokens));
  set("acceptedDraftTokens", static_cast<double>(stats.accepted_draft_tokens));
  set("queueMs", stats.queue_ms);
  set("visionMs", stats.vision_ms);
  set("prefillMs", stats.prefill_ms);
  set("firstTokenMs", stats.first_token_ms);
  set("decodeMs", stats.decode_ms);
  Napi::Array reused = Napi::Array::New(env, stats.reused_items.size());
  for (uint32_t i = 0; i < stats.reused_items.size(); ++i) {
    reused.Set(i, Napi::Boolean::New(env, stats.reused_items[i]));
  }
  object.Set("reusedItems", reused);
  return object;
}

Napi::Object to_js(Napi::Env env, const DeviceInfo& device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", device.kind);
  object.Set("name", device.name);
  object.Set("instructionSet", device.instruction_set);
  object.Set("threads", device.threads);
  if (device.memory_bytes > 0) {
    object.Set("memoryBytes", static_cast<double>(device.memory_bytes));
  }
  return object;
}

Napi::Object to_js(Napi::Env env, const MropePositions& positions) {
  const size_t tokens = positions.t.size();
  Napi::Int32Array rows = Napi::Int32Array::New(env, 3 * tokens);  // [3, tokens]
  std::copy(positions.t.begin(), positions.t.end(), rows.Data());
  std::copy(positions.h.begin(), positions.h.end(), rows.Data() + tokens);
  std::copy(positions.w.begin(), positions.w.end(), rows.Data() + 2 * tokens);
  Napi::Object object = Napi::Object::New(env);
  object.Set("positions", rows);
  object.Set("delta", positions.delta);
  return object;
}

Napi::Array to_js(Napi::Env env, const Checkpoint& checkpoint) {
  Napi::Array table = Napi::Array::New(env, checkpoint.tensors().size());
  uint32_t index = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    Napi::Array shape = Napi::Array::New(env, tensor.shape.size());
    for (uint32_t i = 0; i < tensor.shape.size(); ++i) {
      shape.Set(i, static_cast<double>(tensor.shape[i]));
    }
    Napi::Object row = Napi::Object::New(env);
    row.Set("name", name);
    row.Set("dtype", tensor.dtype);
    row.Set("shape", shape);
    row.Set("offset", static_cast<double>(tensor.begin));
    row.Set("bytes", static_cast<double>(tensor.end - tensor.begin));
    row.Set("file", checkpoint.files()[static_cast<size_t>(tensor.file)]);
    table.Set(index++, row);
  }
  return table;
}

Napi::Object to_js(Napi::Env env, const TokenOutput& token) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", "token");
  object.Set("id", token.id);
  object.Set("logit", token.logit);
  object.Set("logSumExp", token.log_sum_exp);
  if (token.top_logits.empty()) return object;
  Napi::Array top = Napi::Array::New(env, token.top_logits.size());
  for (uint32_t i = 0; i < token.top_logits.size(); ++i) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("id", token.top_logits[i].id);
    entry.Set("logit", token.top_logits[i].logit);
    top.Set(i, entry);
  }
  object.Set("topLogits", top);
  return object;
}

Napi::String to_js(Napi::Env env, FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return Napi::String::New(env, "stop");
    case FinishReason::kLength:
      return Napi::String::New(env, "length");
    case FinishReason::kCancelled:
      break;
  }
  return Napi::String::New(env, "cancelled");
}

}  // namespace qvl::addon
