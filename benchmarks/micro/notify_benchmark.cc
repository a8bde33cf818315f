// notify-benchmark: what it costs a program that some of its system calls are reported to us and
// answered at once (as io.errno and its kin do while they wait for their moment), and what its
// other calls cost under that filter.
//
// The same program runs with and without the filter, and makes calls when it is told to; both take
// turns, in random order within each round.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "benchmarks/micro/paired.h"
#include "faults/injection.h"
#include "harness/experiment/launch.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy::benchmark {
namespace {

constexpr int kReported = 500;  // Calls of one sample, which is their mean.
constexpr int kUnreported = 20'000;
constexpr int kWarmUp = 2;
constexpr int kSocketNumber = 3;

// ---- The program that makes the calls ----

double time_writes(int file) {
  const std::int64_t before = now_ns();
  for (int i = 0; i < kReported; ++i) (void)!::pwrite(file, "x", 1, 0);
  return static_cast<double>(now_ns() - before) / kReported;
}

double time_reads(int file) {
  char byte = 0;
  const std::int64_t before = now_ns();
  for (int i = 0; i < kUnreported; ++i) (void)!::pread(file, &byte, 1, 0);
  return static_cast<double>(now_ns() - before) / kUnreported;
}

int work() {
  const int file = ::open("/dev/zero", O_RDWR | O_CLOEXEC);
  char order = 0;
  while (::recv(kSocketNumber, &order, 1, 0) == 1) {
    const double time = order == 'w' ? time_writes(file) : time_reads(file);
    if (::send(kSocketNumber, &time, sizeof time, 0) != sizeof time) return 1;
  }
  return 0;
}

// ---- Our side ----

class Program {
 public:
  // With the filter of `fault` (JSON), if there is one.
  static Result<Program> start(const std::string& fault) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      return system_error("create a socket pair", errno);
    Program program;
    program.socket_.reset(ends[0]);
    const UniqueFd theirs(ends[1]);
    LaunchPlan plan;
    plan.argv = {(program_directory() / "notify-benchmark").string(), "--work"};
    if (!fault.empty()) {
      auto spec = parse_fault(nlohmann::json::parse(fault), "");
      if (!spec) return spec.error();
      std::string skipped;
      program.injection_ =
          Injection::plan({*spec, spec->trigger, 1, false, [&](const nlohmann::json& step, bool) {
                             if (step.value("step", "") == "skip") skipped = step["reason"];
                           }});
      if (auto armed = program.injection_->arm(plan); !armed) return armed.error();
      if (!skipped.empty()) return Error{ErrorKind::kMissing, 0, skipped, ""};
    }
    LaunchSpec launch = launch_spec(plan);
    launch.descriptors.emplace_back(theirs.get(), kSocketNumber);
    launch.passthrough_output = true;
    auto subject = Subject::launch(launch);
    if (!subject) return subject.error();
    program.subject_.emplace(std::move(*subject));
    return program;
  }

  Result<double> time(char order) {
    double ns = 0;
    if (::send(socket_.get(), &order, 1, MSG_NOSIGNAL) != 1 ||
        ::recv(socket_.get(), &ns, sizeof ns, 0) != sizeof ns) {
      return system_error("have the program make its calls", errno);
    }
    return ns;
  }

 private:
  UniqueFd socket_;
  std::unique_ptr<Injection> injection_;  // Serves the calls until the subject has ended.
  std::optional<Subject> subject_;
};

Result<nlohmann::json> run(int rounds, std::uint64_t seed, bool print) {
  auto bare = Program::start("");
  auto filtered = Program::start(
      R"({"fault": "io.errno", "set": {"call": "pwrite64"}, "when": {"call": 9000000000}})");
  auto by_path =
      Program::start(R"({"fault": "io.errno", "set": {"call": "pwrite64", "path": "/nowhere/*"}})");
  for (const auto* program : {&bare, &filtered, &by_path})
    if (!*program) return program->error();
  const std::vector<Side> reported = {
      {"bare", [&] { return bare->time('w'); }},
      {"reported, answered", [&] { return filtered->time('w'); }},
      {"with a path to compare", [&] { return by_path->time('w'); }}};
  const std::vector<Side> others = {{"bare", [&] { return bare->time('r'); }},
                                    {"under the filter", [&] { return filtered->time('r'); }}};
  nlohmann::json results = nlohmann::json::array();
  for (const bool trapped : {true, false}) {
    auto all = measure_in_turns(trapped ? reported : others, rounds, kWarmUp, seed);
    if (!all) return all.error();
    auto lines = report(trapped ? "a pwrite of 1 byte to /dev/zero, which the filter reports"
                                : "a pread of 1 byte from /dev/zero, which it does not",
                        *all, 0, print);
    if (!lines) return lines.error();
    results.push_back(*std::move(lines));
  }
  return nlohmann::json{{"seed", seed}, {"results", std::move(results)}};
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--work") == 0) return crashworthy::benchmark::work();
  CLI::App app("The cost of reported system calls, and of others under the same filter, in turns.");
  int rounds = 60;
  std::uint64_t seed = 1;
  bool json = false;
  app.add_option("--pairs", rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--seed", seed, "Of the order within the rounds");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage, 77 not on this machine.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  auto result = crashworthy::benchmark::run(rounds, seed, !json);
  if (!result) {
    std::fprintf(stderr, "notify-benchmark: error: %s\n", result.error().message.c_str());
    return result.error().kind == crashworthy::ErrorKind::kMissing ? 77 : 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}
