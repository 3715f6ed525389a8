#include "parser.h"

#include <algorithm>
#include <cctype>
#include <mutex>

#include "decode.h"
#include "error.h"
#include "memory.h"

namespace qvl::sim {

Type type_named(std::string_view name) {
  static const std::map<std::string_view, Type> kTypes = {
      {"pred", {'p', 0}}, {"b8", {'b', 1}},    {"b16", {'b', 2}},    {"b32", {'b', 4}},
      {"b64", {'b', 8}},  {"u8", {'u', 1}},    {"u16", {'u', 2}},    {"u32", {'u', 4}},
      {"u64", {'u', 8}},  {"s8", {'s', 1}},    {"s16", {'s', 2}},    {"s32", {'s', 4}},
      {"s64", {'s', 8}},  {"f16", {'f', 2}},   {"f32", {'f', 4}},    {"f64", {'f', 8}},
      {"bf16", {'h', 2}}, {"f16x2", {'b', 4}}, {"bf16x2", {'b', 4}}, {"b128", {'b', 16}}};
  const auto it = kTypes.find(name);
  return it == kTypes.end() ? Type{} : it->second;
}

std::string strip(std::string_view text) {
  const size_t a = text.find_first_not_of(" \t\n\r");
  if (a == std::string_view::npos) return "";
  return std::string(text.substr(a, text.find_last_not_of(" \t\n\r") - a + 1));
}

std::vector<std::string> split(std::string_view text, char by) {
  std::vector<std::string> parts;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    depth += (c == '{') + (c == '[') - (c == '}') - (c == ']');
    if (c == by && depth == 0) {
      parts.push_back(strip(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  std::string last = strip(text.substr(begin));
  if (!last.empty()) parts.push_back(std::move(last));
  return parts;
}

bool Statement::has(std::string_view word) const {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Statement parse_statement(const std::string& text) {
  Statement s;
  std::string rest = text;
  if (rest[0] == '@') {
    const size_t end = rest.find_first_of(" \t");
    s.guard = rest.substr(1, end - 1);
    if (s.guard[0] == '!') {
      s.negated = true;
      s.guard.erase(0, 1);
    }
    rest = strip(rest.substr(end));
  }
  const size_t end = rest.find_first_of(" \t");
  s.mnemonic = rest.substr(0, end);
  size_t at = 0;
  while (at <= s.mnemonic.size()) {
    size_t dot = s.mnemonic.find('.', at);
    if (dot == std::string::npos) dot = s.mnemonic.size();
    s.words.push_back(s.mnemonic.substr(at, dot - at));
    at = dot + 1;
  }
  if (end != std::string::npos) s.operands = split(rest.substr(end), ',');
  return s;
}

// ---- names ----

void Names::declare(const std::string& declaration) {
  // ".reg .b32 %r<12>" declares %r0 ... %r11
  size_t at = declaration.find_first_of(" \t");
  std::string rest = strip(declaration.substr(at));
  at = rest.find_first_of(" \t");
  const Type type = type_named(rest.substr(1, at - 1));
  if (type.kind == 0 || type.bytes > 8) throw UnsupportedPtx(declaration);
  for (const std::string& name : split(rest.substr(at), ',')) {
    const size_t range = name.find('<');
    scopes_.back().declared[name.substr(0, range) + (range == std::string::npos ? "" : "#")] = type;
  }
}

Names::Scope* Names::scope_of(const std::string& name, Type* type) {
  const size_t digits = name.find_last_not_of("0123456789") + 1;
  const std::string numbered = name.substr(0, digits) + "#";
  for (size_t i = scopes_.size(); i-- > 0;) {
    auto it = scopes_[i].declared.find(name);
    if (it == scopes_[i].declared.end()) it = scopes_[i].declared.find(numbered);
    if (it == scopes_[i].declared.end()) continue;
    *type = it->second;
    return &scopes_[i];
  }
  return nullptr;
}

Operand Names::place(int bytes) {
  const size_t at = program_.register_bytes;
  program_.register_bytes += bytes == 8 ? 256 : 128;
  return static_cast<Operand>(at);
}

bool Names::is_register(const std::string& text) const {
  Type type;
  return const_cast<Names*>(this)->scope_of(text, &type) != nullptr;
}

Names::Register Names::reg(const std::string& name) {
  Type type;
  Scope* scope = scope_of(name, &type);
  if (!scope) throw UnsupportedPtx("undeclared register " + name);
  const auto it = scope->placed.find(name);
  if (it != scope->placed.end()) return it->second;
  const Register placed{place(type.bytes), type};
  scope->placed[name] = placed;
  return placed;
}

int Names::width(const std::string& text, int otherwise) {
  if (!is_register(text)) return otherwise;
  const Type type = reg(text).type;
  return type.kind == 'p' ? 0 : type.bytes == 8 ? 8 : 4;
}

Operand Names::constant(uint64_t value, int bytes) {
  auto [it, fresh] = constants_.try_emplace({value, bytes}, kNone);
  if (!fresh) return it->second;
  const size_t at = program_.constants.size();
  it->second = static_cast<Operand>(at) | kConstant;
  program_.constants.resize(at + (bytes == 8 ? 256 : 128));
  for (int lane = 0; lane < kLanes; ++lane) {
    if (bytes == 8) {
      std::memcpy(program_.constants.data() + at + lane * 8, &value, 8);
    } else {
      const uint32_t word = bytes == 0 ? (value ? ~0u : 0u) : static_cast<uint32_t>(value);
      std::memcpy(program_.constants.data() + at + lane * 4, &word, 4);
    }
  }
  return it->second;
}

Operand Names::source(const std::string& text, int bytes) {
  static const std::map<std::string, int> kSpecial = {
      {"%tid.x", kTidX},    {"%tid.y", kTidY},     {"%tid.z", kTidZ},     {"%ntid.x", kNtidX},
      {"%ntid.y", kNtidY},  {"%ntid.z", kNtidZ},   {"%ctaid.x", kCtaX},   {"%ctaid.y", kCtaY},
      {"%ctaid.z", kCtaZ},  {"%nctaid.x", kNctaX}, {"%nctaid.y", kNctaY}, {"%nctaid.z", kNctaZ},
      {"%laneid", kLaneId}, {"%warpid", kWarpId}};
  if (is_register(text)) {
    const int have = width(text, bytes);
    if (have != bytes) throw UnsupportedPtx("an operand " + text + " of another width");
    return reg(text).at;
  }
  if (const auto it = kSpecial.find(text); it != kSpecial.end()) {
    if (bytes != 4) throw UnsupportedPtx("a 64-bit use of " + text);
    Operand& at = program_.special[it->second];
    if (at == kNone) at = place(4);
    return at;
  }
  const char second = text.size() > 2 ? static_cast<char>(std::tolower(text[1])) : 0;
  if (text[0] == '0' && (second == 'f' || second == 'd'))
    return constant(std::stoull(text.substr(2), nullptr, 16), bytes);
  if (text == "true" || text == "false") return constant(text == "true", bytes);
  if (std::isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-') {
    const std::string digits = text.back() == 'U' ? text.substr(0, text.size() - 1) : text;
    const uint64_t value = digits[0] == '-' ? static_cast<uint64_t>(std::stoll(digits, nullptr, 0))
                                            : std::stoull(digits, nullptr, 0);
    return constant(value, bytes);
  }
  const auto it = symbols_.find(text);
  if (it == symbols_.end()) throw UnsupportedPtx("operand " + text);
  return constant(it->second, bytes);
}

Operand Names::destination(const std::string& text, int bytes) {
  if (text == "_") {
    auto [it, fresh] = sinks_.try_emplace(bytes, kNone);
    if (fresh) it->second = place(bytes);
    return it->second;
  }
  if (width(text, -1) != bytes) throw UnsupportedPtx("a result " + text + " of another width");
  return reg(text).at;
}

// ---- modules ----

namespace {

std::mutex constants_mutex;
std::vector<unsigned char>& constant_bytes() {
  static auto* bytes = [] {
    auto* all = new std::vector<unsigned char>;
    all->reserve(1 << 20);  // addresses handed out stay valid
    return all;
  }();
  return *bytes;
}

// Text without comments; quotes are respected.
std::string without_comments(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size() - 1);
      out += '\n';
    } else if (text.compare(i, 2, "/*") == 0) {
      i = std::min(text.find("*/", i), text.size() - 2) + 1;
    } else if (text[i] == '"') {
      const size_t end = std::min(text.find('"', i + 1), text.size() - 1);
      out.append(text, i, end - i + 1);
      i = end;
    } else {
      out += text[i];
    }
  }
  return out;
}

// "name[48]" after the last blank of a declaration: its name and number of elements.
std::pair<std::string, size_t> array_of(const std::string& declaration) {
  const size_t equals = declaration.find('=');
  const std::string head = strip(declaration.substr(0, equals));
  const size_t name = head.find_last_of(" \t") + 1;
  const size_t open = head.find('[', name);
  if (open == std::string::npos) return {head.substr(name), 1};
  const std::string count = head.substr(open + 1, head.find(']', open) - open - 1);
  return {head.substr(name, open - name), count.empty() ? 0 : std::stoul(count)};
}

Type type_in(const std::string& declaration) {
  size_t at = 0;
  while ((at = declaration.find('.', at)) != std::string::npos) {
    const size_t end = std::min(declaration.find_first_of(" \t[", at), declaration.size());
    const Type type = type_named(declaration.substr(at + 1, end - at - 1));
    if (type.kind) return type;
    at = end;
  }
  throw UnsupportedPtx(declaration);
}

std::vector<unsigned char> initial_bytes(const std::string& declaration) {
  const Type type = type_in(declaration);
  std::vector<unsigned char> data(array_of(declaration).second * type.bytes);
  const size_t open = declaration.find('{');
  if (open == std::string::npos) return data;
  size_t at = 0;
  const size_t close = declaration.rfind('}');
  for (const std::string& text : split(declaration.substr(open + 1, close - open - 1), ',')) {
    const bool coded = text.size() > 2 && (text[1] == 'f' || text[1] == 'd' || text[1] == 'F');
    const uint64_t value = coded            ? std::stoull(text.substr(2), nullptr, 16)
                           : text[0] == '-' ? static_cast<uint64_t>(std::stoll(text))
                                            : std::stoull(text, nullptr, 0);
    if (at + type.bytes > data.size()) throw UnsupportedPtx(declaration.substr(0, 80));
    std::memcpy(data.data() + at, &value, type.bytes);
    at += type.bytes;
  }
  return data;
}

class EntryParser {
 public:
  EntryParser(Program& program, const std::map<std::string, uint64_t>& globals)
      : program_(program), names_(program) {
    for (const auto& [name, address] : globals) names_.define_symbol(name, address);
    for (Operand& at : program_.special) at = kNone;
  }

  void header(const std::string& text) {
    const size_t open = text.find('('), close = text.rfind(')');
    for (const std::string& p : split(text.substr(open + 1, close - open - 1), ',')) {
      const Type type = type_in(p);
      const auto [name, count] = array_of(p);
      size_t align = type.bytes;
      if (const size_t at = p.find(".align"); at != std::string::npos)
        align = std::max<size_t>(align, std::stoul(p.substr(at + 6)));
      Parameter parameter{name, count * type.bytes, 0};
      parameter.offset = (program_.parameter_bytes + align - 1) / align * align;
      program_.parameter_bytes = parameter.offset + parameter.bytes;
      names_.define_symbol(name, kParamWindow + parameter.offset);
      program_.parameters.push_back(parameter);
    }
    if (const size_t at = text.find(".maxntid", close); at != std::string::npos) {
      int threads = 1;
      const std::string rest = text.substr(at + 8, text.find('.', at + 8) - at - 8);
      for (const std::string& n : split(rest, ',')) threads *= std::stoi(n);
      program_.max_threads = threads;
    }
  }

  void body(const std::string& text) {
    size_t at = 0;
    while ((at = text.find_first_not_of(" \t\r\n;", at)) != std::string::npos) {
      if (text[at] == '{') {
        names_.enter();
        ++at;
      } else if (text[at] == '}') {
        names_.leave();
        ++at;
      } else if (text.compare(at, 5, ".loc\t") == 0 || text.compare(at, 5, ".loc ") == 0) {
        const size_t end = std::min(text.find('\n', at), text.size());
        location(text.substr(at + 4, end - at - 4));
        at = end;
      } else if (const size_t colon = text.find_first_of(" \t\n;:", at);
                 colon != std::string::npos && text[colon] == ':' &&
                 text.compare(colon, 2, "::") != 0) {
        labels_[text.substr(at, colon - at)] = static_cast<int>(program_.code.size());
        at = colon + 1;
      } else {
        const size_t end = statement_end(text, at);
        std::string line = strip(text.substr(at, end - at));
        std::replace(line.begin(), line.end(), '\n', ' ');
        statement(line);
        at = end + 1;
      }
    }
    finish();
  }

 private:
  // A statement ends with its semicolon; the last one of an asm block may lack it.
  static size_t statement_end(const std::string& text, size_t at) {
    const size_t end = text.find(';', at);
    if (end == std::string::npos) throw UnsupportedPtx(text.substr(at, 80));
    return end;
  }

  void location(const std::string& text) {
    char* rest = nullptr;
    file_ = static_cast<int>(std::strtol(text.c_str(), &rest, 10));
    line_ = static_cast<int>(std::strtol(rest, nullptr, 10));
  }

  void statement(const std::string& line) {
    if (line.rfind(".reg", 0) == 0) return names_.declare(line);
    if (line.rfind(".pragma", 0) == 0) return;
    if (line.rfind(".local", 0) == 0) {
      const auto [name, count] = array_of(line);
      const size_t offset = (program_.local_bytes + 15) / 16 * 16;
      program_.local_bytes = offset + count * type_in(line).bytes;
      return names_.define_symbol(name, offset);
    }
    if (line[0] == '.') throw UnsupportedPtx(line);
    const Statement s = parse_statement(line);
    Instruction in = decode(s, names_);
    in.text = line;
    in.file = file_;
    in.line = line_;
    in.family = family(s.words[0]);
    if (in.step == Step::kBranch) branches_.emplace_back(program_.code.size(), s.operands.at(0));
    if (in.space == Space::kShared && in.bytes && in.bytes < program_.shared_granule)
      program_.shared_granule = in.bytes;
    program_.code.push_back(std::move(in));
  }

  int family(const std::string& name) {
    auto& all = program_.families;
    const auto it = std::find(all.begin(), all.end(), name);
    if (it != all.end()) return static_cast<int>(it - all.begin());
    all.push_back(name);
    return static_cast<int>(all.size()) - 1;
  }

  void finish() {
    for (const auto& [at, label] : branches_) {
      const auto it = labels_.find(label);
      if (it == labels_.end()) throw UnsupportedPtx("a branch to " + label);
      program_.code[at].target = it->second;
    }
    // Whatever falls off the end leaves.
    Instruction in = decode(parse_statement("ret"), names_);
    in.text = "ret";
    in.family = family("ret");
    program_.code.push_back(std::move(in));
  }

  Program& program_;
  Names names_;
  std::map<std::string, int> labels_;
  std::vector<std::pair<size_t, std::string>> branches_;
  int file_ = 0, line_ = 0;
};

size_t closing_brace(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    depth += (text[i] == '{') - (text[i] == '}');
    if (depth == 0) return i;
  }
  throw UnsupportedPtx("an unclosed brace");
}

}  // namespace

uint64_t place_constant(const std::vector<unsigned char>& data) {
  std::lock_guard lock(constants_mutex);
  auto& all = constant_bytes();
  const size_t at = (all.size() + 255) / 256 * 256;
  if (at + data.size() > all.capacity()) throw UnsupportedPtx("more than 1 MiB of constants");
  all.resize(at);
  all.insert(all.end(), data.begin(), data.end());
  return kConstantWindow + at;
}

const unsigned char* constant_host(uint64_t at, size_t bytes) {
  auto& all = constant_bytes();
  const uint64_t offset = at - kConstantWindow;
  return offset + bytes <= all.size() ? all.data() + offset : nullptr;
}

PtxModule::PtxModule(const std::string& source) {
  const std::string text = without_comments(source);
  auto files = std::make_shared<std::map<int, std::string>>();
  std::map<std::string, uint64_t> globals;
  std::vector<std::pair<std::string, std::string>> entries;
  size_t at = 0;
  while ((at = text.find_first_not_of(" \t\r\n;", at)) != std::string::npos) {
    const size_t line_end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, line_end - at);
    const auto starts = [&](const char* word) { return line.rfind(word, 0) == 0; };
    if (starts(".version") || starts(".target") || starts(".address_size")) {
      at = line_end;
    } else if (starts(".file")) {
      const size_t open = line.find('"'), close = line.rfind('"');
      (*files)[std::stoi(line.substr(5))] = line.substr(open + 1, close - open - 1);
      at = line_end;
    } else if (starts(".section")) {
      at = closing_brace(text, text.find('{', at)) + 1;
    } else if (line.find(".entry") != std::string::npos) {
      const size_t open = text.find('{', at), close = closing_brace(text, open);
      entries.emplace_back(text.substr(at, open - at), text.substr(open + 1, close - open - 1));
      at = close + 1;
    } else if (line.find(".global") != std::string::npos ||
               line.find(".const") != std::string::npos ||
               line.find(".shared") != std::string::npos) {
      const size_t end = text.find(';', at);
      const std::string declaration = text.substr(at, end - at);
      const auto [name, count] = array_of(declaration);
      if (line.find(".shared") == std::string::npos) {
        globals[name] = place_constant(initial_bytes(declaration));
      } else if (count == 0) {
        globals[name] = 0;  // the launch's dynamic shared memory
      } else {
        throw UnsupportedPtx("static shared memory " + name);
      }
      at = end;
    } else {
      throw UnsupportedPtx(line);
    }
  }
  for (const auto& [header, body] : entries) {
    const size_t begin = header.find(".entry") + 6;
    const std::string name = strip(header.substr(begin, header.find('(') - begin));
    Program& program = programs_[name];
    program.name = name;
    program.files = files;
    EntryParser parser(program, globals);
    parser.header(header);
    parser.body(body);
  }
}

const Program* PtxModule::find(const std::string& entry) const {
  const auto it = programs_.find(entry);
  return it == programs_.end() ? nullptr : &it->second;
}

std::string Program::describe(const Instruction& in) const {
  const auto it = files->find(in.file);
  std::string file = it == files->end() ? name : it->second;
  file = file.substr(file.find_last_of('/') + 1);
  const size_t from = in.text[0] == '@' ? in.text.find_first_of(" \t") + 1 : 0;
  const std::string mnemonic = in.text.substr(from, in.text.find_first_of(" \t", from) - from);
  return file + ":" + std::to_string(in.line) + " (" + mnemonic + ")";
}

}  // namespace qvl::sim
