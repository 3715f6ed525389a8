#include "decode.h"

#include <algorithm>

#include "error.h"
#include "rounding.h"
#include "warp_ops.h"

namespace qvl::sim {
namespace {

[[noreturn]] void unsupported(const Statement& s) { throw UnsupportedPtx(s.mnemonic); }

int width_of(char shape) { return shape == 'd' ? 8 : shape == 'p' ? 0 : 4; }

std::vector<std::string> elements(const std::string& operand) {
  if (operand[0] != '{') return {operand};
  return split(operand.substr(1, operand.size() - 2), ',');
}

Type last_type(const Statement& s) { return type_named(s.words.back()); }

// "[%rd1+8]"
void set_address(const std::string& operand, Names& names, Operand* at, int64_t* offset,
                 bool* wide) {
  if (operand[0] != '[') throw UnsupportedPtx("address " + operand);
  const std::string inside = strip(operand.substr(1, operand.size() - 2));
  const size_t plus = inside.find('+');
  const std::string base = strip(inside.substr(0, plus));
  if (plus != std::string::npos) *offset = std::stoll(inside.substr(plus + 1), nullptr, 0);
  const int width = names.width(base, 8);
  *wide = width == 8;
  *at = names.source(base, width);
}

Space space_of(const Statement& s) {
  for (const std::string& w : s.words) {
    if (w == "global") return Space::kGlobal;
    if (w == "shared" || w == "shared::cta") return Space::kShared;
    if (w == "local") return Space::kLocal;
    if (w == "param" || w == "param::entry") return Space::kParam;
    if (w == "const") return Space::kConst;
  }
  return Space::kGeneric;
}

void decode_memory(const Statement& s, Names& names, Instruction& in) {
  const bool is_load = s.words[0] == "ld" || s.words[0] == "ldu";
  const Type type = last_type(s);
  if (type.kind == 0 || type.kind == 'p' || type.bytes > 8) unsupported(s);
  in.space = space_of(s);
  in.bytes = static_cast<uint8_t>(type.bytes);
  in.is_signed = type.kind == 's';
  in.vector = s.has("v4") ? 4 : s.has("v2") ? 2 : 1;
  if (s.has("v8")) unsupported(s);
  set_address(s.operands.at(is_load ? 1 : 0), names, &in.address, &in.offset, &in.wide_address);
  const auto values = elements(s.operands.at(is_load ? 0 : 1));
  if (values.size() != in.vector) unsupported(s);
  int width = type.bytes == 8 ? 8 : 4;
  for (const auto& v : values) width = std::max(width, names.width(v, width));
  in.wide_value = width == 8;
  for (size_t i = 0; i < values.size(); ++i) {
    if (is_load) {
      in.dst[i] = names.destination(values[i], width);
    } else {
      in.src[i] = names.source(values[i], width);
    }
  }
  in.handler = is_load ? ops::load(type.bytes, in.is_signed, in.wide_value)
                       : ops::store(type.bytes, in.wide_value);
}

// mov of a tuple into a register, or of a register into a tuple.
bool decode_tuple_move(const Statement& s, Names& names, Instruction& in) {
  const bool packs = s.operands.at(1)[0] == '{', unpacks = s.operands.at(0)[0] == '{';
  if (!packs && !unpacks) return false;
  const int bytes = last_type(s).bytes;
  const auto parts = elements(s.operands[packs ? 1 : 0]);
  in.bytes = static_cast<uint8_t>(bytes / static_cast<int>(parts.size()));
  in.vector = static_cast<uint8_t>(parts.size());
  if (in.bytes > 4 || parts.size() > 4) unsupported(s);
  in.wide_value = bytes == 8;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (packs) {
      in.src[i] = names.source(parts[i], 4);
    } else {
      in.dst[i] = names.destination(parts[i], 4);
    }
  }
  if (packs) {
    in.dst[0] = names.destination(s.operands[0], bytes == 8 ? 8 : 4);
  } else {
    in.src[0] = names.source(s.operands[1], bytes == 8 ? 8 : 4);
  }
  in.handler = packs ? ops::pack : ops::unpack;
  return true;
}

void decode_conversion(const Statement& s, Names& names, Instruction& in) {
  static const std::map<std::string, int> kRoundings = {
      {"rn", kNearest},      {"rna", -1},           {"rz", kZero},
      {"rm", kDown},         {"rp", kUp},           {"rni", kNearestInteger},
      {"rzi", kZeroInteger}, {"rmi", kDownInteger}, {"rpi", kUpInteger}};
  for (size_t i = 1; i + 2 < s.words.size(); ++i) {
    const std::string& w = s.words[i];
    if (const auto it = kRoundings.find(w); it != kRoundings.end() && it->second >= 0) {
      in.variant = static_cast<uint8_t>(it->second);
    } else if (w == "sat") {
      in.saturate = true;
    } else if (w == "relu") {
      in.relu = true;
    } else if (w == "ftz") {
      in.flush = true;
    } else {
      unsupported(s);
    }
  }
  const std::string& to_name = s.words[s.words.size() - 2];
  const Type to = type_named(to_name), from = last_type(s);
  if (to_name == "bf16x2" || to_name == "f16x2") {
    if (from.kind != 'f' || from.bytes != 4 || in.variant != kNearest) unsupported(s);
    in.dst[0] = names.destination(s.operands.at(0), 4);
    in.src[0] = names.source(s.operands.at(1), 4);
    in.src[1] = names.source(s.operands.at(2), 4);
    in.handler = pair_conversion_handler(to_name == "bf16x2");
    return;
  }
  in.handler = conversion_handler(to, from);
  const bool narrow = to.kind == 'h' || (to.kind == 'f' && to.bytes == 2);
  if (!in.handler || (narrow && in.variant > kZero)) unsupported(s);
  if (to.kind == 'f' && to.bytes == 2 && in.variant == kZero) unsupported(s);
  const int to_width = names.width(s.operands.at(0), 4);
  in.wide_result = to.bytes < 8 && to_width == 8;
  in.to_32_bits = to.bytes < 4 && to_width == 4 && names.reg(s.operands[0]).type.bytes == 4;
  in.dst[0] = names.destination(s.operands[0], to_width);
  const int from_width = names.width(s.operands.at(1), from.bytes == 8 ? 8 : 4);
  in.wide_value = from_width == 8;
  in.src[0] = names.source(s.operands[1], from_width);
}

void decode_arithmetic(const Statement& s, Names& names, Instruction& in) {
  // Modifiers that say how exact a result must be at least: here it always is to the nearest.
  std::string key = s.words[0];
  const bool is_compare = key == "setp";
  if (is_compare) key += "." + s.words.at(1) + (s.has("ftz") ? ".ftz" : "");
  for (size_t i = is_compare ? 2 : 1; i < s.words.size(); ++i) {
    const std::string& w = s.words[i];
    if (w == "rn" || w == "approx" || w == "full" || (is_compare && w == "ftz")) continue;
    key += "." + w;
  }
  const auto it = arithmetic().find(key);
  if (it == arithmetic().end()) unsupported(s);
  const std::string& shape = it->second.shape;
  const size_t sources = shape.size() - 2;
  if (s.operands.size() != sources + 1) unsupported(s);
  if (s.operands[0].find('|') != std::string::npos) unsupported(s);
  in.handler = it->second.handler;
  in.dst[0] = names.destination(s.operands[0], width_of(shape[0]));
  for (size_t i = 0; i < sources; ++i) {
    std::string operand = s.operands[i + 1];
    if (operand[0] == '!') unsupported(s);
    in.src[i] = names.source(operand, width_of(shape[i + 2]));
  }
}

void decode_shuffle(const Statement& s, Names& names, Instruction& in) {
  if (!s.has("sync")) unsupported(s);
  in.step = Step::kCollective;
  in.handler = ops::shuffle;
  in.variant = static_cast<uint8_t>(s.has("bfly")   ? ShuffleMode::kButterfly
                                    : s.has("idx")  ? ShuffleMode::kIndex
                                    : s.has("down") ? ShuffleMode::kDown
                                                    : ShuffleMode::kUp);
  const auto results = split(s.operands.at(0), '|');
  in.dst[0] = names.destination(results[0], 4);
  in.dst[1] = names.destination(results.size() > 1 ? results[1] : "_", 0);
  for (int i = 0; i < 3; ++i) in.src[i] = names.source(s.operands.at(1 + i), 4);
  in.src[kMaskOperand] = names.source(s.operands.at(4), 4);
}

void decode_vote(const Statement& s, Names& names, Instruction& in) {
  if (!s.has("sync")) unsupported(s);
  in.step = Step::kCollective;
  in.handler = ops::vote;
  in.variant = static_cast<uint8_t>(s.has("ballot") ? VoteMode::kBallot
                                    : s.has("all")  ? VoteMode::kAll
                                    : s.has("any")  ? VoteMode::kAny
                                                    : VoteMode::kUniform);
  in.dst[0] = names.destination(s.operands.at(0), s.has("ballot") ? 4 : 0);
  std::string p = s.operands.at(1);
  in.negated_source = p[0] == '!';
  in.src[0] = names.source(in.negated_source ? p.substr(1) : p, 0);
  in.src[kMaskOperand] = names.source(s.operands.at(2), 4);
}

void decode_match(const Statement& s, Names& names, Instruction& in) {
  if (!s.has("any") || !s.has("b32")) unsupported(s);
  in.step = Step::kCollective;
  in.handler = ops::match_any;
  in.dst[0] = names.destination(s.operands.at(0), 4);
  in.src[0] = names.source(s.operands.at(1), 4);
  in.src[kMaskOperand] = names.source(s.operands.at(2), 4);
}

void decode_reduce(const Statement& s, Names& names, Instruction& in) {
  in.step = Step::kCollective;
  in.handler = ops::reduce(s.words.at(2), last_type(s));
  if (!in.handler || s.words.size() != 4) unsupported(s);
  in.dst[0] = names.destination(s.operands.at(0), 4);
  in.src[0] = names.source(s.operands.at(1), 4);
  in.src[kMaskOperand] = names.source(s.operands.at(2), 4);
}

void decode_mma(const Statement& s, Names& names, Instruction& in) {
  static const std::map<std::string, Handler> kShapes = {
      {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", ops::mma_bf16},
      {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", ops::mma_f16}};
  const auto it = kShapes.find(s.mnemonic);
  if (it == kShapes.end()) unsupported(s);
  in.step = Step::kCollective;
  in.handler = it->second;
  const auto d = elements(s.operands.at(0));
  if (d.size() != 4) unsupported(s);
  for (int i = 0; i < 4; ++i) in.dst[i] = names.destination(d[i], 4);
  int at = 0;
  for (int operand = 1; operand <= 3; ++operand)
    for (const auto& r : elements(s.operands.at(operand))) {
      if (at == kMaskOperand) unsupported(s);
      in.src[at++] = names.source(r, 4);
    }
  if (at != 10) unsupported(s);
  in.src[kMaskOperand] = names.constant(~0u, 4);
}

void decode_load_matrix(const Statement& s, Names& names, Instruction& in) {
  if (!s.has("m8n8") || !s.has("b16")) unsupported(s);
  in.step = Step::kCollective;
  in.handler = ops::load_matrix;
  in.space = Space::kShared;
  in.vector = s.has("x4") ? 4 : s.has("x2") ? 2 : 1;
  in.bytes = 16;
  in.variant = s.has("trans");
  const auto d = elements(s.operands.at(0));
  if (d.size() != in.vector) unsupported(s);
  for (size_t i = 0; i < d.size(); ++i) in.dst[i] = names.destination(d[i], 4);
  set_address(s.operands.at(1), names, &in.address, &in.offset, &in.wide_address);
  in.src[kMaskOperand] = names.constant(~0u, 4);
}

void decode_copy(const Statement& s, Names& names, Instruction& in) {
  if (s.words.size() < 3 || s.words[1] != "async" || s.words[2] == "bulk" ||
      s.words[2] == "mbarrier")
    unsupported(s);
  if (s.has("commit_group")) {
    in.handler = ops::commit_copies;
  } else if (s.has("wait_group") || s.has("wait_all")) {
    in.handler = ops::wait_copies;
    in.variant = s.has("wait_all");
    in.src[0] = s.has("wait_all") ? names.constant(0, 4) : names.source(s.operands.at(0), 4);
  } else if (s.has("ca") || s.has("cg")) {
    in.handler = ops::copy_async;
    in.space = Space::kShared;
    set_address(s.operands.at(0), names, &in.address, &in.offset, &in.wide_address);
    bool wide = true;
    set_address(s.operands.at(1), names, &in.address2, &in.offset2, &wide);
    if (!wide) unsupported(s);
    in.bytes = static_cast<uint8_t>(std::stoi(s.operands.at(2)));
    in.src[0] =
        s.operands.size() > 3 ? names.source(s.operands[3], 4) : names.constant(in.bytes, 4);
    if (s.operands.size() > 4) unsupported(s);
  } else {
    unsupported(s);
  }
}

void decode_barrier(const Statement& s, Names& names, Instruction& in) {
  if (s.has("warp")) {
    in.step = Step::kCollective;
    in.handler = ops::sync_warp;
    in.src[kMaskOperand] = names.source(s.operands.at(0), 4);
    return;
  }
  if (s.has("red") || s.has("cluster") || !(s.has("sync") || s.has("arrive"))) unsupported(s);
  if (s.has("arrive") && s.operands.size() < 2) unsupported(s);
  in.step = Step::kBarrier;
  in.variant = s.has("arrive");
  in.src[0] = names.source(s.operands.at(0), 4);
  if (s.operands.size() > 1) in.src[1] = names.source(s.operands[1], 4);
}

void decode_atomic(const Statement& s, Names& names, Instruction& in) {
  static const char* const kOperations[] = {"add", "min",  "max", "and", "or",
                                            "xor", "exch", "cas", "inc", "dec"};
  const bool returns = s.words[0] == "atom";
  std::string operation;
  for (const char* name : kOperations)
    if (s.has(name)) operation = name;
  const Type type = last_type(s);
  in.handler = ops::atomic(operation, type);
  if (!in.handler || s.has("noftz")) unsupported(s);
  in.space = space_of(s);
  in.bytes = static_cast<uint8_t>(type.bytes);
  in.ordering = s.has("acq_rel");
  if (s.has("acquire") || s.has("release")) unsupported(s);
  const int width = type.bytes == 8 ? 8 : 4;
  in.dst[0] = names.destination(returns ? s.operands.at(0) : "_", width);
  const size_t first = returns ? 1 : 0;
  set_address(s.operands.at(first), names, &in.address, &in.offset, &in.wide_address);
  for (size_t i = first + 1; i < s.operands.size(); ++i)
    in.src[i - first - 1] = names.source(s.operands[i], width);
}

void decode_address_conversion(const Statement& s, Names& names, Instruction& in) {
  in.space = space_of(s);
  in.variant = s.has("to");
  if (last_type(s).bytes != 8) unsupported(s);
  in.dst[0] = names.destination(s.operands.at(0), 8);
  in.src[0] = names.source(s.operands.at(1), 8);
  in.handler = ops::convert_address;
}

using Decoder = void (*)(const Statement&, Names&, Instruction&);
const std::map<std::string, Decoder>& decoders() {
  static const std::map<std::string, Decoder> kDecoders = {
      {"ld", decode_memory},       {"ldu", decode_memory},
      {"st", decode_memory},       {"cvt", decode_conversion},
      {"shfl", decode_shuffle},    {"vote", decode_vote},
      {"match", decode_match},     {"redux", decode_reduce},
      {"mma", decode_mma},         {"ldmatrix", decode_load_matrix},
      {"cp", decode_copy},         {"bar", decode_barrier},
      {"barrier", decode_barrier}, {"atom", decode_atomic},
      {"red", decode_atomic},      {"cvta", decode_address_conversion}};
  return kDecoders;
}

}  // namespace

const ArithmeticTable& arithmetic() {
  static const ArithmeticTable kTable = [] {
    ArithmeticTable t;
    add_integer_arithmetic(t);
    add_float_arithmetic(t);
    add_comparisons(t);
    return t;
  }();
  return kTable;
}

Instruction decode(const Statement& s, Names& names) {
  Instruction in;
  if (!s.guard.empty()) {
    in.guard = names.source(s.guard, 0);
    in.negated = s.negated;
  }
  const std::string& base = s.words[0];
  if (const auto it = decoders().find(base); it != decoders().end()) {
    it->second(s, names, in);
  } else if (base == "bra") {
    in.step = Step::kBranch;
  } else if (base == "ret" || base == "exit") {
    in.step = Step::kExit;
  } else if (base == "membar" || base == "fence" || base == "prefetch" || base == "prefetchu" ||
             base == "nanosleep" || base == "discard") {
    // Fences order what is sequential here; prefetches and pauses have no result.
    in.handler = ops::nothing;
  } else if (base == "griddepcontrol") {
    in.handler = s.has("wait") ? ops::wait_for_predecessor : ops::nothing;
  } else if (base == "trap" || base == "brkpt") {
    in.handler = ops::trap;
  } else if (base == "activemask") {
    in.handler = ops::active_mask;
    in.dst[0] = names.destination(s.operands.at(0), 4);
  } else if (!(base == "mov" && decode_tuple_move(s, names, in))) {
    decode_arithmetic(s, names, in);
  }
  return in;
}

}  // namespace qvl::sim
