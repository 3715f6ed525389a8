#include "addon/errors.h"

#include <new>
#include <string>
#include <variant>

#include "common/cancellation.h"
#include "common/error.h"

namespace qvl::addon {
namespace {

std::string camel_case(const std::string& snake_case) {
  std::string name;
  bool upper = false;
  for (const char c : snake_case) {
    if (c == '_') {
      upper = true;
    } else {
      name += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      upper = false;
    }
  }
  return name;
}

Napi::Error make_error(Napi::Env env, const std::string& code, const std::string& message,
                       const std::vector<Error::Detail>& details = {}) {
  Napi::Error error = Napi::Error::New(env, message);
  Napi::Object fields = Napi::Object::New(env);
  for (const auto& [key, value] : details) {
    if (const auto* text = std::get_if<std::string>(&value)) {
      fields.Set(camel_case(key), Napi::String::New(env, *text));
    } else {
      const auto number = static_cast<double>(std::get<int64_t>(value));
      fields.Set(camel_case(key), Napi::Number::New(env, number));
    }
  }
  error.Value().Set("code", Napi::String::New(env, code));
  error.Value().Set("details", fields);
  return error;
}

}  // namespace

Napi::Error to_js_error(Napi::Env env, std::exception_ptr exception) {
  try {
    std::rethrow_exception(std::move(exception));
  } catch (const Error& error) {
    return make_error(env, error.code(), error.what(), error.details());
  } catch (const Cancelled&) {
    return make_error(env, "ERR_ABORTED", "The operation was cancelled.");
  } catch (const std::bad_alloc&) {
    return make_error(env, "ERR_OUT_OF_MEMORY",
                      "The system has no memory left for this. Free memory, or use smaller images, "
                      "a smaller context or fewer concurrent requests.");
  } catch (const std::exception& error) {
    return make_error(env, "ERR_INTERNAL",
                      std::string("The native code failed: ") + error.what() +
                          ". This is a defect of qwen2-vl; please report it.");
  } catch (...) {
    return make_error(env, "ERR_INTERNAL",
                      "The native code failed without saying why. This is a defect of qwen2-vl; "
                      "please report it.");
  }
}

}  // namespace qvl::addon
