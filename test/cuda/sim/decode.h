#pragma once

// From a statement of PTX to the struct the interpreter runs.

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "parser.h"
#include "program.h"

namespace qvl::sim {

/// Names that a statement can use: registers by scope, symbols with their addresses.
class Names {
 public:
  explicit Names(Program& program) : program_(program) { enter(); }

  void enter() { scopes_.emplace_back(); }
  void leave() { scopes_.pop_back(); }
  /// ".reg .b32 %r<12>" or ".reg .pred p, q".
  void declare(const std::string& declaration);
  void define_symbol(const std::string& name, uint64_t value) { symbols_[name] = value; }

  struct Register {
    Operand at;
    Type type;
  };
  Register reg(const std::string& name);
  /// A value of `bytes` (4 or 8; 0 for a predicate): a register, a special one, an immediate or a
  /// symbol's address.
  Operand source(const std::string& text, int bytes);
  /// A register to write; "_" is one that nobody reads.
  Operand destination(const std::string& text, int bytes);
  bool is_register(const std::string& text) const;
  /// Width of a named value: of a register its own, of anything else `otherwise`.
  int width(const std::string& text, int otherwise);
  Operand constant(uint64_t value, int bytes);

 private:
  struct Scope {
    std::map<std::string, Type> declared;  // whole names, and prefixes of numbered ones
    std::map<std::string, Register> placed;
  };
  Scope* scope_of(const std::string& name, Type* type);
  Operand place(int bytes);

  Program& program_;
  std::vector<Scope> scopes_;
  std::map<std::string, uint64_t> symbols_;
  std::map<std::pair<uint64_t, int>, Operand> constants_;
  std::map<int, Operand> sinks_;
};

/// Throws UnsupportedPtx naming the instruction. Branch targets are left in `text`'s operand for
/// the caller, who knows the labels.
Instruction decode(const Statement& statement, Names& names);

/// Arithmetic instructions that treat lanes alone: a handler and the widths of its operands.
struct Arithmetic {
  Handler handler;
  std::string shape;  // "r:rr": r = up to 32 bits, d = 64 bits, p = predicate
};
using ArithmeticTable = std::map<std::string, Arithmetic>;
/// All of them, by mnemonic without the modifiers that only relax exactness.
const ArithmeticTable& arithmetic();
void add_integer_arithmetic(ArithmeticTable& table);
void add_float_arithmetic(ArithmeticTable& table);
void add_comparisons(ArithmeticTable& table);
/// nullptr when there is no such conversion.
Handler conversion_handler(Type to, Type from);
/// cvt of two F32 into a pair of bf16, or of f16.
Handler pair_conversion_handler(bool bf16);

/// Handlers of everything else, in memory_ops.cpp and warp_ops.cpp.
namespace ops {
Handler load(int bytes, bool is_signed, bool wide);
Handler store(int bytes, bool wide);
void pack(Warp& w, const Instruction& in, uint32_t mask);
void unpack(Warp& w, const Instruction& in, uint32_t mask);
void convert_address(Warp& w, const Instruction& in, uint32_t mask);
Handler atomic(const std::string& operation, Type type);
void copy_async(Warp& w, const Instruction& in, uint32_t mask);
void commit_copies(Warp& w, const Instruction& in, uint32_t mask);
void wait_copies(Warp& w, const Instruction& in, uint32_t mask);
void nothing(Warp& w, const Instruction& in, uint32_t mask);
void trap(Warp& w, const Instruction& in, uint32_t mask);
void active_mask(Warp& w, const Instruction& in, uint32_t mask);
void wait_for_predecessor(Warp& w, const Instruction& in, uint32_t mask);
void sync_warp(Warp& w, const Instruction& in, uint32_t mask);
void shuffle(Warp& w, const Instruction& in, uint32_t mask);
void vote(Warp& w, const Instruction& in, uint32_t mask);
void match_any(Warp& w, const Instruction& in, uint32_t mask);
Handler reduce(const std::string& operation, Type type);
void load_matrix(Warp& w, const Instruction& in, uint32_t mask);
void mma_bf16(Warp& w, const Instruction& in, uint32_t mask);
void mma_f16(Warp& w, const Instruction& in, uint32_t mask);
}  // namespace ops

}  // namespace qvl::sim
