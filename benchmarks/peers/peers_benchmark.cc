// peers-benchmark: from SIGKILL of a worker in the middle of an item to that item done again, in
// the worker pool and in what somebody would use in its place: Python's pools and processes, an
// Erlang port program under a supervisor, a program executed anew. All with OpenCV's image codecs
// loaded in the workers.
//
// They take turns, in random order within each round. What is not installed is skipped. README.md
// says what each peer does.
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "benchmarks/micro/recovery_sides.h"
#include "benchmarks/peers/driver_side.h"
#include "harness/os/file.h"
#include "harness/os/shared_memory.h"

namespace crashworthy::benchmark {
namespace {

constexpr int kWarmUp = 2;

struct Peers {
  std::string python = "/usr/bin/python3";
  std::string escript = "/usr/bin/escript";
};

Result<std::vector<DriverSpec>> specs_of(const Peers& peers) {
  const std::string directory = CRASHWORTHY_PEERS_DIRECTORY;
  auto port = find_helper("recovery-port");
  if (!port) return port.error();
  const auto python = [&](const char* name, const char* script, std::vector<std::string> rest) {
    // -B: nothing is written beside the scripts.
    std::vector<std::string> argv = {peers.python, "-B", directory + "/" + script};
    argv.insert(argv.end(), rest.begin(), rest.end());
    return DriverSpec{name, "python3", std::move(argv)};
  };
  const auto erlang = [&](const char* name, const char* workers) {
    return DriverSpec{name,
                      "erlang-base",
                      {peers.escript, directory + "/port_driver.erl", port->string(), workers}};
  };
  return std::vector<DriverSpec>{
      python("futures, fork", "futures_driver.py", {"fork"}),
      python("futures, fork, loads anew", "futures_driver.py", {"fork-late"}),
      python("futures, forkserver", "futures_driver.py", {"forkserver"}),
      python("futures, spawn", "futures_driver.py", {"spawn"}),
      python("shared_memory, fork", "shared_memory_driver.py", {"fork"}),
      python("shared_memory, spawn", "shared_memory_driver.py", {"spawn"}),
      python("shared_memory, fork, spare", "shared_memory_driver.py", {"fork", "spare"}),
      erlang("Erlang port", "1"),
      erlang("Erlang port, spare", "2"),
  };
}

struct Skipped {
  std::string name;
  std::string package;
};

Result<nlohmann::json> run(const RecoverySettings& settings, const Peers& peers, bool print) {
  set_up_process();
  ::signal(SIGPIPE, SIG_IGN);  // A driver that ended is an error of its own.
  const std::vector<std::byte> tile = make_tile();
  PoolSide take_over(settings, settings.spares, true, tile);
  ExecSide exec(settings, tile);
  auto frame = SharedMemory::create("peers-frame", kTileBytes);
  if (!frame) return frame.error();
  std::memcpy(frame->data(), tile.data(), kTileBytes);
  std::vector<Side> sides = {{"take-over", [&] { return take_over.measure(); }},
                             {"fork+exec", [&] { return exec.measure(); }}};
  std::vector<std::unique_ptr<DriverSide>> drivers;
  std::vector<Skipped> skipped;
  auto specs = specs_of(peers);
  if (!specs) return specs.error();
  for (const DriverSpec& spec : *specs) {
    auto driver = DriverSide::start(spec, frame->fd());
    if (!driver && driver.error().kind == ErrorKind::kMissing) {
      skipped.push_back({spec.name, driver.error().message});
      continue;
    }
    if (!driver) return driver.error().with_context(spec.name);
    drivers.push_back(std::make_unique<DriverSide>(*std::move(driver)));
    sides.push_back({spec.name, [&settings, side = drivers.back().get()] {
                       return side->measure(settings.work == Work::kTile, settings.known);
                     }});
  }
  auto all = measure_in_turns(sides, settings.rounds, kWarmUp, settings.seed);
  if (!all) return all.error();
  const std::string title =
      fmt::format("SIGKILL -> {} {}, OpenCV in the workers; seed {}",
                  settings.work == Work::kTile ? "tile of 256 x 256" : "trivial item",
                  settings.known ? "known to be redone" : "redone", settings.seed);
  auto result = report(title, *all, 0, print);
  if (!result) return result;
  (*result)["skipped"] = nlohmann::json::array();
  for (const Skipped& peer : skipped) {
    if (print) fmt::print("  {:<28} skipped: {} is not installed\n", peer.name, peer.package);
    (*result)["skipped"].push_back({{"name", peer.name}, {"package", peer.package}});
  }
  return result;
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  namespace bench = crashworthy::benchmark;
  CLI::App app(
      "SIGKILL of a worker in mid-item -> the item done again: the pool's take-over beside "
      "Python's pools, an Erlang port program and fork+exec, in turns.");
  bench::RecoverySettings settings;
  settings.rounds = 50;
  bench::Peers peers;
  bool json = false;
  const std::map<std::string, bench::Work> works = {{"trivial", bench::Work::kTrivial},
                                                    {"tile", bench::Work::kTile}};
  app.add_option("--pairs", settings.rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--item", settings.work, "trivial or tile")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(works).description(""));
  app.add_flag("--known", settings.known, "Stop the clock when the coordinator has the result");
  app.add_option("--seed", settings.seed, "Of the order within the rounds and of the victims");
  app.add_option("--python", peers.python, "The interpreter of the Python peers")
      ->type_name("FILE");
  app.add_option("--escript", peers.escript, "Of the Erlang peers")->type_name("FILE");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  auto result = bench::run(settings, peers, !json);
  if (!result) {
    std::fprintf(stderr, "peers-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}
