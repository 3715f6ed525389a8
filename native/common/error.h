#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace qvl {

/// The one exception type of the native code. Thrown anywhere below the addon, caught at its edge
/// and turned into a rejected promise whose error has the same `code` and `details`.
///
/// `code` is one of the stable strings that `lib/errors.ts` maps to classes (`ERR_CHECKPOINT_*`,
/// `ERR_OUT_OF_MEMORY`, ...). The message says what was found, what was expected and the way out.
class Error : public std::runtime_error {
 public:
  using Detail = std::pair<std::string, std::variant<std::string, int64_t>>;

  Error(std::string code, const std::string& message, std::vector<Detail> details = {})
      : std::runtime_error(message), code_(std::move(code)), details_(std::move(details)) {}

  const std::string& code() const { return code_; }
  const std::vector<Detail>& details() const { return details_; }

 private:
  std::string code_;
  std::vector<Detail> details_;
};

}  // namespace qvl
