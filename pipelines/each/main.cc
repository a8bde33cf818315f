// crashworthy-each: a command for each item of a list, or workers that speak lines; at most so many
// at once, tried once or given out again.
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/unique_fd.h"
#include "harness/process/program_path.h"
#include "pipelines/each/command_line.h"
#include "pipelines/each/dispatcher.h"
#include "pipelines/each/items.h"

namespace {

using namespace crashworthy;
using namespace crashworthy::each;

constexpr int kAllDelivered = 0;
constexpr int kSomeMissing = 1;
constexpr int kWrongUsage = 64;
constexpr int kGaveUp = 70;

constexpr const char* kFooter =
    "In the words of COMMAND, {} is the item's path and {out} that of its output. With --lines,\n"
    "COMMAND is a worker, and speaks as docs/worker-protocol.md says.\n"
    "Exit codes: 0 all delivered; 1 some items failed or were lost; 64 wrong usage; 70 gave up.\n"
    "Example:\n"
    "  crashworthy-each --list items.list --workers 4 -- convert {} -resize 50% {out}";

int fail(int code, const Error& error) { return each::fail("crashworthy-each", code, error); }

struct Words {
  std::string list;
  std::string supervision = "none";
  std::string deadline = "30s", heartbeat = "0s", period = "10s";
};

void add_options(CLI::App& app, Words& words, Settings& settings) {
  app.add_option("--list", words.list, "A line for each item: INPUT<TAB>OUTPUT")->required();
  app.add_option("--workers", settings.workers, "How many at once")->check(CLI::Range(1, 256));
  app.add_flag("--lines", settings.lines, "COMMAND is a long-lived worker");
  app.add_option("--supervision", words.supervision,
                 "none: each item is tried once; one_for_one: it is given out again")
      ->check(CLI::IsMember({"none", "one_for_one"}));
  app.add_option("--deadline", words.deadline, "Of one execution; 0s: none (one_for_one)");
  app.add_option("--heartbeat", words.heartbeat,
                 "A worker that is silent so long at an item has hung; 0s: none (one_for_one)");
  app.add_option("--intensity", settings.intensity,
                 "Deaths from outside allowed within --period (one_for_one)")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--period", words.period, "See --intensity");
}

Result<void> complete(const Words& words, Settings& settings) {
  settings.supervised = words.supervision == "one_for_one";
  if (auto read = read_durations({{"--deadline", &words.deadline, &settings.deadline},
                                  {"--heartbeat", &words.heartbeat, &settings.heartbeat},
                                  {"--period", &words.period, &settings.period}});
      !read)
    return read;
  if (settings.period.count() == 0) return usage_error("--period: 0 is no period");
  if (settings.command.empty()) return usage_error("no command", "write it after --");
  if (settings.heartbeat.count() > 0 && !settings.lines)
    return usage_error("--heartbeat is for workers that speak lines", "take --deadline");
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable)
    environment.emplace_back(*variable);
  const auto candidates = program_candidates(settings.command[0], environment);
  if (const int number = look_for_executable(candidates, {}); number != 0)
    return explain_unexecutable(settings.command[0], candidates, {}, number);
  return {};
}

// Of the signals that ask us to end.
UniqueFd watch_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t stops;
  ::sigemptyset(&stops);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&stops, signal);
  ::sigprocmask(SIG_BLOCK, &stops, nullptr);
  return UniqueFd(::signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK));
}

int run(const Settings& settings, const std::vector<Item>& items) {
  const std::int64_t start = now_ns();
  const Probe probe = Probe::from_environment();
  Probe::hide_from_programs();
  const UniqueFd stops = watch_signals();
  Summary summary;
  Result<void> ran;
  {
    Dispatcher dispatcher(settings, items, probe);
    ran = dispatcher.run(stops.get());
    summary = dispatcher.summary();
  }
  signalfd_siginfo stop{};
  if (::read(stops.get(), &stop, sizeof stop) == sizeof stop) {
    // Nothing is left: now the death that was asked for.
    const int signal = static_cast<int>(stop.ssi_signo);
    ::signal(signal, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::raise(signal);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }
  std::fprintf(stderr, "crashworthy-each: %zu delivered, %zu failed, %zu lost in %s\n",
               summary.delivered, summary.failed, summary.lost,
               format_duration(static_cast<double>(now_ns() - start)).c_str());
  if (!ran) return fail(kGaveUp, ran.error().with_context("gave up"));
  return summary.delivered == items.size() ? kAllDelivered : kSomeMissing;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs a command for each item of a list, or gives the items to workers.",
               "crashworthy-each");
  app.footer(kFooter);
  Words words;
  Settings settings;
  add_options(app, words, settings);
  settings.command = take_command(argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUsage, usage_error(error.what(), "see crashworthy-each --help"));
  }
  if (auto good = complete(words, settings); !good) return fail(kWrongUsage, good.error());
  auto items = read_list(words.list);
  if (!items) return fail(kWrongUsage, items.error());
  return run(settings, *items);
}
