#include "addon/quantize.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "addon/async.h"
#include "addon/convert.h"
#include "model/quantize_matrix.h"

namespace qvl::addon {
namespace {

constexpr int64_t kMaxWidth = 1 << 24;

template <class Number>
Napi::Uint8Array to_bytes(Napi::Env env, const std::vector<Number>& numbers) {
  const size_t size = numbers.size() * sizeof(Number);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, size);
  if (size > 0) std::memcpy(bytes.Data(), numbers.data(), size);
  return bytes;
}

}  // namespace

Napi::Value quantize_matrix(const Napi::CallbackInfo& info) {
  const ObjectReader reader(info[0], "matrix");
  const Napi::Value data = reader.value("data");
  if (!data.IsTypedArray() || data.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw_invalid(reader.path("data"), "a Uint8Array");
  }
  const auto bytes = data.As<Napi::Uint8Array>();
  const DType dtype = read_dtype(reader, "dtype");
  const int64_t rows = reader.integer("rows", 1, kMaxWidth);
  const int64_t cols = reader.integer("cols", 1, kMaxWidth);
  const StoredQuantization format = read_stored_quantization({info[1], "storedQuantization"});
  const auto size = static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) * dtype_size(dtype);
  if (bytes.ByteLength() != size) throw_invalid(reader.path("data"), "rows * cols numbers");
  if (format.bits != 4 && format.bits != 8) throw_invalid("storedQuantization.bits", "4 or 8");
  const int64_t per_word = 32 / format.bits;
  if (rows % per_word != 0 || cols % per_word != 0) {
    throw_invalid("matrix", "rows and cols that fill words of " + std::to_string(per_word));
  }

  // The reference keeps the caller's bytes alive, and uncopied, until the promise is settled.
  auto keep_alive = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(bytes));
  return run_async<QuantizedMatrix>(
      info.Env(), "qwen2-vl.quantizeMatrix",
      [from = bytes.Data(), dtype, rows, cols, format] {
        return qvl::quantize_matrix(from, dtype, rows, cols, format);
      },
      [keep_alive](Napi::Env env, const QuantizedMatrix& matrix) {
        Napi::Object object = Napi::Object::New(env);
        object.Set("qweight", to_bytes(env, matrix.qweight));
        object.Set("qzeros", to_bytes(env, matrix.qzeros));
        object.Set("scales", to_bytes(env, matrix.scales));
        return object;
      });
}

}  // namespace qvl::addon
