#pragma once

// A kernel of a PTX module, decoded once: what the interpreter runs.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace qvl::sim {

inline constexpr int kLanes = 32;

struct Warp;
struct Instruction;

/// Performs an instruction for the lanes of `mask`.
using Handler = void (*)(Warp& warp, const Instruction& in, uint32_t mask);

/// Where an operand lies: a byte offset into the warp's registers, or with kConstant into the
/// kernel's pool of immediates. 32 lanes of 4 bytes (types up to 32 bits, zero-extended), of 8
/// bytes, or, for a predicate, one word with a bit a lane.
using Operand = uint32_t;
inline constexpr Operand kConstant = 0x8000'0000u;
inline constexpr Operand kNone = 0xffff'ffffu;

inline constexpr int kMaskOperand = 10;

enum class Step : uint8_t {
  kRun,  // lanes are independent: call the handler
  kBranch,
  kExit,
  kBarrier,    // bar.sync
  kCollective  // waits for the lanes of its mask, then calls the handler
};

enum class Space : uint8_t { kGeneric, kGlobal, kShared, kLocal, kParam, kConst };

struct Instruction {
  Handler handler = nullptr;
  Step step = Step::kRun;
  Space space = Space::kGeneric;
  uint8_t vector = 1;         // elements of a load or store
  uint8_t bytes = 0;          // size of an element
  bool is_signed = false;     // loads extend the sign
  bool negated = false;       // of the guard
  bool wide_address = false;  // the address register has 64 bits
  bool wide_value = false;    // value registers have 64 bits
  bool negated_source = false;
  bool ordering = false;  // an atomic that acquires and releases
  uint8_t variant = 0;    // rounding, comparison, mode of a shuffle
  bool saturate = false, relu = false, flush = false;
  bool wide_result = false;  // a conversion's register is wider than its type: 64 bits
  bool to_32_bits = false;   // ... or 32
  Operand guard = kNone;
  Operand dst[4] = {kNone, kNone, kNone, kNone};
  // The last one is the mask of a collective.
  Operand src[11] = {kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  Operand address = kNone, address2 = kNone;
  int64_t offset = 0, offset2 = 0;
  int target = -1;  // of a branch
  int family = 0;   // index into Program::families
  int file = 0, line = 0;
  std::string text;
};

struct Parameter {
  std::string name;
  size_t bytes = 0, offset = 0;
};

/// One entry point.
struct Program {
  std::string name;
  std::vector<Instruction> code;
  std::vector<Parameter> parameters;
  size_t parameter_bytes = 0;
  size_t register_bytes = 0;
  size_t local_bytes = 0;  // of a thread
  std::vector<unsigned char> constants;
  Operand special[16] = {};  // registers of %tid.x ..., kNone when not used
  int max_threads = 1024;
  int shared_granule = 4;             // bytes: no access to shared memory is smaller
  std::vector<std::string> families;  // mnemonics without their modifiers
  std::shared_ptr<const std::map<int, std::string>> files;

  /// "gemv.cuh:71 (ld.shared.v4.u32)"
  std::string describe(const Instruction& in) const;
};

/// Special registers, in the order of Program::special.
enum Special {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaX,
  kCtaY,
  kCtaZ,
  kNctaX,
  kNctaY,
  kNctaZ,
  kLaneId,
  kWarpId,
  kSpecials
};

/// A PTX file.
class PtxModule {
 public:
  /// Throws UnsupportedPtx.
  explicit PtxModule(const std::string& text);
  const Program* find(const std::string& entry) const;
  const std::map<std::string, Program>& programs() const { return programs_; }

 private:
  std::map<std::string, Program> programs_;
};

/// Bytes of modules' constants: the address of `data`, which is kept for the process's life.
uint64_t place_constant(const std::vector<unsigned char>& data);
const unsigned char* constant_host(uint64_t at, size_t bytes);

}  // namespace qvl::sim
