#pragma once

#include <stdexcept>
#include <string>

namespace qvl::sim {

/// What a kernel did wrong, or what the simulator does not know; the launch ends with it.
struct KernelError : std::runtime_error {
  enum class Kind { kLaunchFailed, kIllegalAddress };
  explicit KernelError(const std::string& what, Kind of = Kind::kLaunchFailed)
      : std::runtime_error(what), kind(of) {}
  Kind kind;
};

/// PTX that the simulator cannot run: an unknown instruction is never skipped.
struct UnsupportedPtx : std::runtime_error {
  explicit UnsupportedPtx(const std::string& what)
      : std::runtime_error("the PTX simulator does not support: " + what) {}
};

}  // namespace qvl::sim
