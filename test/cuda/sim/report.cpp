#include "report.h"

#include <cstdio>
#include <map>
#include <sstream>

namespace qvl::sim {
namespace {

std::string list(const std::array<uint32_t, 3>& v) {
  std::ostringstream out;
  out << "[" << v[0] << "," << v[1] << "," << v[2] << "]";
  return out.str();
}

std::string fields(const SiteCounters& c, const char* unit) {
  std::ostringstream out;
  out << "\"requests\":" << c.requests << ",\"bytes\":" << c.bytes << ",\"" << unit
      << "\":" << c.transfers << ",\"ideal\":" << c.ideal;
  return out.str();
}

void add(SiteCounters& to, const SiteCounters& c) {
  to.requests += c.requests;
  to.bytes += c.bytes;
  to.transfers += c.transfers;
  to.ideal += c.ideal;
}

void append(const std::string& file, const std::string& line) {
  if (std::FILE* out = std::fopen(file.c_str(), "a")) {
    std::fwrite(line.data(), 1, line.size(), out);
    std::fclose(out);
  }
}

}  // namespace

void write_report(const std::string& file, const Launch& launch,
                  const std::vector<SiteCounters>& counters, uint64_t touched_sectors) {
  const Program& program = *launch.program;
  std::map<std::string, uint64_t> families;
  SiteCounters global, shared;
  std::ostringstream sites;
  uint64_t instructions = 0;
  for (size_t i = 0; i < counters.size(); ++i) {
    const SiteCounters& c = counters[i];
    const Instruction& in = program.code[i];
    instructions += c.lanes;
    families[program.families[static_cast<size_t>(in.family)]] += c.lanes;
    if (c.requests == 0) continue;
    // A copy from global to shared memory counts where it reads.
    const bool is_shared = in.space == Space::kShared && in.address2 == kNone;
    add(is_shared ? shared : global, c);
    if (sites.tellp() > 0) sites << ",";
    sites << "{\"at\":\"" << program.describe(in) << "\",\"space\":\""
          << (is_shared ? "shared" : "global") << "\","
          << fields(c, is_shared ? "cycles" : "sectors") << "}";
  }
  std::ostringstream line;
  line << "{\"kernel\":\"" << program.name << "\",\"grid\":" << list(launch.grid)
       << ",\"block\":" << list(launch.block) << ",\"shared_bytes\":" << launch.shared_bytes
       << ",\"instructions\":" << instructions << ",\"families\":{";
  bool first = true;
  for (const auto& [name, n] : families) {
    if (n == 0) continue;
    line << (first ? "" : ",") << "\"" << name << "\":" << n;
    first = false;
  }
  line << "},\"global\":{" << fields(global, "sectors")
       << ",\"touched_bytes\":" << touched_sectors * 32 << "},\"shared\":{"
       << fields(shared, "cycles") << "},\"sites\":[" << sites.str() << "]}\n";
  append(file, line.str());
}

void write_copy(const std::string& file, const char* direction, uint64_t bytes) {
  if (file.empty()) return;
  std::ostringstream line;
  line << "{\"copy\":\"" << direction << "\",\"bytes\":" << bytes << "}\n";
  append(file, line.str());
}

}  // namespace qvl::sim
