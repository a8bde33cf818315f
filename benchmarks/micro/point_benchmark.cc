// point-benchmark: what the means of a fault cost while there is no fault: a fault point that
// nobody has armed beside the same loop without one, and malloc() with the library that can let it
// fail beside malloc() alone.
//
// A sample is a process of its own, so that each side may have its environment. Sides take turns,
// in random order within each round.
#define CRASHWORTHY_FAULT_POINTS
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "faults/point/point.h"
#include "faults/preload/alloc_table.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/shared_memory.h"

namespace crashworthy::benchmark {
namespace {

constexpr int kRuns = 21;  // Of one sample, which is the fastest of them.
constexpr int kPasses = 200'000;
constexpr int kWarmUp = 2;

// ---- What is measured, in a process of its own ----

// The work of one pass: some arithmetic that the compiler cannot leave out.
inline std::uint64_t mix(std::uint64_t value) {
  value = value * 6364136223846793005u + 1442695040888963407u;
  asm volatile("" : "+r"(value));
  return value;
}

// The two are the same but for the point.
[[gnu::noinline]] std::uint64_t without_point(std::uint64_t value) {
  for (int i = 0; i < kPasses; ++i) value = mix(value);
  return value;
}
[[gnu::noinline]] std::uint64_t with_point(std::uint64_t value) {
  for (int i = 0; i < kPasses; ++i) {
    value = mix(value);
    CRASHWORTHY_FAULT_POINT("benchmark.point");
  }
  return value;
}
[[gnu::noinline]] std::uint64_t allocate(std::uint64_t value) {
  for (int i = 0; i < kPasses; ++i) {
    void* block = std::malloc(100);
    asm volatile("" : "+r"(block) : : "memory");
    std::free(block);
  }
  return value;
}

// Nanoseconds of one pass.
double time_of(std::uint64_t (*loop)(std::uint64_t)) {
  std::int64_t best = INT64_MAX;
  std::uint64_t value = 1;
  for (int run = 0; run < kRuns; ++run) {
    const std::int64_t before = now_ns();
    value = loop(value);
    best = std::min(best, now_ns() - before);
  }
  if (value == 0) std::fputs("", stderr);
  return static_cast<double>(best) / kPasses;
}

int sample(const std::string& what) {
  const auto loop = what == "without" ? without_point : what == "with" ? with_point : allocate;
  fmt::print("{:.6f}\n", time_of(loop));
  return 0;
}

// ---- The processes ----

struct Setting {
  std::string what;                         // Which loop.
  std::vector<std::string> environment;     // More than ours.
  std::vector<std::pair<int, int>> shared;  // (Our descriptor, its number.)
};

[[noreturn]] void execute(const Setting& setting, int output) {
  for (const std::string& variable : setting.environment)
    ::putenv(const_cast<char*>(variable.c_str()));
  for (const auto& [ours, number] : setting.shared) ::dup2(ours, number);
  ::dup2(output, STDOUT_FILENO);
  ::execl("/proc/self/exe", "point-benchmark", "--sample", setting.what.c_str(), nullptr);
  ::_exit(127);
}

Result<double> run_sample(const Setting& setting) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("make a pipe", errno);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) execute(setting, to.get());
  to.reset();
  char text[64] = {};
  const ssize_t got = pid < 0 ? -1 : ::read(from.get(), text, sizeof text - 1);
  int status = 0;
  if (pid > 0) ::waitpid(pid, &status, 0);
  if (got <= 0 || status != 0)
    return Error{ErrorKind::kSystem, 0, "the process of a sample failed", {}};
  return std::strtod(text, nullptr);
}

constexpr int kNumber = 102;  // Of the table, in a sample's process.

Result<nlohmann::json> points(int rounds, std::uint64_t seed, bool print) {
  auto memory = SharedMemory::create("points", sizeof(point::Table));
  if (!memory) return memory.error();
  auto& table = *reinterpret_cast<point::Table*>(memory->data());
  table.magic = point::Table::kMagic;
  std::strncpy(table.entries[0].name, "other.point", point::kNameSize - 1);
  table.count = 1;
  const std::string variable = "CRASHWORTHY_POINTS=" + std::to_string(kNumber);
  const std::vector<std::pair<int, int>> shared{{memory->fd(), kNumber}};
  const auto side = [](const Setting& setting) {
    return [&setting] { return run_sample(setting); };
  };
  const Setting none{"without", {}, {}}, unarmed{"with", {}, {}}, other{"with", {variable}, shared};
  auto all = measure_in_turns({{"no point", side(none)},
                               {"no point, once more", side(none)},
                               {"a point, unarmed", side(unarmed)},
                               {"a point, another one is armed", side(other)}},
                              rounds, kWarmUp, seed);
  if (!all) return all.error();
  return report("one pass of a loop", *all, 0, print);
}

Result<nlohmann::json> allocations(int rounds, std::uint64_t seed, bool print) {
  auto library = find_helper("libcrashworthy-alloc.so");
  if (!library) return library.error();
  auto shut = SharedMemory::create("alloc", sizeof(alloc::Table));
  auto open = SharedMemory::create("alloc", sizeof(alloc::Table));
  if (!shut) return shut.error();
  if (!open) return open.error();
  for (const SharedMemory* memory : {&*shut, &*open})
    reinterpret_cast<alloc::Table*>(memory->data())->magic = alloc::Table::kMagic;
  reinterpret_cast<alloc::Table*>(open->data())->schedule.open = 1;
  const std::string preload = "LD_PRELOAD=" + library->string();
  const std::string variable = std::string(alloc::kVariable) + "=" + std::to_string(kNumber);
  const Setting bare{"malloc", {}, {}};
  const Setting idle{"malloc", {preload, variable}, {{shut->fd(), kNumber}}};
  const Setting counting{"malloc", {preload, variable}, {{open->fd(), kNumber}}};
  auto all = measure_in_turns({{"bare", [&] { return run_sample(bare); }},
                               {"bare, once more", [&] { return run_sample(bare); }},
                               {"preloaded, idle", [&] { return run_sample(idle); }},
                               {"preloaded, counting", [&] { return run_sample(counting); }}},
                              rounds, kWarmUp, seed);
  if (!all) return all.error();
  return report("malloc and free", *all, 0, print);
}

Result<nlohmann::json> run(int rounds, std::uint64_t seed, bool print) {
  auto first = points(rounds, seed, print);
  if (!first) return first.error();
  auto second = allocations(rounds, seed, print);
  if (!second) return second.error();
  return nlohmann::json{{"seed", seed}, {"results", {*std::move(first), *std::move(second)}}};
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  CLI::App app(
      "The cost of fault points and of the allocation library while there is no fault, beside "
      "nothing at all, in turns.");
  int rounds = 60;
  std::uint64_t seed = 1;
  bool json = false;
  std::string sample;
  app.add_option("--pairs", rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--seed", seed, "Of the order within the rounds");
  app.add_flag("--json", json, "Print JSON");
  app.add_option("--sample", sample, "Print one sample: with, without or malloc")->group("");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  if (!sample.empty()) return crashworthy::benchmark::sample(sample);
  auto result = crashworthy::benchmark::run(rounds, seed, !json);
  if (!result) {
    std::fprintf(stderr, "point-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}
