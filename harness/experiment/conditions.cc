#include "harness/experiment/conditions.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/os/file.h"
#include "harness/os/random.h"

namespace crashworthy {
namespace {

using nlohmann::json;

// The value of the first "key : value" line of a /proc file.
std::string proc_field(const char* file, const std::string& key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    if (colon != std::string::npos && value != std::string::npos) return line.substr(value);
  }
  return "unknown";
}

// "some avg10=1.23 ..." of a pressure file, in percent; null where the kernel has none.
json pressure(const char* file) {
  auto text = read_file(file);
  if (!text) return nullptr;
  const std::size_t at = text->find("avg10=");
  if (at == std::string::npos) return nullptr;
  return std::strtod(text->c_str() + at + 6, nullptr);
}

json stolen_ticks() {
  std::ifstream stream("/proc/stat");
  std::string cpu;
  long long value = 0;
  stream >> cpu;
  for (int i = 0; i < 8 && stream >> value; ++i) {
  }
  return value;
}

constexpr double kBusyLoadPerCpu = 0.75;

}  // namespace

json read_fingerprint() {
  utsname system{};
  ::uname(&system);
  struct sysinfo memory {};
  ::sysinfo(&memory);
  const auto bytes = static_cast<std::uint64_t>(memory.totalram) * memory.mem_unit;
  auto cpu_limit = read_file("/sys/fs/cgroup/cpu.max");
  return {{"cpu", proc_field("/proc/cpuinfo", "model name")},
          {"cpus", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"cpu_limit", cpu_limit ? json(*cpu_limit) : json(nullptr)},
          {"memory_gib", (bytes + (1u << 29)) >> 30},
          {"kernel", system.release},
          {"architecture", system.machine},
          {"libc", ::gnu_get_libc_version()},
          {"compiler", CRASHWORTHY_COMPILER},
          {"build", CRASHWORTHY_BUILD},
          {"opencv", CRASHWORTHY_OPENCV_VERSION}};
}

std::string fingerprint_hash(const json& fingerprint) {
  return fmt::format("{:016x}", derive_seed(0, fingerprint.dump()));
}

json read_conditions() {
  double load[1] = {0};
  const bool known = ::getloadavg(load, 1) == 1;
  return {{"load1", known ? json(load[0]) : json(nullptr)},
          {"psi_cpu", pressure("/proc/pressure/cpu")},
          {"psi_io", pressure("/proc/pressure/io")},
          {"psi_memory", pressure("/proc/pressure/memory")},
          {"stolen_ticks", stolen_ticks()}};
}

std::vector<std::string> noise_warnings(const json& conditions) {
  std::vector<std::string> warnings;
  const auto cpus = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  if (conditions["load1"].is_number() &&
      conditions["load1"].get<double>() > kBusyLoadPerCpu * cpus) {
    warnings.push_back(
        fmt::format("the machine was busy at the start (load {:.1f} on {} CPUs): times are noisy; "
                    "try again when it is quiet, "
                    "or with more --blocks",
                    conditions["load1"].get<double>(), cpus));
  }
  return warnings;
}

}  // namespace crashworthy
