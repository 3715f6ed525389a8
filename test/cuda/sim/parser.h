#pragma once

// The text of PTX: statements, scopes, declarations. What an instruction means is decode.h's.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "program.h"

namespace qvl::sim {

/// A type of PTX: 'b'its, 'u'nsigned, 's'igned, 'f'loat, 'h' bf16, 'p'redicate; packed pairs count
/// as 'b'.
struct Type {
  char kind = 0;
  int bytes = 0;
};
/// Type{0, 0} for what is no type.
Type type_named(std::string_view name);

std::string strip(std::string_view text);
/// Splits at `by` outside brackets and braces.
std::vector<std::string> split(std::string_view text, char by);

/// An instruction as written: "@!%p1 ld.global.v2.u32 {%r1, %r2}, [%rd1+8]" in its parts.
struct Statement {
  std::string guard;  // "%p1"
  bool negated = false;
  std::string mnemonic;            // "ld.global.v2.u32"
  std::vector<std::string> words;  // its parts between dots
  std::vector<std::string> operands;
  bool has(std::string_view word) const;
};
Statement parse_statement(const std::string& text);

}  // namespace qvl::sim
